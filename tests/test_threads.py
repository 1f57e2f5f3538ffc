"""Threads change the time of a step and nothing else."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from conftest import SIMD

import pymicrogpt as mg

pytestmark = pytest.mark.skipif(not SIMD, reason="no SIMD engine runs on this machine")
DOCUMENTS = ["anna", "bo", "cleo", "dada", "ed", "annabel", "bob", "c", "dan", "abba" * 8]


@pytest.mark.parametrize("engine", SIMD)
@pytest.mark.parametrize("batch_size", [1, 7, 16])
@pytest.mark.parametrize(
    "config",
    [
        mg.Config(),
        mg.Config(n_layer=3, n_embd=24, n_head=3, block_size=20),
        mg.Config(n_embd=64, n_head=8, block_size=5),
        mg.Config(n_embd=8, n_head=1),
    ],
    ids=lambda c: f"L{c.n_layer}-C{c.n_embd}",
)
def test_bit_identical_for_any_number(engine, batch_size, config):
    corpus = mg.Corpus.from_documents(DOCUMENTS)

    def train(threads):
        trainer = mg.Trainer(
            corpus, config, engine=engine, batch_size=batch_size, num_steps=25, threads=threads
        )
        losses = trainer.run(20)
        return losses, trainer.loss_and_gradients(), trainer.model.parameters

    losses, (loss, gradients), parameters = train(1)
    for threads in (2, 3, 5):
        others, (other, other_gradients), other_parameters = train(threads)
        np.testing.assert_array_equal(losses, others)
        assert loss == other
        for name in parameters:
            np.testing.assert_array_equal(parameters[name], other_parameters[name], err_msg=name)
            np.testing.assert_array_equal(gradients[name], other_gradients[name], err_msg=name)


@pytest.mark.parametrize("engine", [*SIMD, "scalar", "tape"])
def test_auto_chooses_and_changes_nothing(engine):
    corpus = mg.Corpus.from_documents(DOCUMENTS)
    one = mg.Trainer(corpus, engine=engine, num_steps=100)
    auto = mg.Trainer(corpus, engine=engine, num_steps=100, threads="auto")
    np.testing.assert_array_equal(one.run(), auto.run())
    assert 1 <= auto.threads <= (os.cpu_count() if engine in SIMD else 1)


def test_idle_threads_sleep():
    trainer = mg.Trainer(mg.Corpus.from_documents(DOCUMENTS), engine=SIMD[0], threads=4)
    trainer.run(3)
    time.sleep(0.1)  # they watch for another step a little before they sleep
    cpu, wall = time.process_time(), time.perf_counter()
    time.sleep(0.5)
    assert time.process_time() - cpu < 0.2 * (time.perf_counter() - wall)  # of one core, not three
    trainer.run(3)  # and wake again


@pytest.mark.parametrize("engine", [info.name for info in mg.engines() if not info.threads])
def test_engines_without_threads_say_so(engine):
    with pytest.raises(ValueError, match="one thread"):
        mg.Trainer(mg.Corpus.from_documents(DOCUMENTS), engine=engine, threads=2)
