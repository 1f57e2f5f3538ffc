"""Notices a neighbour: what one core can do at most is measured before and after each round.

Two virtual cores are often the threads of one core: what runs on one takes half of the other, and
neither the load nor the stolen time shows it. The peak of multiply-adds does. A round is good where
both peaks are at least GOOD of the highest of the run so far.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from bench.results import GOOD_PEAK


class Neighbour:
    def __init__(self, peak: Callable[[], float] | None, highest: float = 0.0):
        """`peak` measures FLOP/s, of which `highest` were found before; None where nothing can."""
        self.peak, self.highest = peak, highest
        self.seconds = 0.0  # that rounds which are done again may still take

    def share(self) -> float | None:
        """Of the highest peak so far."""
        if self.peak is None:
            return None
        found = self.peak()
        self.highest = max(self.highest, found)
        return found / self.highest

    def may_repeat(self, share: float, seconds: float) -> bool:
        """Whether a round of so many seconds is to be done again, whose peaks were that share."""
        if share >= GOOD_PEAK or seconds > self.seconds:
            return False
        self.seconds -= seconds
        return True


def found_by(run: dict[str, Any]) -> Neighbour:
    """By the best SIMD engine that runs here, and its peak of Results.run."""
    from pymicrogpt import _core, engines

    for engine in engines():  # best first
        if engine.simd and engine.available:
            name = engine.name
            return Neighbour(
                partial(_core.fma_rate, name), 1e9 * run.get(f"peak_{name}_gfma_flops", 0.0)
            )
    return Neighbour(None)
