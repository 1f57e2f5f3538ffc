"""The WebAssembly modules, built and run as the tests need them."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import pymicrogpt as mg
from bench.variants.wasm import model

REPO = Path(__file__).resolve().parents[2]


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


def loaded(path: Path):
    pytest.importorskip("wasmtime", reason="pip install wasmtime runs the modules")
    return model.loaded(path)


class WasmEngine(model.WasmTraining):
    """The training of a Trainer. NaN in all memory around the state, but for the tape, which takes
    more memory as it goes."""

    def __init__(self, trainer: mg.Trainer, path: Path) -> None:
        assert not loaded(path)[1].imports
        self.has_state = path.stem != "tape"
        config, tokenizer = trainer.config, trainer.tokenizer
        sizes = [config.n_layer, config.n_embd, config.n_head, config.block_size]
        sizes += [tokenizer.vocab_size, trainer.batch_size]
        tokens, offsets = tokenizer.encode_all(trainer.documents)
        rate, steps = trainer.learning_rate, trainer.num_steps
        super().__init__(path, sizes, trainer.num_params, rate, steps, tokens, offsets)
        parameters = [p.ravel() for p in trainer.model.parameters.values()]
        self.set("parameter", np.concatenate(parameters))

    def create(self, *arguments: float) -> int:
        self.slack = [(self.put(np.full(4096, np.nan, "<f4")), 4096)]
        training = super().create(*arguments)
        if self.has_state:
            state = int(self.take(training, 1, "<i4")[0])
            end = state + int(self.call("bytes", *self.sizes))
            self.memory.grow(self.store, 1)
            count = (self.memory.data_len(self.store) - end) // 4
            self.memory.write(self.store, np.full(count, np.nan, "<f4").tobytes(), end)
            self.slack.append((end, count))
        return training

    def allocate(self, size: int) -> int:
        at = super().allocate(size)
        assert at % 64 == 0
        return at

    def assert_slack_is_untouched(self) -> None:
        for at, count in self.slack:
            assert np.isnan(self.take(at, count, "<f4")).all()
