"""Medians with intervals, of times and of ratios that were measured in interleaved rounds.

A ratio is formed within each round and only then summarised: a slow spell of the machine that
lasts longer than a round slows both sides and cancels. The interval is the percentile bootstrap:
rounds are drawn with replacement RESAMPLES times (NumPy's default_rng(SEED), so that a result file
always gives the same figures), and the interval holds the middle LEVEL of the medians drawn.

Few rounds cannot give that much. The range from the least to the greatest of n rounds holds the
true median with probability 1 - 2^(1 - n): 75 % for three rounds, 94 % for five. Where that is
less than LEVEL, the range is the interval, and `level` says how much it is worth. One round has
no interval.

The Pareto front is here too: what is worth its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 2026
SPREAD_LIMIT = 0.10  # a value known no better than this share of itself gets a warning


@dataclass(frozen=True)
class Estimate:
    """A median and the interval that holds it with probability `level`."""

    value: float
    low: float
    high: float
    rounds: int

    @property
    def level(self) -> float:
        """0 for a single round, which has no interval: low and high are its value then."""
        return min(LEVEL, 1 - 2.0 ** (1 - self.rounds))

    @property
    def spread(self) -> float:
        """Half of the interval's width, as a share of the value."""
        return (self.high - self.low) / (2 * self.value) if self.value else 0.0

    def __mul__(self, factor: float) -> Estimate:
        return Estimate(factor * self.value, factor * self.low, factor * self.high, self.rounds)

    def doubts(self) -> list[str]:
        """Why not to lean on the value, in words; empty where nothing is amiss."""
        if self.rounds == 1:
            return ["one round, no interval"]
        words = []
        if self.level < LEVEL:
            words.append(f"{self.rounds} rounds, interval of {100 * self.level:.0f} %")
        if self.spread > SPREAD_LIMIT:
            words.append(f"spread of ±{100 * self.spread:.0f} %")
        return words

    def doubts_as_ratio(self) -> list[str]:
        """The same for a ratio, which also says nothing where its interval holds 1."""
        same = self.rounds > 1 and self.low <= 1 <= self.high
        return [*self.doubts(), *(["no difference shown"] if same else [])]


def estimate(values: Sequence[float]) -> Estimate:
    """The median of the rounds with its interval. ValueError without a value."""
    if not len(values):
        raise ValueError("no round was measured")
    return _estimate(tuple(values))


@lru_cache(4096)  # tables and figures ask for the same ones
def _estimate(values: tuple[float, ...]) -> Estimate:
    array = np.asarray(values, float)
    middle, count = float(np.median(array)), len(array)
    if 1 - 2.0 ** (1 - count) < LEVEL:
        return Estimate(middle, float(array.min()), float(array.max()), count)
    medians = np.median(array[_resamples(count)], axis=1)
    low, high = np.quantile(medians, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(middle, float(low), float(high), count)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """The median ratio of the rounds that both have: round i of one over round i of the other.

    Rows stop when their budget is spent, so that the shorter list is of the first rounds.
    """
    return estimate([a / b for a, b in zip(numerators, denominators, strict=False)])


@lru_cache(16)
def _resamples(count: int) -> np.ndarray:
    """Indices of rounds, (RESAMPLES, count)."""
    return np.random.default_rng(SEED).integers(0, count, (RESAMPLES, count))


def finite(cases: list[dict]) -> list[dict]:
    """Cases whose training ended with a number."""
    return [case for case in cases if case["held_out"] is not None]


def front(cases: list[dict]) -> list[dict]:
    """Cases than which none is both faster and better, by time; none without a loss."""
    best: list[dict] = []
    for case in sorted(finite(cases), key=lambda case: (case["seconds"], case["held_out"])):
        if not best or case["held_out"] < best[-1]["held_out"]:
            best.append(case)
    return best
