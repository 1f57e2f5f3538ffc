"""The WebAssembly modules, run by wasmtime: what web/engine.js is in the browser."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import pymicrogpt as mg

REPO = Path(__file__).resolve().parents[2]
SLOTS = {"parameter": 0, "first_moment": 1, "second_moment": 2, "gradient": 3}


@functools.cache
def tool():
    """tools/web.py"""
    spec = importlib.util.spec_from_file_location("web_tool", REPO / "tools" / "web.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["web_tool"] = module
    spec.loader.exec_module(module)
    return module


def need_compiler() -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the modules need the compiler of ziglang: pip install ziglang")


@functools.cache
def compiled_kernel_tests() -> Path:
    """tests/cpp/test_kernels.cpp as a program; relaxed, since `fma` is to round once."""
    need_compiler()
    out = REPO / "build" / "web" / "tests" / "test_kernels.wasm"
    flags = [*tool().MODULES["relaxed"].flags, "-O1"]  # compiles faster, and is fast enough
    defines = {
        "PYMICROGPT_ISA_SOURCE": f'"{REPO / "cpp" / "isa" / "wasm.cpp"}"',
        "PYMICROGPT_TABLE": "under_test",
        "PYMICROGPT_ENGINE": '""',
        "PYMICROGPT_ISA": '""',
    }
    sources = ["tests/cpp/test_kernels.cpp", "tests/cpp/main_wasm.cpp", "cpp/batch.cpp"]
    tool().run_compiler(flags, defines, [REPO / source for source in sources], out)
    return out


@functools.cache
def compiled(name: str, *flags: str) -> Path:
    """A module, built where `make web` builds it; with flags of its own elsewhere."""
    need_compiler()
    folder = REPO / "build" / "web"
    return tool().compile_module(name, folder / "flags" if flags else folder, *flags)


@functools.cache
def loaded(path: Path):
    wasmtime = pytest.importorskip("wasmtime", reason="pip install wasmtime runs the modules")
    config = wasmtime.Config()
    config.wasm_relaxed_simd = True
    engine = wasmtime.Engine(config)
    return engine, wasmtime.Module.from_file(engine, str(path))


class WasmEngine:
    """The training of a Trainer, in an instance of a module. NaN in all memory around the state,
    but for the tape, which takes more memory as it goes."""

    def __init__(self, trainer: mg.Trainer, path: Path) -> None:
        import wasmtime

        engine, module = loaded(path)
        assert not module.imports
        self.store = wasmtime.Store(engine)
        self.exports = wasmtime.Instance(self.store, module, []).exports(self.store)
        self.memory = self.exports["memory"]
        self.call("_initialize")
        tokens, offsets = trainer.tokenizer.encode_all(trainer.documents)
        self.count = trainer.num_params
        at = [self.put(tokens.astype("<i4")), self.put(offsets.astype("<i8"))]
        self.scratch = self.allocate(8 * max(self.count, trainer.num_steps))
        config = trainer.config
        self.vocab_size = trainer.tokenizer.vocab_size
        self.sizes = [config.n_layer, config.n_embd, config.n_head, config.block_size]
        self.sizes += [self.vocab_size, trainer.batch_size]
        settings = [float(trainer.learning_rate), float(trainer.num_steps)]
        self.slack = [(self.put(np.full(4096, np.nan, "<f4")), 4 * 4096)]
        self.training = self.call("create", *self.sizes, *settings, *at, len(offsets) - 1)
        assert self.training != 0
        if path.stem != "tape":
            self.poison_what_follows()
        parameters = [p.ravel() for p in trainer.model.parameters.values()]
        self.set("parameter", np.concatenate(parameters))

    def poison_what_follows(self) -> None:
        state = int(self.ints(self.training, 1)[0])
        end = state + int(self.call("bytes", *self.sizes))
        self.memory.grow(self.store, 1)
        size = self.memory.data_len(self.store) - end
        self.memory.write(self.store, np.full(size // 4, np.nan, "<f4").tobytes(), end)
        self.slack.append((end, size // 4 * 4))

    def call(self, name: str, *arguments):
        return self.exports[name](self.store, *arguments)

    def allocate(self, size: int) -> int:
        at = self.call("allocate", size)
        assert at != 0 and at % 64 == 0
        return at

    def put(self, array: NDArray) -> int:
        at = self.allocate(array.nbytes)
        self.memory.write(self.store, array.tobytes(), at)
        return at

    def assert_slack_is_untouched(self) -> None:
        for at, size in self.slack:
            data = np.frombuffer(bytes(self.memory.read(self.store, at, at + size)), "<f4")
            assert np.isnan(data).all()

    def doubles(self, count: int) -> NDArray[np.float64]:
        data = self.memory.read(self.store, self.scratch, self.scratch + 8 * count)
        return np.frombuffer(bytes(data), "<f8")

    def ints(self, at: int, count: int) -> NDArray[np.int32]:
        return np.frombuffer(bytes(self.memory.read(self.store, at, at + 4 * count)), "<i4")

    def set(self, slot: str, natural: NDArray[np.float64]) -> None:
        self.memory.write(self.store, natural.astype("<f8").tobytes(), self.scratch)
        self.call("write", self.training, SLOTS[slot], self.scratch)

    def get(self, slot: str) -> NDArray[np.float64]:
        self.call("read", self.training, SLOTS[slot], self.scratch)
        return self.doubles(self.count)

    def seek(self, step: int) -> None:
        self.call("seek", self.training, float(step))

    def run(self, steps: int) -> NDArray[np.float64]:
        self.call("steps", self.training, steps, self.scratch)
        return self.doubles(steps)

    def loss(self) -> float:
        return self.call("loss", self.training)

    def loss_and_gradients(self) -> tuple[float, NDArray[np.float64]]:
        return self.call("gradient", self.training), self.get("gradient")
