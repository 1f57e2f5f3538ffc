"""`bench compare` finds a slowdown and does not invent one, on a machine as noisy as they come."""

from __future__ import annotations

import random
import shutil
from itertools import product
from pathlib import Path

import pytest

import pymicrogpt as mg
from bench.__main__ import main
from bench.command import Refused
from bench.guard import compare
from bench.guard.compare import (
    ORDER,
    PLACES,
    TRAINING,
    Case,
    Comparison,
    Sides,
    conclusion,
    markdown,
    rows,
)
from bench.report.part import text_of
from pymicrogpt import _core

CASES = [Case(engine, n_embd, 16) for engine in ("avx2", "scalar", "tape32") for n_embd in (16, 64)]


class Noise:
    """A shared machine: slices are up to half again as long, one in six is preempted, speed drifts
    between rounds, and one process in sixteen is a third slower throughout."""

    def __init__(self, seed: int, slower: dict[Case, float]):
        self.random = random.Random(seed)
        self.slower = slower  # how many times longer head takes; 1 where it is not named

    def __call__(self, cases):
        drift = self.random.uniform(0.8, 2.0)
        luck = [1.33 if self.random.random() < 1 / 16 else 1.0 for _ in range(2)]
        slices = {}
        for case in cases:
            times = [[], []]
            for place, side in product(range(PLACES), ORDER):
                if len(times[side]) == place:
                    times[side].append([])
                seconds = drift * luck[side] * (self.slower.get(case, 1.0) if side else 1.0)
                seconds *= 1 + self.random.betavariate(1, 6) / 2
                seconds += self.random.expovariate(1) if self.random.random() < 1 / 6 else 0.0
                times[side][place].append(seconds)
            slices[case] = times
        return slices


def verdicts(seed, slower, limit=5.0):
    found = compare.compare(CASES, Noise(seed, slower), limit, lambda: False)
    return {c.case: c.verdict for c in found}, any(c.fails for c in found)


def test_identical_commits_pass_every_time():
    for seed in range(20):
        found, fails = verdicts(seed, {})
        assert not fails, (seed, found)
        assert set(found.values()) <= {"same", "unclear"}


def test_a_slowdown_of_a_tenth_is_found_every_time_and_nothing_else():
    for seed in range(20):
        found, fails = verdicts(seed, {CASES[1]: 1.10})
        assert fails, (seed, found)
        assert [case for case, verdict in found.items() if verdict == "slower"] == [CASES[1]]


def test_a_gain_is_no_failure():
    found, fails = verdicts(1, {CASES[0]: 1 / 1.2})
    assert found[CASES[0]] == "faster" and not fails


def test_rounds_go_on_while_a_verdict_is_unclear_and_there_is_time():
    rounds = []
    slowdown = {CASES[0]: 1.05}  # right at the limit: never clear
    noise = Noise(8, slowdown)

    def measure(cases):
        rounds.append(list(cases))
        return noise(cases)

    compare.compare(CASES, measure, 5.0, lambda: False)
    assert all(cases == CASES for cases in rounds[: compare.LEAST_ROUNDS])
    assert rounds[-1] == [CASES[0]] and len(rounds) > compare.LEAST_ROUNDS
    rounds.clear()
    compare.compare(CASES, measure, 5.0, lambda: True)
    assert len(rounds) == 3


def test_an_engine_that_is_gone_fails_and_a_new_one_does_not():
    sides = {"avx2": [[[1.0]], None], "scalar": [None, [[1.0]]], "tape32": [None, None]}
    found = compare.compare(
        CASES, lambda cases: {c: sides[c.engine] for c in cases}, 5.0, lambda: False
    )
    assert [(c.case.engine, c.verdict, c.fails) for c in found] == [
        ("avx2", "gone", True), ("avx2", "gone", True), ("scalar", "new", False),
        ("scalar", "new", False),
    ]  # fmt: skip


