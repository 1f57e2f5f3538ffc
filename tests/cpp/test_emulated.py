"""NEON and SME, built for aarch64 and run by an emulator, compute what every float32 engine does:
the golden values, and SME the cases of test_parity.py, with the same bounds, and with vectors of
128, 256 and 512 bits. `make arm` builds train.cpp and says in PYMICROGPT_EMULATED how to run it."""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import get_golden
from test_parity import (
    CASES,
    SHAPES,
    assert_gradients,
    assert_training,
    assert_trajectory,
    exact_gradients,
    gradient_bound,
    state_of,
)

import pymicrogpt as mg
from bench.task.problem import encoded
from bench.task.workload import Workload

COMMAND = shlex.split(os.environ.get("PYMICROGPT_EMULATED", ""))
SME = {f"sme-{bits}": ("sme", bits) for bits in (128, 256, 512)}  # engine, bits of a vector
ENGINES = {"neon": ("neon", 128), **SME}
pytestmark = pytest.mark.skipif(not COMMAND, reason="`make arm` runs them, on other CPUs than ARM")


def problem(trainer: mg.Trainer, state: dict) -> bytes:
    """The training of a trainer from that state on, but for the moments of Adam."""
    first = state["step"] * trainer.batch_size % len(trainer.documents)
    documents = [*trainer.documents[first:], *trainer.documents[:first]]
    tokens, offsets = trainer.tokenizer.encode_all(documents)
    c, vocab_size = trainer.config, trainer.tokenizer.vocab_size
    workload = Workload("", c.n_embd, c.n_layer, c.n_head, c.block_size, trainer.num_steps)
    size = trainer.batch_size
    return encoded(workload, size, vocab_size, tokens, offsets, state["parameter"])


def train(
    engines: dict[str, tuple[str, int]], trainings: list[tuple[mg.Trainer, dict]], steps: int
) -> dict[str, list | str]:
    """By engine, of each training: loss and gradients of its first batch, and the losses of `steps`
    steps. What went wrong instead, in words."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        paths = [Path(folder, str(i)) for i in range(len(trainings))]
        for path, training in zip(paths, trainings, strict=True):
            path.write_bytes(problem(*training))

        def one(engine: str, bits: int) -> list | str:
            cpu = {"QEMU_CPU": f"max,sme-default-vector-length={bits // 8}"}
            command = [*COMMAND, engine, str(steps), *paths]
            done = subprocess.run(command, capture_output=True, env={**os.environ, **cpu})
            if done.returncode != 0:
                return done.stderr.decode() or f"exit code {done.returncode}"
            values, found = np.frombuffer(done.stdout, "<f8"), []
            for trainer, _ in trainings:
                like = trainer.model.parameters
                sizes = [1, *(p.size for p in like.values()), steps]
                (loss,), *arrays, losses, values = np.split(values, np.cumsum(sizes))
                shaped = zip(like.items(), arrays, strict=True)
                found.append((loss, {name: a.reshape(p.shape) for (name, p), a in shaped}, losses))
            return found

        results = pool.map(one, *zip(*engines.values(), strict=True))
        return dict(zip(engines, results, strict=True))


def results_of(engine: str, results: dict[str, list | str]) -> list:
    found = results[engine]
    if isinstance(found, str):
        if "the compiler of this build cannot" in found:
            pytest.skip(found)
        pytest.fail(found)
    return found


@functools.cache
def golden_results(name: str) -> dict[str, list | str]:
    trainer = get_golden(name).trainer("tape")
    return train(ENGINES, [(trainer, state_of(trainer))], trainer.num_steps)


@functools.cache
def gradients() -> dict[str, list | str]:
    points = [(case, state) for case in CASES for state, *_ in exact_gradients(case)]
    return train(SME, [(case.trainer("tape"), state) for case, state in points], 0)


@functools.cache
def trainings() -> dict[str, list | str]:
    trainers = [case.trainer("tape", count=7) for case in SHAPES]
    return train(SME, [(trainer, state_of(trainer)) for trainer in trainers], 10)


@pytest.mark.parametrize("engine", ENGINES)
def test_golden(engine, golden):
    results = golden_results(f"d{golden.config.n_embd}")
    [(loss, found, losses)] = results_of(engine, results)
    assert loss == losses[0]
    assert_trajectory(losses, golden)
    total = np.sqrt(sum(norm**2 for norm in golden.grad_norm_step1.values()))
    for name, norm in golden.grad_norm_step1.items():
        bound = gradient_bound(norm, total, golden.config.n_embd)
        assert abs(np.linalg.norm(found[name]) - norm) <= bound, name
        row = golden.grad_row1_first4_step1[name]
        assert np.linalg.norm(found[name][1, :4] - row) <= bound, name


@pytest.mark.parametrize("engine", SME)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients(engine, case):
    first = 2 * CASES.index(case)
    found = results_of(engine, gradients())[first : first + 2]
    for (loss, arrays, _), (_, *expected) in zip(found, exact_gradients(case), strict=True):
        assert_gradients(case, loss, arrays, *expected)


@pytest.mark.parametrize("engine", SME)
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_training(engine, case):
    """Ten steps: see test_parity.test_training_of_float32."""
    losses = results_of(engine, trainings())[SHAPES.index(case)][2]
    assert_training(case, losses)
