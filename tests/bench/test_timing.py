"""The core under everything that is timed."""

from __future__ import annotations

import pytest

from bench.guard.compare import ORDER
from bench.measure.timing import middles, more_steps, per_sample, steps_for, turn, warm_up


class Clock:
    """A subject of which a step takes `seconds`, less for each that was made before."""

    def __init__(self, seconds: float, compiling: float = 0.0):
        self.seconds, self.compiling = seconds, compiling
        self.runs: list[int] = []

    def __call__(self, steps: int) -> float:
        first = self.compiling if not self.runs else 0.0
        self.runs.append(steps)
        return first + steps * self.seconds


def test_runs_grow_until_they_can_be_timed_and_the_last_says_the_speed():
    clock = Clock(1e-3, compiling=1e-3)
    assert warm_up(clock, 0.1) == pytest.approx(1e-3)
    assert clock.runs == [1, 2, 4, 8, 16, 32, 64]  # 128 ms with what came first
    clock = Clock(0.04)
    warm_up(clock, 0.3)
    assert clock.runs == [1, 2, 2, 2, 2]  # 80 ms are long enough to be timed


def test_a_warm_up_has_its_least_steps_but_of_a_slow_subject():
    clock = Clock(1e-3)
    warm_up(clock, 0.0, least=20)
    assert clock.runs == [1, 2, 4, 8, 16]
    slow = Clock(0.5)
    assert warm_up(slow, 0.3, least=20) == 0.5
    assert slow.runs == [1]


def test_a_warm_up_ends_with_the_first_run_that_is_as_long_as_may_be():
    clock = Clock(1e-6)
    warm_up(clock, 1.0, most=10)
    assert clock.runs == [1, 2, 4, 8, 10]
    assert warm_up(lambda steps: 0.0, 1.0, most=4) > 0  # a clock that does not move


def test_steps_for_a_time():
    assert steps_for(1.0, 0.3, most=100) == 3
    assert steps_for(1.0, 5.0, most=100) == 1
    assert steps_for(1.0, 1e-9, most=100) == 100


def test_every_other_round_goes_in_the_opposite_order():
    assert [list(turn("abc", index)) for index in range(3)] == [
        list("abc"),
        list("cba"),
        list("abc"),
    ]
    assert ORDER == [0, 1, 1, 0, 0, 1, 1, 0]


@pytest.mark.parametrize(("count", "length"), [(10, 1), (10, 98), (4, 40), (20, 50)])
def test_slices_lie_in_the_middle_of_equal_shares(count, length):
    share = 1000 // count
    for index, first in enumerate(middles(1000, count, length)):
        before, after = first - index * share, (index + 1) * share - first - length
        assert 0 <= before <= after <= before + 1


def test_time_is_by_position():
    assert per_sample(3.0, positions=6, mean_positions=7.0) == 3.5


def test_a_training_that_is_over_early_is_done_again_with_more_steps():
    assert more_steps(1000, seconds=0.5, wanted=1.0) == 2000
    assert more_steps(1000, seconds=0.95, wanted=1.0) == 1000
    assert more_steps(1000, seconds=1.3, wanted=1.0) == 1000
    assert more_steps(0, seconds=0.0, wanted=1.0) == 0
    assert more_steps(7, seconds=0.5, wanted=0.0) == 7  # a steady row
