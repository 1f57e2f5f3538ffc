"""Rows: checked while they are timed, over whole trainings."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.measure.checked import CheckedSession
from bench.measure.effort import EFFORTS
from bench.measure.machine import peak_memory
from bench.measure.neighbour import (
    Neighbour,
    around,
    incomplete,
    look_around,
    paces,
    repeat,
)
from bench.measure.process import Worker
from bench.measure.rows import BASELINE_WEIGHT, Measurement, run_workload, verified_at_once
from bench.results import BASELINE, ENOUGH_ROUNDS, Row, quiet_rounds
from bench.task.task import Task
from bench.task.workload import WORKLOADS
from bench.variants.variant import Variant, load_variants

pytestmark = pytest.mark.usefixtures("small_corpus")


@pytest.fixture
def task(tmp_path) -> Task:
    import pymicrogpt

    return Task.prepare(WORKLOADS["d16"], 1, pymicrogpt.Corpus.load(), tmp_path)


def test_a_run_over_more_than_a_training_stays_right(task):
    session = CheckedSession(load_variants()["tape32"], task)
    assert session.run(990)["loss_last_step"] == 990
    reply = session.run(30)  # 10 steps end the training, and 20 are held against the truth again
    assert (reply["steps"], reply["loss_first_step"], reply["loss_last_step"]) == (30, 951, 1000)
    assert session.step == 20
    assert reply["positions"] == task.positions(990, 10) + task.positions(0, 20)


def test_ctrl_c_leaves_no_clock_of_an_answer_that_nobody_waits_for(monkeypatch):
    def interrupted(timer: threading.Timer, start=threading.Timer.start) -> None:
        start(timer)
        raise KeyboardInterrupt

    def clocks() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if isinstance(t, threading.Timer)]

    with Worker(["-c", "input()"], {}, 60.0) as worker:
        before = set(clocks())
        monkeypatch.setattr(threading.Timer, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.wait()
    left = set(clocks()) - before
    for clock in left:
        clock.join(10.0)
    assert not [clock for clock in left if clock.is_alive()]


def test_a_row_that_was_stopped_as_its_process_started_has_none(task):
    row = Row("scalar", "", "", "d16", 1)
    measurement = Measurement(row, load_variants()["scalar"], task, EFFORTS["quick"], [])
    measurement.stop()
    measurement.verify()
    assert (row.status, row.info, measurement.worker) == ("ok", {}, None)


def test_a_restart_is_untimed_and_trains_the_same_steps_again(task):
    session = CheckedSession(load_variants()["tape32"], task)
    assert session.run(60)["loss_last_step"] == 60
    losses = list(session.losses)
    session.restart()
    reply = session.run(60)
    assert session.losses == losses
    assert (reply["loss_first_step"], reply["loss_last_step"]) == (11, 60)
    assert reply["positions"] == task.positions(0, 60)


def test_a_worker_starts_again_or_goes_on(task):
    job = {"variant": "tape32", "task": str(task.file), "extra": []}
    with Worker(["-m", "bench.measure.checked"], job, 60.0) as worker:
        assert "paces" not in worker.ask(steps=1)  # nobody asks how disturbed a warm-up is
        replies = [worker.ask(steps=60, restart=restart) for restart in (True, True, False)]
        assert all(reply["paces"]["steps"] > 0 for reply in replies)
    assert [reply["loss_last_step"] for reply in replies] == [60, 60, 120]
    assert replies[0]["loss"] == replies[1]["loss"]


def test_a_long_round_is_disturbed_by_who_is_there_before_and_after():
    quiet, busy = {"adds": 100.0, "steps": 90.0}, {"adds": 70.0, "steps": 95.0}
    assert around(quiet, busy, 0.2) == {"adds": 70.0, "steps": 90.0}
    assert around(quiet, busy, 2.0) == {"adds": 100.0, "steps": 95.0}
    assert around(busy, busy, 2.0) == busy


class Scripted:
    """A worker whose steps take a time each, and who remembers what was asked for."""

    def __init__(self, seconds):
        self.seconds, self.asked = seconds, []

    def ask(self, steps, restart):
        self.asked.append((steps, restart))
        shape = {"loss": 2.0, "loss_first_step": 1, "loss_last_step": steps}
        counts = {"steps": steps, "documents": steps, "positions": 7 * steps}
        return {"seconds": steps * self.seconds, **counts, **shape}


def test_the_baseline_has_the_rounds_that_an_interval_needs(task):
    rounds, steps = {}, {}
    for name in (BASELINE, "other"):
        variant = Variant(name, name, "pure Python", lambda task: None, steady=True, warmup=0.0)
        row = Row(name, name, "pure Python", "d16", 1, steady=True)
        measurement = Measurement(row, variant, task, EFFORTS["default"], [])
        measurement.worker = Scripted(5.0)
        for _ in range(EFFORTS["default"].rounds):
            measurement.measure()
        rounds[name] = len(row.rounds)
        steps[name] = measurement.worker.asked[-1][0]
    assert steps == {BASELINE: 2, "other": 1}  # one document may take a tenth more or less
    assert rounds[BASELINE] >= ENOUGH_ROUNDS
    assert rounds["other"] == 2  # within the budget


@pytest.mark.parametrize(
    ("seconds", "steady", "asked", "rounds", "coverage"),
    [
        (1e-5, False, (50_000, True), 3, 1.0),  # whole trainings, as many as fill a round
        (1e-3, False, (1000, True), 3, 1.0),  # one is longer than a round
        (1.5e-3, False, (1000, True), 3, 1.0),  # beyond the budget: an interval needs them all
        (4e-3, False, (256, True), 3, 0.256),  # too long for a round: its first steps
        (4e-3, True, (125, False), 3, 0.125),  # goes on, whatever the training
        (1e-1, True, (8, False), 3, 0.008),
    ],
)
def test_rounds_are_whole_trainings_from_initialisation(
    seconds, steady, asked, rounds, coverage, task
):
    variant = Variant("v", "v", "other", lambda task: None, steady=steady)
    row = Row("v", "v", "other", "d16", 1, steady=steady)
    effort = replace(EFFORTS["default"], rounds=3, round_seconds=0.5, training=3.2, budget=3.2)
    measurement = Measurement(row, variant, task, effort, [])
    measurement.worker = Scripted(seconds)
    measurement._calibrate(per_step=seconds)
    for _ in range(effort.rounds):
        measurement.measure()
    assert measurement.worker.asked == [asked] * rounds
    assert row.coverage == coverage
    assert row.values == pytest.approx([seconds / 7 * task.mean_positions] * rounds)


def test_a_training_whose_steps_get_cheaper_may_be_longer(task):
    effort = replace(EFFORTS["default"], rounds=7, round_seconds=0.2, training=1.0, budget=3.0)
    steps = {}
    for skips in (False, True):
        row = Row("v", "v", "SIMD", "d16", 1)
        variant = Variant("v", "v", "SIMD", lambda task: None, skips_zeros=skips)
        measurement = Measurement(row, variant, task, effort, [])
        measurement._calibrate(per_step=3e-3)
        steps[skips] = measurement.steps, measurement.budget >= 6 * 3.0
    assert steps == {False: (128, False), True: (1000, True)}


class Clock:
    """In place of the module time: it goes on by what is slept, and by rounds."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    for module in ("rows", "neighbour"):
        monkeypatch.setattr(f"bench.measure.{module}.time", found)
    return found


