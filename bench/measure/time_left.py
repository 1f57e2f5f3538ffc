"""How long a run has still to go.

Stages are planned with the seconds that they take on an idle machine, about. What those that are
over took, over what was planned, is the pace of those to come; the rounds of a stage that is going
on are known better, from their calibration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from bench.measure.effort import Effort
from bench.measure.rows import LONGER, verified_at_once
from bench.results import ENOUGH_ROUNDS, Row
from bench.variants.variant import Variant

START = 1.0  # seconds: a process, its imports, its truth, its warm-up
COMPILATION = 12.0  # seconds more, where that takes seconds: a mean
PROBE = 6.0  # seconds of a probe, where a round of a case takes 15 ms
SLOWEST_PACE, FASTEST_PACE = 4.0, 0.5  # a pace beyond is that of a stage planned badly


class TimeLeft:
    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.planned: dict[str, float] = {}  # seconds of each stage to come, and of this one
        self.over = self.took = 0.0  # seconds planned and taken, of the stages that are over
        self.stage = ""
        self.began = self.end = clock()  # of this stage; its end as far as is known

    def begin(self, stage: str) -> None:
        """The stage before is over."""
        now = self.clock()
        self.over += self.planned.pop(self.stage, 0.0)
        self.took += now - self.began if self.stage else 0.0
        self.stage, self.began = stage, now
        self.end = now + self.pace * self.planned.get(stage, 0.0)

    def left_of_stage(self, seconds: float) -> None:
        self.end = self.clock() + seconds

    @property
    def pace(self) -> float:
        found = self.took / self.over if self.over else 1.0
        return min(SLOWEST_PACE, max(FASTEST_PACE, found))

    @property
    def seconds(self) -> float:
        later = sum(planned for name, planned in self.planned.items() if name != self.stage)
        return max(0.0, self.end - self.clock()) + self.pace * later

    def __str__(self) -> str:
        """In words, without more digits than it is known to."""
        if not self.planned:
            return ""
        minutes = self.seconds / 60
        if minutes < 0.75:
            return "less than a minute left"
        return f"about {minutes:.0f} min left" if minutes >= 1.5 else "about a minute left"


def rows_seconds(rows: Iterable[tuple[Row, Variant]], effort: Effort) -> float:
    """Of the rows of a workload."""
    total = 0.0
    for row, variant in rows:
        if row.ok:
            start = START + (COMPILATION if row.workload in variant.slow_on else 0.0)
            total += start / verified_at_once()
            rounds = effort.training if variant.steady else 1.5 * effort.round_seconds
            total += effort.rounds * rounds
            if variant.skips_zeros and (row.workload, row.batch) == ("d256", 16):
                total += (
                    ENOUGH_ROUNDS * LONGER * effort.training
                )  # whole trainings, as an interval needs
    return total


def probe_seconds(effort: Effort) -> float:
    return PROBE * effort.probe_seconds / 0.015 * effort.rounds / 7


def quality_seconds(rows: int, effort: Effort) -> float:
    """Of so many rows of a workload."""
    return rows * (START + effort.training_seconds)
