"""How long to measure: --quick, nothing, or --full."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    rounds: int  # of rows and of probes
    round_seconds: float  # a round of a row takes as many trainings as last about this long
    training: float  # seconds: a training that lasts longer is no round (but see rows.LONGER)
    budget: float  # seconds for all rounds of a row; its first round is always run
    repeats: float  # seconds for rounds that are done again, times the rows of a workload
    probe_seconds: float  # of one case of a probe in one round, about
    largest_batch: int  # of the probe of batch sizes
    training_seconds: float  # of each row that is trained for its quality
    trained_groups: tuple[str, ...] = ()  # whose quality is measured; (): of all
    slow: bool = True  # also the quality of what takes seconds a step or to compile
    full: bool = False  # every workload and every row on it, a wide model's density, Pareto front


EFFORTS = {
    "quick": Effort(3, 0.1, 1.0, 5.0, 0.3, 0.003, 64, 0.1, ("hand-derived", "SIMD"), slow=False),
    "default": Effort(7, 0.15, 0.5, 14.0, 2.0, 0.015, 256, 1.0, slow=False),
    "full": Effort(15, 0.5, 6.0, 100.0, 6.0, 0.03, 1024, 1.0, full=True),
}