class Disturbed(Scripted):
    """A worker with paces of each of its rounds: multiply-adds, and steps of the short training."""

    def __init__(self, seconds, paces, clock):
        super().__init__(seconds)
        self.paces, self.clock = iter(paces), clock

    def ask(self, steps, restart):
        self.clock.sleep(steps * self.seconds)
        found = dict(zip(("multiply-adds", "steps"), next(self.paces), strict=True))
        return super().ask(steps, restart) | {"paces": found}


def disturbed(task, clock, paces, per_step=1e-3):
    """Three rounds of a training each, with these paces and then others."""
    variant = Variant("v", "v", "other", lambda task: None)
    row = Row("v", "v", "other", "d16", 1)
    effort = replace(EFFORTS["quick"], budget=100.0, training=10.0)
    highest = Neighbour(highest={"multiply-adds": 9.0, "steps": 100.0})
    measurement = Measurement(row, variant, task, effort, [], neighbour=highest)
    measurement.worker = Disturbed(per_step, paces, clock)
    measurement._calibrate(per_step)
    for _ in range(3):
        measurement.measure()
    return measurement


def shares_of(measurement):
    return [done.peak_share for done in measurement.row.rounds]


def test_a_round_of_the_baseline_shares_out_its_budget(task):
    """At the edge of a shorter one it would train other documents in another run."""
    steps = {}
    for name in (BASELINE, "other"):
        row = Row(name, name, "pure Python", "d16", 1, steady=True)
        variant = Variant(name, name, "pure Python", lambda task: None, steady=True, warmup=0.0)
        measurement = Measurement(row, variant, task, EFFORTS["default"], [])
        measurement._calibrate(per_step=0.09)
        steps[name] = measurement.steps
    assert steps == {BASELINE: 16, "other": 8}


