"""Where the golden values are, which corpus they belong to, and what this CPU can run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import pymicrogpt as mg
from pymicrogpt import _core, _names, reference

REPO = Path(__file__).resolve().parent.parent
ENGINES = [info.name for info in mg.engines() if info.available]
SIMD = [info.name for info in mg.engines() if info.available and info.simd]


def pytest_configure(config):
    # A shell that runs the tests in the background has them ignore Ctrl-C, which some are about.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes; --slow runs it"))


@pytest.fixture
def small_corpus(tmp_path, monkeypatch):
    """81 names are the corpus, and the working directory is one of the test: no network."""
    corpus = tmp_path / "corpus.txt"
    names = ("emma", "olivia", "ava", "isabella", "sophia", "mia", "charlotte", "amelia", "jo")
    corpus.write_text("".join(f"{a}{b}\n" for a in names for b in names), encoding="utf-8")
    monkeypatch.setenv("PYMICROGPT_CORPUS", str(corpus))
    monkeypatch.chdir(tmp_path)


def find_names() -> Path | None:
    """The real names.txt, where this machine has it already. Nothing is downloaded."""
    candidates = [
        os.environ.get("PYMICROGPT_CORPUS"),
        REPO.parent / "shared" / "data" / "names.txt",
        _names.cache_file(),
    ]
    for path in candidates:
        if path and Path(path).is_file():
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            if digest == _names.SHA256:
                return Path(path)
    return None


NAMES = find_names()
# The golden files were recorded on names.txt. Elsewhere the reference computes the values, over
# fewer steps because it is slow, and the ids of the tests say so.
GOLDEN_ORIGIN = "names" if NAMES else "embedded_corpus_by_reference"
GOLDEN_DIR = Path(os.environ.get("PYMICROGPT_GOLDEN") or REPO / "tests" / "golden")
GOLDEN_FILES = {"d16": "d16_seed42.json", "d64": "d64_seed42.json"}


@dataclass(frozen=True)
class Golden:
    corpus: mg.Corpus
    config: mg.Config
    num_steps: int
    num_params: int
    first_docs: list[str]
    losses: np.ndarray  # (num_steps,) at batch 1, seed 42
    grad_norm_step1: dict[str, float]
    grad_row1_first4_step1: dict[str, list[float]]
    param_norm_final: dict[str, float]
    samples: list[str]  # at temperature 0.5

    def trainer(self, engine: str, **settings) -> mg.Trainer:
        settings = {"batch_size": 1, "num_steps": self.num_steps, **settings}
        return mg.Trainer(self.corpus, self.config, engine=engine, **settings)


def recorded(name: str) -> Golden:
    values = json.loads((GOLDEN_DIR / GOLDEN_FILES[name]).read_text())
    shape = {key: values[key] for key in ("n_layer", "n_embd", "n_head", "block_size")}
    return Golden(
        corpus=mg.Corpus.from_file(NAMES),
        config=mg.Config(**shape),
        num_steps=values["num_steps"],
        num_params=values["num_params"],
        first_docs=values["first_docs"],
        losses=np.array(values["losses"]),
        grad_norm_step1=values["grad_norm_step1"],
        grad_row1_first4_step1=values["grad_row1_first4_step1"],
        param_norm_final=values["param_norm_final"],
        samples=values["samples"],
    )


def computed(name: str) -> Golden:
    """The same values by reference.py alone, from the embedded corpus."""
    n_embd, num_steps, num_samples = {"d16": (16, 30, 20), "d64": (64, 1, 1)}[name]
    corpus = mg.Corpus._embedded("names.txt is not on this machine")
    rng = random.Random(42)
    documents = list(corpus.documents)
    rng.shuffle(documents)
    tokenizer = mg.Tokenizer.from_documents(documents)
    tensors = reference.draw_parameters(rng, vocab_size=tokenizer.vocab_size, n_embd=n_embd)
    model = reference.Reference(
        [tokenizer.encode(d) for d in documents], tensors, num_steps=num_steps
    )
    losses = [model.gradient()]
    gradients = values_of(model, "grad")
    model.update()
    losses += [model.step() for _ in range(num_steps - 1)]
    return Golden(
        corpus=corpus,
        config=mg.Config(n_embd=n_embd),
        num_steps=num_steps,
        num_params=len(model.params),
        first_docs=documents[:8],
        losses=np.array(losses),
        grad_norm_step1={name: np.linalg.norm(g) for name, g in gradients.items()},
        grad_row1_first4_step1={name: g[1, :4] for name, g in gradients.items()},
        param_norm_final={n: np.linalg.norm(p) for n, p in values_of(model, "data").items()},
        samples=[tokenizer.decode(model.sample(rng)) for _ in range(num_samples)],
    )


def values_of(model: reference.Reference, field: str) -> dict[str, np.ndarray]:
    """The data or the grad of every parameter, as arrays by name."""
    return {
        name: np.array([[getattr(p, field) for p in row] for row in rows])
        for name, rows in model.tensors.items()
    }


_goldens: dict[str, Golden] = {}


@pytest.fixture(params=["d16", "d64"], ids=lambda name: f"{name}-{GOLDEN_ORIGIN}")
def golden(request) -> Golden:
    return get_golden(request.param)


@pytest.fixture(params=["d16"], ids=lambda name: f"{name}-{GOLDEN_ORIGIN}")
def golden_d16(request) -> Golden:
    return get_golden(request.param)


def get_golden(name: str) -> Golden:
    if name not in _goldens:
        _goldens[name] = recorded(name) if NAMES else computed(name)
    return _goldens[name]


def cpu_info() -> dict[str, str]:
    """What Linux says of the first CPU; elsewhere nothing."""
    if sys.platform != "linux":
        return {}
    text = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    pairs = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def cpu_flags() -> set[str]:
    """What the operating system says of the CPU, which the C++ probe has no part in."""
    if sys.platform == "linux":
        info = cpu_info()
        return set(info.get("flags", info.get("Features", "")).split())
    elif sys.platform == "darwin":
        keys = ["machdep.cpu.features", "machdep.cpu.leaf7_features"]
        text = subprocess.run(["sysctl", "-n", *keys], capture_output=True, text=True).stdout
        sme = ["sysctl", "-n", "hw.optional.arm.FEAT_SME"]
        has = subprocess.run(sme, capture_output=True, text=True).stdout.strip() == "1"
        return set(text.lower().split()) | ({"sme"} if has else set())
    return set()


def expected_engines() -> set[str]:
    """The engines that must be available on this machine."""
    expected = {"reference", "tape", "tape32", "scalar", "autovec"}
    flags = cpu_flags()
    if platform.machine() in ("aarch64", "arm64"):
        expected.add("neon")
        if "sme" in flags and "Clang" in _core.build_info()["compiler"]:  # gcc 12 cannot compile it
            expected.add("sme")
    if {"avx2", "fma"} <= flags:
        expected.add("avx2")
    if {"avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl", "avx2", "fma"} <= flags:
        expected.add("avx512")
    return expected
