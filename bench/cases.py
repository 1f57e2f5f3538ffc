"""What probes find, as the result file keeps it: the cases of each probe (Probe.cases), raw values.

Measured by bench/measure, read by bench/report/findings; "seconds" are per sample, one a round.
"peak_shares" are what share of its peak the core could give in each, and "repeats" how many times
one was done again; older files do not tell.
"""

from __future__ import annotations

from typing import TypedDict


class _PeakShares(TypedDict, total=False):
    peak_shares: list[float]
    repeats: int


class PhasesCase(_PeakShares):
    """Where the time of a step goes."""

    batch: int
    phases: dict[str, list[float]]  # by name: seconds per step, one for each profile


class _BatchCase(_PeakShares):
    batch: int
    sharing: bool  # of prefixes
    seconds: list[float]


class BatchCase(_BatchCase, total=False):
    """Time against the batch size."""

    rows_left: float  # where prefixes are shared: distinct ones by positions


class _ThreadsCase(TypedDict):
    batch: int
    one: list[float]  # seconds with one thread
    two: list[float]  # with two, in turns


class ThreadsCase(_ThreadsCase, total=False):
    peak_shares_one: list[float]
    peak_shares_two: list[float]
    repeats_one: int
    repeats_two: int


class DensityCase(TypedDict):
    """Shares of the hidden values and units of a batch over a training, by steps done."""

    n_embd: int
    batch: int
    learning_rate: float
    steps: list[int]
    values: list[float]  # not zero
    units: list[float]  # active in any row
    resting: list[float]  # units that no longer move


class ShapeCase(_PeakShares):
    """A shape that is no workload's."""

    n_layer: int
    n_embd: int
    n_head: int
    block_size: int
    vocab_size: int
    documents: str  # in words
    flops_per_sample: float
    seconds: list[float]


class Point(TypedDict):
    """A point of a training: its losses after some seconds."""

    seconds: float
    steps: int
    train: float
    held_out: float


class QualityCase(_PeakShares):
    """A row, trained for a time."""

    variant: str
    label: str
    group: str
    batch: int
    budget: float  # seconds
    points: list[Point]  # none where it failed
    reason: str  # why it did


class _ParetoCase(TypedDict):
    n_layer: int
    n_embd: int
    block_size: int
    batch: int
    learning_rate: float
    steps: int
    budget: float  # seconds that it was to take
    seconds: float
    held_out: float | None  # loss; None where it diverged


class ParetoCase(_ParetoCase, total=False):
    """A whole training."""

    active: float  # share of the hidden values not zero, the mean over it


class GenerationCase(_PeakShares):
    """What draws documents from a trained model."""

    engine: str  # "": none
    label: str
    rates: list[float]  # tokens per second, one a round


class RepeatabilityCase(TypedDict):
    """A row that the run before had as well."""

    row: str
    group: str
    what: str  # the values are: the speed-up, or microseconds per sample
    before: float
    now: float
    date: str  # of the run before


CASES = {
    "phases": PhasesCase,
    "batch": BatchCase,
    "threads": ThreadsCase,
    "density": DensityCase,
    "shapes": ShapeCase,
    "quality": QualityCase,
    "pareto": ParetoCase,
    "generation": GenerationCase,
    "repeatability": RepeatabilityCase,
}
