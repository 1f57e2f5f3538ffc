"""What a sandbox costs: the kernels as WebAssembly modules, compiled and run by wasmtime.

The scalar module is the source of the engine `scalar`. That of SIMD has vectors of four floats, and
multiplies and adds by relaxed SIMD, as the page does where the browser has it (docs/web.md).
"""

from functools import partial
from pathlib import Path

from bench.task.workload import WORKLOADS
from bench.variants.sessions import packages_available, session_of
from bench.variants.variant import Variant

MODULES = Path(__file__).parents[3] / "build" / "web"


def available(module: str) -> str | None:
    if reason := packages_available("wasmtime", pip="wasmtime, or make web")():
        return reason
    file = MODULES / f"{module}.wasm"
    return None if file.is_file() else f"no build/web/{file.name}; make web builds it"


def row(
    name: str, label: str, module: str, workloads: tuple[str, ...], about: str, source: str
) -> Variant:
    session = session_of("bench.variants.wasm.model:WasmSession", MODULES / f"{module}.wasm")
    label = f"WebAssembly {label} (wasmtime)"
    return Variant(
        name, label, "WebAssembly", session, partial(available, module), workloads, about=about,
        source=source,
    )  # fmt: skip


VARIANTS = [
    row("wasm-scalar", "scalar", "scalar", ("d16", "d32", "d64", "d128"),
        "The source of C++ scalar in a sandbox.", "cpp/kernels/plain.h"),
    row("wasm-simd", "SIMD", "relaxed", tuple(WORKLOADS),
        "The kernels of the SIMD engines over vectors of four floats, as the page in the browser "
        "has them.", "cpp/isa/wasm.cpp"),
]  # fmt: skip
