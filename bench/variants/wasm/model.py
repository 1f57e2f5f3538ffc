"""A training in a WebAssembly module, run by wasmtime: what web/engine.js is in the browser."""

from __future__ import annotations

import atexit
import functools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.task.task import Task
from bench.variants.sessions import EngineSession

SLOTS = {"parameter": 0, "first_moment": 1, "second_moment": 2, "gradient": 3}
ADAM = {"beta1": 0.85, "beta2": 0.99, "eps": 1e-8}  # written into cpp/wasm/module.cpp


@functools.cache
def loaded(path: Path) -> tuple[Any, Any]:
    """The engine of wasmtime, and the compiled module."""
    import wasmtime

    config = wasmtime.Config()
    config.wasm_relaxed_simd = True
    engine = wasmtime.Engine(config)
    return engine, wasmtime.Module.from_file(engine, str(path))


atexit.register(loaded.cache_clear)  # wasmtime lets go of nothing once the interpreter ends


class WasmTraining:
    """The exports of cpp/wasm/module.cpp, in an instance of their own: a pymicrogpt._core.Trainer.

    `sizes` are n_layer, n_embd, n_head, block_size, vocab_size and batch_size. MemoryError where
    the module has no more memory. Parameters, moments and gradients are flat, in the layout of
    cpp/params.h.
    """

    def __init__(
        self,
        path: Path,
        sizes: Sequence[int],
        num_params: int,
        learning_rate: float,
        num_steps: int,
        tokens: NDArray[np.int32],
        offsets: NDArray[np.int64],
    ) -> None:
        import wasmtime

        engine, module = loaded(path)
        self.store = wasmtime.Store(engine)
        self.exports: Any = wasmtime.Instance(self.store, module, []).exports(self.store)
        self.memory: Any = self.exports["memory"]
        self.sizes, self.num_params = sizes, num_params
        self.call("_initialize")
        self.nbytes = int(self.call("bytes", *sizes))
        documents = self.put(tokens.astype("<i4")), self.put(offsets.astype("<i8"))
        self.scratch = self.allocate(8 * max(num_params, num_steps))
        settings = float(learning_rate), float(num_steps)
        self.training = self.create(*sizes, *settings, *documents, len(offsets) - 1)

    def create(self, *arguments: float) -> int:
        return self.pointer(self.call("create", *arguments))

    def call(self, name: str, *arguments: float) -> Any:
        return self.exports[name](self.store, *arguments)

    def pointer(self, at: int) -> int:
        if not at:
            raise MemoryError("the WebAssembly module has no more memory")
        return at

    def allocate(self, size: int) -> int:
        return self.pointer(self.call("allocate", size))

    def put(self, array: NDArray[Any]) -> int:
        at = self.allocate(array.nbytes)
        self.memory.write(self.store, array.tobytes(), at)
        return at

    def take(self, at: int, count: int, dtype: str) -> NDArray[Any]:
        end = at + count * np.dtype(dtype).itemsize
        return np.frombuffer(bytes(self.memory.read(self.store, at, end)), dtype)

    def set(self, slot: str, natural: NDArray[np.float64]) -> None:
        self.memory.write(self.store, natural.astype("<f8").tobytes(), self.scratch)
        self.call("write", self.training, SLOTS[slot], self.scratch)

    def get(self, slot: str) -> NDArray[np.float64]:
        self.call("read", self.training, SLOTS[slot], self.scratch)
        return self.take(self.scratch, self.num_params, "<f8")

    def seek(self, step: int) -> None:
        self.call("seek", self.training, float(step))

    step = property(fset=seek)

    def run(self, count: int) -> NDArray[np.float64]:
        """Losses (count,) of so many more steps, each before its update."""
        self.call("steps", self.training, count, self.scratch)
        return self.take(self.scratch, count, "<f8")

    def loss(self) -> float:
        loss: float = self.call("loss", self.training)
        return loss

    def loss_and_gradients(self) -> tuple[float, NDArray[np.float64]]:
        return self.call("gradient", self.training), self.get("gradient")

    gradients = loss_and_gradients


class WasmSession(EngineSession):
    """A row of the benchmark. Denormals are left as they are, since a sandbox cannot flush them."""

    def __init__(self, path: Path, task: Task) -> None:
        w, self.task = task.workload, task
        if any(w.optimizer[name] != value for name, value in ADAM.items()):
            raise ValueError(f"the WebAssembly modules know no other Adam than {ADAM}")
        sizes = [w.n_layer, w.n_embd, w.n_head, w.block_size, task.vocab_size, task.batch_size]
        count, rate = len(task.parameters), w.learning_rate
        self.core = WasmTraining(path, sizes, count, rate, w.num_steps, task.tokens, task.offsets)
        runtime = f"wasmtime {version('wasmtime')}"
        self.info = {"library": runtime, "module": path.name, "dtype": "float32"}
        self.restart()