def test_the_better_one_of_a_disturbed_round_and_its_repetition_is_kept(task, clock):
    paces = [(9.0, 100.0), (9.0, 60.0), (7.0, 80.0), (8.9, 55.0), (9.0, 97.0), (3.0, 99.0)]
    measurement = disturbed(task, clock, paces)
    assert shares_of(measurement) == pytest.approx([1.0, 0.6, 7 / 9], abs=1e-3)
    measurement.worker.seconds = 2e-3
    found = []
    for _ in range(3):
        measurement.repeat()
        found.append(shares_of(measurement))
    assert found[0] == pytest.approx([1.0, 0.6, 7 / 9], abs=1e-3)  # 0.55 is no better
    assert found[1] == pytest.approx([1.0, 0.97, 7 / 9], abs=1e-3)
    assert found[2] == found[1]
    assert [r.activity.get("repeats", 0) for r in measurement.row.rounds] == [0, 2, 1]
    assert [r.seconds for r in measurement.row.rounds] == [1.0, 2.0, 1.0]
    values = [m / 7 * task.mean_positions for m in (1e-3, 2e-3, 1e-3)]
    assert measurement.row.values == pytest.approx(values)
    assert incomplete(measurement)


def test_disturbed_rounds_are_done_again_when_nobody_is_there(task, clock):
    loud, quiet = (9.0, 50.0), (9.0, 100.0)
    rows = [
        disturbed(task, clock, [loud, quiet, quiet, quiet]),
        disturbed(task, clock, [loud, loud, quiet, loud, quiet, quiet]),
    ]
    looks = iter([0.5, 0.5, 0.9, 0.5, 0.9, 0.9, 0.9])
    told, left = [], []

    def tell(row, remaining):
        told.append(row)
        left.append(remaining)

    neighbour = Neighbour(lambda: {"steps": 100.0 * next(looks)}, {"steps": 100.0})
    repeat(rows, 0.5, neighbour, tell)
    assert (told, left) == ([], [])  # no time for a round
    repeat(rows, 10.0, neighbour, tell)
    assert [shares_of(row) for row in rows] == [[1.0] * 3] * 2
    assert next(looks, None) is None
    assert {rows.index(row) for row in told} == {0, 1}
    assert left == pytest.approx([10.0, 9.9, 9.8, 8.8, 8.7, 7.7, 6.7])
    repeat(rows, 10.0, neighbour, tell)  # of none it is not even asked who is there


def test_rows_share_the_time_for_rounds_that_are_done_again(task, clock):
    loud = [(9.0, 50.0)] * 20
    long, short = (disturbed(task, clock, loud, per_step) for per_step in (4e-3, 1e-3))
    nobody = Neighbour(lambda: {"steps": 100.0}, {"steps": 100.0})
    repeat([long, short], 12.0, nobody)
    assert (long.repeated, short.repeated) == (4.0, 8.0)  # no time for another long one
    assert len(short.worker.asked) == 3 + 8


def test_the_baseline_may_take_more_of_that_time(task, clock):
    base, other = (disturbed(task, clock, [(9.0, 50.0)] * 30) for _ in range(2))
    base.weight = BASELINE_WEIGHT
    repeat([base, other], 12.0, Neighbour(lambda: {"steps": 100.0}, {"steps": 100.0}))
    assert (base.repeated, other.repeated) == (11.0, 1.0)
    for name in ("cpython", "autovec"):
        found = Measurement(base.row, load_variants()[name], task, EFFORTS["quick"], [])
        assert found.weight == (BASELINE_WEIGHT if name == BASELINE else 1)


def test_rounds_of_rows_that_have_too_few_others_are_first_to_be_done_again(task, clock):
    loud, quiet = (9.0, 50.0), (9.0, 100.0)
    short = disturbed(task, clock, [quiet, quiet, loud, quiet])
    long = disturbed(task, clock, [quiet, loud, loud, quiet, quiet], per_step=2e-3)
    nobody = Neighbour(lambda: {"steps": 100.0}, {"steps": 100.0})
    repeat([short, long], 2.5, nobody)
    found = [quiet_rounds(row.peak_shares) for row in (short, long)]
    assert found == [2, 2]  # then there was no time for the other


