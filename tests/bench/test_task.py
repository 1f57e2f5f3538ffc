"""Tasks: the truth, and what is held against it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.task.task import Task, WrongResult, tolerance, truth_steps
from bench.task.workload import WORKLOADS

pytestmark = pytest.mark.usefixtures("small_corpus")


def test_flops_of_a_step_counted_by_hand():
    # One document of 2 positions, C = 16, V = 5: 12 * 256 + 5 * 16 = 3152 weights, each in one
    # multiply and add forward and two backward; attention to 1 and 2 keys, 2 * 2 * 16 each.
    flops = WORKLOADS["d16"].flops(np.array([0, 3]), vocab_size=5)
    assert flops == 6 * 2 * 3152 + 3 * (4 * 16 * 1 + 4 * 16 * 2)


@pytest.fixture
def task(tmp_path) -> Task:
    import pymicrogpt

    return Task.prepare(WORKLOADS["d16"], 1, pymicrogpt.Corpus.load(), tmp_path)


def test_task_survives_its_file(task):
    loaded = Task.load(task.file)
    assert loaded.problem.exists()
    for name in ("tokens", "offsets", "parameters", "losses", "gradients"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(task, name))


def test_what_is_not_the_truth_is_wrong(task):
    losses = task.losses.tolist()
    for dtype in ("float32", "float64"):
        task.check_gradients(dtype, losses[0], task.gradients)
        task.check_losses(dtype, 0, [*losses, 2.0, 3.0])
        for step in (0, 1, len(losses) - 1):
            bad = losses.copy()
            bad[step] *= 1 + 2 * tolerance(dtype, step, 16)
            with pytest.raises(WrongResult, match=f"loss of step {step + 1} is"):
                task.check_losses(dtype, 0, bad)
            with pytest.raises(WrongResult, match=f"loss of step {step + 1} is"):
                task.check_losses(dtype, step, bad[step:])
        with pytest.raises(WrongResult, match="loss of step 1 is"):
            task.check_gradients(dtype, float("nan"), task.gradients)
        bad = task.gradients.copy()
        bad[-1024:] *= 1 + 2e-5
        with pytest.raises(WrongResult, match=r"gradient of layer0\.mlp_fc2 is off by 2\.0e-05"):
            task.check_gradients(dtype, losses[0], bad)
    with pytest.raises(WrongResult, match="not finite"):
        task.check_losses("float32", 500, [2.0, float("inf")])
    with pytest.raises(WrongResult, match="gradients instead of"):
        task.check_gradients("float32", losses[0], task.gradients[1:])


def test_the_truth_of_a_large_batch_is_that_of_the_tape(tmp_path):
    import pymicrogpt

    corpus = pymicrogpt.Corpus.load()
    workload = WORKLOADS["d16"]
    task = Task.prepare(workload, 32, corpus, tmp_path)
    tape = pymicrogpt.Trainer(
        corpus, workload.config, engine="tape", batch_size=32, seed=workload.seed,
        **workload.optimizer,
    )  # fmt: skip
    gradients = np.concatenate([g.ravel() for g in tape.gradients().values()])
    np.testing.assert_allclose(task.losses, tape.run(20), rtol=1e-9)
    assert np.linalg.norm(task.gradients - gradients) < 1e-9 * np.linalg.norm(gradients)
    assert [truth_steps(workload, batch) for batch in (1, 256, 4096)] == [20, 20, 2]


def test_the_loss_of_a_large_batch_has_the_rounding_of_more_sums(task):
    first = float(task.losses[0])
    replace(task, batch_size=4096).check_losses("float32", 0, [first * (1 + 3e-6)])
    for batch, dtype, off in ((256, "float32", 3e-6), (4096, "float64", 3e-9)):
        with pytest.raises(WrongResult, match="loss of step 1"):
            replace(task, batch_size=batch).check_losses(dtype, 0, [first * (1 + off)])
