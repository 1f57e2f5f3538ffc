"""Which settings are best, and at which training time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .. import _pareto
from .space import Settings
from .trial import Row


@dataclass(frozen=True)
class Standing:
    """How one combination of settings did, over its seeds.

    settings: those of the first row
    rows: of the seeds that succeeded, the lowest loss first; at least one
    failed: seeds that did not
    """

    settings: Settings
    rows: list[Row]
    failed: int

    @property
    def loss(self) -> float:
        """Mean held-out loss over the seeds."""
        return statistics.fmean(row["held_out_loss"] for row in self.rows)

    @property
    def deviation(self) -> float:
        """Standard deviation of the held-out loss between seeds; 0 for a single one."""
        losses = [row["held_out_loss"] for row in self.rows]
        return statistics.stdev(losses) if len(losses) > 1 else 0.0

    @property
    def seconds(self) -> float:
        """Mean training time, in seconds of CPU time."""
        return statistics.fmean(row["train_seconds"] for row in self.rows)


def ranking(rows: Iterable[Row]) -> list[Standing]:
    """Combinations of settings, the lowest loss first. Where seeds failed, what has fewer failures
    comes first: a mean over the seeds that survived proves little. Left out is what only failed."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        combination = {**row["settings"], "seed": None}
        groups.setdefault(tuple(combination.values()), []).append(row)
    standings = []
    for group in groups.values():
        good = sorted((r for r in group if not r["error"]), key=lambda r: r["held_out_loss"])
        if good:
            settings = {k: v for k, v in good[0]["settings"].items() if k != "seed"}
            standings.append(Standing(settings, good, len(group) - len(good)))
    return sorted(standings, key=lambda s: (s.failed, s.loss))


def pareto_front(rows: Iterable[Row]) -> list[tuple[float, float, Row]]:
    """The least held-out loss that any trial had after so many seconds of training: points
    (seconds, loss, row) of the curves, later and lower from each to the next."""
    points = [(p[1], p[2], row) for row in rows if not row["error"] for p in row["curve"]]
    return _pareto.front(points, place=lambda point: point[:2])


def busy_fraction(rows: Iterable[Row], workers: int) -> float:
    """Share of the time of `workers` cores, from the beginning of the first of these trials to the
    end of the last, that was spent inside trials."""
    ran = [row for row in rows if row["started"] is not None]
    wall = max(row["ended"] for row in ran) - min(row["started"] for row in ran)
    return sum(row["ended"] - row["started"] for row in ran) / (wall * workers)
