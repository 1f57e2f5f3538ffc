"""The rows in array libraries: right for more than the workloads, and on one core."""

import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from bench.measure import checked, machine
from bench.measure.checked import CheckedSession
from bench.measure.process import Worker
from bench.task.task import Task, WrongResult
from bench.task.workload import WORKLOADS
from bench.variants import wasm
from bench.variants.variant import load_variants

pytest.importorskip("threadpoolctl")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> dict[int, Task]:
    import pymicrogpt

    folder = tmp_path_factory.mktemp("tasks")
    corpus = pymicrogpt.Corpus.load()
    return {batch: Task.prepare(WORKLOADS["d16"], batch, corpus, folder) for batch in (1, 16)}


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize(
    "name", ["numpy", "torch-eager", "torch-compile", "jax", "numba", "wasm-scalar", "wasm-simd"]
)
def test_gradients_and_losses_are_the_truth(name, batch, tasks):
    """In a worker: it compares them, and a library may change the process that it is in."""
    if reason := load_variants()[name].available():
        pytest.skip(reason)
    job = {"variant": name, "task": str(tasks[batch].file), "extra": []}
    with Worker(["-m", "bench.measure.checked"], job, timeout=300.0) as worker:
        assert worker.wait()["info"]["library"].startswith(name.partition("-")[0])
        loss = worker.ask(steps=20)["loss"]
        assert loss == pytest.approx(tasks[batch].losses[:20].mean(), rel=0.02)
    if name == "torch-compile":  # a start that is cold whatever ran before
        assert any(tasks[batch].file.parent.glob("inductor-*/*"))


@pytest.fixture
def small(tmp_path) -> Task:
    """Two layers, two heads, and documents cut by a short context."""
    import pymicrogpt

    workload = replace(WORKLOADS["d16"], n_layer=2, n_embd=12, n_head=2, block_size=5)
    corpus = pymicrogpt.Corpus.from_documents(["ab", "a", "bcab", "cabbagecab", "bb"])
    return Task.prepare(workload, 3, corpus, tmp_path)


@pytest.mark.parametrize("name", ["numpy", "torch-eager", "numba", "wasm-scalar", "wasm-simd"])
def test_other_shapes_are_right_and_documents_wrap_around(name, small):
    variant = load_variants()[name]
    if reason := variant.available():
        pytest.skip(reason)
    session = variant.open(small)
    small.check_gradients("float32", *session.verify())
    losses, _ = session.run(20)
    small.check_losses("float32", 0, losses)
    session.restart()
    assert session.run(20)[0] == losses
    assert session.parameters().shape == small.parameters.shape
    assert not np.allclose(session.parameters(), small.parameters)


def test_a_module_that_is_not_built_is_a_row_that_says_what_to_do(tmp_path, monkeypatch):
    pytest.importorskip("wasmtime")
    monkeypatch.setattr(wasm, "MODULES", tmp_path)
    for name, module in (("wasm-scalar", "scalar"), ("wasm-simd", "relaxed")):
        reason = load_variants()[name].available()
        assert reason == f"no build/web/{module}.wasm; make web builds it"


def test_a_sandbox_knows_no_other_adam(small):
    variant = load_variants()["wasm-scalar"]
    if reason := variant.available():
        pytest.skip(reason)
    other = replace(small, workload=replace(small.workload, beta1=0.9))
    with pytest.raises(ValueError, match="know no other Adam"):
        variant.open(other)


def test_a_row_that_takes_more_than_one_core_is_wrong(tasks, monkeypatch):
    session = CheckedSession(load_variants()["numpy"], tasks[1])
    monkeypatch.setattr(checked, "processor_seconds", lambda pid: 1.0 * time.perf_counter())
    monkeypatch.setattr(checked, "JUDGED_AFTER", 0.01)
    session.run(200)
    assert session.needed()["cores"] == pytest.approx(1, abs=0.05)
    monkeypatch.setattr(checked, "processor_seconds", lambda pid: 1.5 * time.perf_counter())
    with pytest.raises(WrongResult, match=r"keeps 1\.\d\d cores busy, not one"):
        session.run(400)


def test_processor_time_of_a_program_is_its_own():
    import subprocess

    program = subprocess.Popen(
        [sys.executable, "-c", "sum(range(10**7)); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        program.stdout.readline()
        if not machine.processor_seconds(program.pid):
            pytest.skip("this system does not tell the processor time of another process")
        assert 0.05 < machine.processor_seconds(program.pid) < 5
    finally:
        program.communicate()
