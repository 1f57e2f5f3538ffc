"""The time that a run has left, as it is told."""

from __future__ import annotations

import pytest

from bench.measure.time_left import TimeLeft


def test_the_pace_of_what_is_over_is_that_of_what_comes():
    now = [0.0]
    left = TimeLeft(clock=lambda: now[0])
    left.planned = {"d16": 60.0, "d64": 120.0, "probes": 60.0}
    assert left.seconds == 240.0
    left.begin("d16")
    now[0] = 30.0
    assert left.seconds == 210.0
    left.left_of_stage(90.0)  # known better now
    assert left.seconds == 270.0
    now[0] = 120.0
    left.begin("d64")  # d16 took twice what was planned
    assert left.seconds == pytest.approx(2 * 180.0)
    assert str(left) == "about 6 min left"
    now[0] = 360.0
    left.begin("probes")
    now[0] = 470.0
    assert str(left) == "less than a minute left"
    now[0] = 900.0  # longer than thought: never below zero
    assert left.seconds == 0.0


def test_what_was_not_planned_says_nothing():
    assert str(TimeLeft()) == ""
