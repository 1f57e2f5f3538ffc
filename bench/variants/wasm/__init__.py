"""What a sandbox costs: the kernels as WebAssembly modules, compiled and run by wasmtime.

The scalar module is the source of the engine `scalar`. That of SIMD has vectors of four floats, and
multiplies and adds by relaxed SIMD, as the page does where the browser has it (docs/web.md).
"""

from functools import partial
from pathlib import Path

from bench.task.task import Task
from bench.task.workload import WORKLOADS
from bench.variants.sessions import packages_available
from bench.variants.variant import Session, Variant

MODULES = Path(__file__).parents[3] / "build" / "web"


def open_session(module: str, task: Task) -> Session:
    from bench.variants.wasm.model import WasmSession

    return WasmSession(MODULES / f"{module}.wasm", task)


def available(module: str) -> str | None:
    if reason := packages_available("wasmtime", pip="wasmtime, or make web")():
        return reason
    file = MODULES / f"{module}.wasm"
    return None if file.is_file() else f"no build/web/{file.name}; make web builds it"


def row(name: str, label: str, module: str, workloads: tuple[str, ...]) -> Variant:
    return Variant(
        name, f"WebAssembly {label} (wasmtime)", "WebAssembly", partial(open_session, module),
        partial(available, module), workloads,
    )  # fmt: skip


VARIANTS = [
    row("wasm-scalar", "scalar", "scalar", ("d16", "d32", "d64", "d128")),
    row("wasm-simd", "SIMD", "relaxed", tuple(WORKLOADS)),
]