def test_of_a_neighbour_who_stays_only_so_much_is_waited_for(task, clock):
    row = disturbed(task, clock, [(9.0, 50.0)] * 3)
    began = clock.now
    repeat([row], 5.0, Neighbour(lambda: {"steps": 50.0}, {"steps": 100.0}))
    assert clock.now - began == pytest.approx(4.0, abs=0.2)  # no round fits in what is left
    assert len(row.worker.asked) == 3 and incomplete(row)


def test_shares_are_of_the_highest_pace_so_far():
    neighbour = Neighbour(highest={"steps": 2.0})
    assert neighbour.share({"steps": 1.0}) == 0.5
    assert neighbour.share({"steps": 4.0}) == 1.0
    assert neighbour.share({"steps": 2.0}) == 0.5
    assert neighbour.share({}) == 1.0
    assert not Neighbour().is_there()  # nothing is known


def test_what_a_core_can_do_is_measured_again_and_again():
    neighbour = look_around()
    assert 0 < neighbour.share(paces()()) <= 1.0


def test_the_clock_and_the_peak_are_of_a_processor():
    from pymicrogpt import _core

    assert 0 < _core.clock_rate() < 10e9
    with pytest.raises(ValueError, match="runs must be at least 1"):
        _core.clock_rate(0)
    for info in _core.engines():
        if info["simd"] and info["available"]:
            assert 0 < _core.fma_rate(info["name"]) < 1e12
            with pytest.raises(ValueError, match="runs must be at least 1"):
                _core.fma_rate(info["name"], 0)
    with pytest.raises(ValueError, match="has no vectors of its own"):
        _core.fma_rate("tape")


SLOW = """
from bench.variants.sessions import EngineSession
from bench.variants.variant import Variant
import time

class Slow(EngineSession):
    def run(self, steps):
        losses, seconds = super().run(steps)
        return losses, seconds + 0.002 * steps

VARIANTS = [Variant("slow", "Slow", "other", lambda task: Slow("tape32", task), batches=(1,))]
"""


def test_what_is_too_slow_for_a_size_is_let_go_and_says_so(task, tmp_path):
    file = tmp_path / "slow.py"
    file.write_text(SLOW, encoding="utf-8")
    variant = load_variants([str(file)])["slow"]
    rows = [Row("slow", "Slow", "other", "d16", 1) for _ in range(2)]
    effort = replace(EFFORTS["quick"], rounds=1)
    limits = (1e-3, np.inf)
    found = [Measurement(row, variant, task, effort, [str(file)], limit)
             for row, limit in zip(rows, limits, strict=True)]  # fmt: skip
    told = []
    run_workload(found, effort, lambda *_: None, told.append)
    assert rows[0].status == "skipped"
    assert "ms a sample: what takes over a millisecond" in rows[0].reason
    assert not rows[0].values
    assert len(rows[1].values) == 1
    assert told == [pytest.approx(found[1].round_seconds)]


MEETING = """
from pathlib import Path
from bench.variants.sessions import EngineSession
from bench.variants.variant import Variant
import time

def of(own, other):
    def open(task):
        Path({folder!r}, own).touch()
        end = time.monotonic() + 30
        while not Path({folder!r}, other).exists():
            if time.monotonic() > end:
                raise RuntimeError("the other has not begun")
            time.sleep(0.01)
        return EngineSession("tape32", task)
    return Variant(own, own, "other", open, batches=(1,))

VARIANTS = [of("romeo", "juliet"), of("juliet", "romeo")]
"""


@pytest.mark.skipif(verified_at_once() < 2, reason="needs two cores")
def test_rows_are_verified_side_by_side(task, tmp_path):
    file = tmp_path / "meeting.py"
    file.write_text(MEETING.format(folder=str(tmp_path)), encoding="utf-8")
    variants = load_variants([str(file)])
    effort = replace(EFFORTS["quick"], rounds=1)
    rows = [Row(name, name, "other", "d16", 1) for name in ("romeo", "juliet")]
    run_workload(
        [Measurement(row, variants[row.variant], task, effort, [str(file)]) for row in rows],
        effort,
        lambda *_: None,
    )
    assert [(row.status, row.reason, len(row.values)) for row in rows] == [("ok", "", 1)] * 2


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_peak_memory_is_that_of_the_program_and_not_of_its_parent():
    ballast = np.ones(25_000_000)  # 200 MB; getrusage of the child would count them
    command = [sys.executable, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        child.stdout.readline()  # it has begun
        assert 1_000_000 < peak_memory(child.pid) < 100_000_000
        child.communicate(b"\n")
    assert peak_memory(os.getpid()) > ballast.nbytes
