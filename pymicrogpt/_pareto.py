"""The Pareto front of time and loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Point = TypeVar("Point")


def front(points: Iterable[Point], place: Callable[[Point], tuple[float, float]]) -> list[Point]:
    """The points than which no other is both faster and better: later and lower from each to the
    next. place: of a point, (seconds, loss)"""
    best: list[Point] = []
    least = float("inf")
    for point in sorted(points, key=place):
        _, loss = place(point)
        if loss < least:
            least = loss
            best.append(point)
    return best
