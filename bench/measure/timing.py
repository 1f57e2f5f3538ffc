"""How everything is timed: rows, probes, gates, two commits.

Runs grow until they are long enough to be timed (warm_up, which also says how fast the subject is);
subjects take turns, every other round in the opposite order, so that a drift of the machine hits
all alike (turn); where a whole training is too much, slices of it are in the middle of equal shares
(middles), since a step costs less the further a training is; and time is divided by positions,
since documents differ in length (per_sample).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

LONG = 0.05  # seconds: a run of a warm-up that lasts as long need not grow
SLOW = 0.1  # seconds: a run that lasts as long ends a warm-up whose time is over
EARLY = 0.9  # of its time: a training that is over before has too few steps


def warm_up(
    run: Callable[[int], float], seconds: float, *, least: int = 0, most: int | None = None
) -> float:
    """Runs 1, 2, 4 and so on steps, until they are `least` and have lasted `seconds` together.

    `run` returns the seconds that its steps took. Returned are those of one step of the last run.
    With `most`, a run has at most so many steps, and the first that has them is the last.
    """
    elapsed, done, steps = 0.0, 0, 1
    while True:
        took = run(steps)
        elapsed += took
        done += steps
        if steps == most or (elapsed >= seconds and (done >= least or took > SLOW)):
            return max(took, 1e-9) / steps
        if took < LONG:
            steps = 2 * steps if most is None else min(2 * steps, most)


def steps_for(seconds: float, per_step: float, most: int) -> int:
    """Steps that last about `seconds`: 1 to `most`."""
    return min(most, max(1, round(seconds / per_step)))


def turn(subjects: Sequence[T], index: int) -> Sequence[T]:
    """The order of a round."""
    return subjects[:: -1 if index % 2 else 1]


def middles(num_steps: int, count: int, length: int) -> list[int]:
    """First steps of `count` slices of a training, each of `length` steps amid its share."""
    share = num_steps // count
    return [i * share + (share - length) // 2 for i in range(count)]


def per_sample(seconds: float, positions: int, mean_positions: float) -> float:
    """Seconds per sample of the corpus, from those of some documents and their positions."""
    return seconds / positions * mean_positions


def more_steps(steps: int, seconds: float, wanted: float) -> int:
    """Steps for a training of `wanted` seconds, after one that took `seconds`; the same unless that
    was over early."""
    return round(steps * wanted / seconds) if 0 < seconds < EARLY * wanted else steps
