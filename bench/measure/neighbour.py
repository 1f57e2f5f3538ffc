"""Notices a neighbour: what one core can do at most is measured before and after each round.

Two virtual cores are often the threads of one core: what runs on one takes a third of the other,
and neither the load nor the stolen time shows it. Two paces do: multiply-adds from registers, which
only what multiplies itself slows down, and a short training by the best engine, which needs all
that the threads of a core share. A round is good where both are at least GOOD_PEAK of the highest
of the run so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from bench.results import GOOD_PEAK
from pymicrogpt import Config, _core, engines

CALIBRATION = 1.0  # seconds in which the highest paces are looked for as a run begins
STEPS = 100  # of the short training: some milliseconds
BATCH = 16

Paces = dict[str, float]  # per second, by what is done


class Neighbour:
    """measure: the paces of now; highest: those that are known."""

    def __init__(self, measure: Callable[[], Paces] = dict, highest: Paces | None = None):
        self.measure = measure
        self.highest = dict(highest or {})

    def share(self, found: Paces) -> float | None:
        """Of the highest paces so far, the least share; None of no paces."""
        for what, pace in found.items():
            self.highest[what] = max(pace, self.highest.get(what, 0.0))
        return min((pace / self.highest[what] for what, pace in found.items()), default=None)

    def is_there(self) -> bool:
        share = self.share(self.measure())
        return share is not None and share < GOOD_PEAK


def look_around() -> Neighbour:
    """With the highest paces of CALIBRATION seconds."""
    neighbour = Neighbour(paces())
    end = time.monotonic() + CALIBRATION
    while time.monotonic() < end:
        neighbour.is_there()
    return neighbour


def paces() -> Callable[[], Paces]:
    """A function that measures them, for the core that it runs on."""
    simd = next((e.name for e in engines() if e.simd and e.available), None)  # best first
    config = Config(n_layer=1, n_embd=16, n_head=4, block_size=16)
    size, length = 27, 8
    draw = np.random.default_rng(0)
    documents = draw.integers(0, size - 1, (4 * BATCH, length), dtype=np.int32)
    documents[:, 0] = documents[:, -1] = size - 1
    offsets = np.arange(0, documents.size + 1, length, dtype=np.int64)
    trainer = _core.Trainer(
        simd or "autovec", documents.ravel(), offsets, n_layer=config.n_layer, n_embd=config.n_embd,
        n_head=config.n_head, block_size=config.block_size, vocab_size=size, batch_size=BATCH,
        num_steps=STEPS, learning_rate=0.0,  # always the same work
        beta1=0.85, beta2=0.99, eps=1e-8, threads=1, prefix_sharing=True,
    )  # fmt: skip
    trainer.set("parameter", draw.normal(0, 0.08, len(trainer.get("parameter"))))

    def measure() -> Paces:
        found = {}
        if simd:
            found["multiply-adds"] = _core.fma_rate(simd)
        start = time.perf_counter()
        trainer.step = 0
        trainer.run(STEPS)
        found["steps"] = STEPS / (time.perf_counter() - start)
        return found

    return measure


def least(before: Paces, after: Paces) -> Paces:
    return {what: min(pace, after[what]) for what, pace in before.items()}