def test_tables_say_what_was_found():
    slow = Comparison(CASES[0], 5.0, ratios=[1.1] * 9)
    same = Comparison(CASES[1], 5.0, ratios=[1.0] * 9)
    gone = Comparison(CASES[2], 5.0, missing="head")
    assert conclusion([slow, same, gone], 5.0) == "1 of 3 slower by more than 5 %, 1 gone"
    lines = text_of(rows([slow, same, gone])).splitlines()
    assert lines[1].split() == ["avx2", "d16", "16", "1.100", "1.100", "to", "1.100", "slower"]
    table = markdown([slow, same, gone], "b against a")
    assert "| avx2 | d16 | 16 | 1.100 | 1.100 to 1.100 | **slower** |" in table
    assert "| scalar | d16 | 16 | - | - | **gone** |" in table
    assert all(line.count("|") == 7 for line in table.splitlines()[2:])


class Scripted:
    """A worker that trains at a speed of its own, and remembers the steps of each slice."""

    def __init__(self, seconds):
        self.seconds, self.step, self.runs = seconds, 0, []

    def ask(self, **request):
        if "open" in request:
            assert request["open"]["steps"] == TRAINING
            self.step, self.runs = 0, []
            return {"available": True}
        self.runs.append((self.step, request["run"]))
        self.step += request["run"]
        assert self.step <= TRAINING
        return {"seconds": request["run"] * self.seconds(self.step), "positions": request["run"]}


@pytest.mark.parametrize("speed", [1e-6, 1e-4, 1e-1])
def test_slices_are_spread_evenly_over_a_training_whose_steps_become_cheaper(speed):
    workers = [Scripted(lambda step: speed / (1 + step)), Scripted(lambda step: speed / (1 + step))]
    sides = Sides([])
    for _ in range(2):  # the second knows the steps
        slices = sides.slices(CASES[0], workers)
        each = len(ORDER) // 2
        assert [len(place) for side in slices for place in side] == [each] * PLACES * 2
        assert slices[0] == slices[1]
        for worker in workers:
            timed = [run for i, run in enumerate(worker.runs) if i % (each + 1)]
            for place in range(PLACES):
                mine = timed[place * each :][:each]
                middle = (mine[0][0] + sum(mine[-1])) / 2
                assert abs(middle - TRAINING / PLACES * (place + 0.5)) <= 1


@pytest.mark.parametrize(
    "wrong, words",
    [
        (["HEAD", "--fail", "0"], "argument --fail: must be above 0"),
        (["HEAD", "--engines", "avx3"], "unknown engine avx3"),
        (["HEAD", "--workloads", "d15"], "a multiple of 4"),
    ],
)
def test_bad_arguments_are_named(wrong, words, capsys):
    try:
        code = main(["compare", *wrong])
    except SystemExit as stop:  # argparse
        code = stop.code
    assert code == 2
    assert words in capsys.readouterr().err


def test_an_unknown_commit_is_named(capsys):
    assert main(["compare", "no-such-commit"]) == 2
    assert "no-such-commit" in capsys.readouterr().err


PLANTED = """

def _slowed(run):
    import time

    def slow_run(self, k=None):
        start = time.perf_counter()
        losses = run(self, k)
        end = time.perf_counter() + 0.25 * (time.perf_counter() - start)
        while time.perf_counter() < end:
            pass
        return losses

    return slow_run


Trainer.run = _slowed(Trainer.run)
"""


def test_processes_of_two_builds_are_timed_and_the_slow_one_found(tmp_path):
    sites = [tmp_path / "base", tmp_path / "head"]
    for site in sites:
        shutil.copytree(Path(mg.__file__).parent, site / "pymicrogpt")
        shutil.copy(_core.__file__, site / "pymicrogpt")
    with (sites[1] / "pymicrogpt" / "trainer.py").open("a", encoding="utf-8") as file:
        file.write(PLANTED)
    cases = [Case("autovec", 16, 1), Case("scalar", 16, 16)]
    found = compare.compare(cases, Sides(sites), 5.0, lambda: False)
    assert [c.verdict for c in found] == ["slower", "slower"]
    assert all(1.1 < c.estimate.value < 1.4 for c in found)
    (sites[0] / "pymicrogpt" / "trainer.py").write_text("raise OSError('no')", encoding="utf-8")
    with pytest.raises(Refused, match="OSError: no"):
        compare.compare(cases, Sides(sites), 5.0, lambda: False)
