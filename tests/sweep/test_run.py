"""All trials, in processes of this machine."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys

import pytest

import pymicrogpt as mg
from pymicrogpt import sweep
from pymicrogpt.sweep import Space, SweepError, pool
from pymicrogpt.sweep.trial import Data, key, run_trial

from .common import HELD_OUT, QUICK, TRAIN, in_this_process, kills_its_process, posix, without_times


def test_run_keeps_every_row_and_runs_nothing_twice(tmp_path):
    space = Space.grid(n_embd=[8, 9, 8], learning_rate=[0.01, 0.02], seeds=2, **QUICK)
    seen = []
    rows = sweep.run(space, TRAIN, HELD_OUT, tmp_path, progress=seen.append)
    assert len(rows) == 8  # n_embd 8 twice is once
    unique = Space(tuple({key(t, ""): t for t in space.trials}.values()))
    assert [without_times(row) for row in rows] == in_this_process(unique)
    failed = [row for row in rows if row["error"]]
    assert {row["settings"]["n_embd"] for row in failed} == {9}
    assert "ValueError: n_embd must be divisible by n_head" in failed[0]["error"]
    for row in rows:
        if not row["error"]:
            assert [point[0] for point in row["curve"]] == [10, 20, 30, 40]
            assert row["curve"][-1][1:] == [row["train_seconds"], row["held_out_loss"]]
    assert [(p.done, p.total) for p in seen] == [(i, 8) for i in range(9)]
    assert seen[0].share == 0 and seen[-1].share == pytest.approx(1)
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert {json.loads(line)["key"] for line in lines} == {row["key"] for row in rows}
    assert len(lines) == 8

    def nothing(progress):
        assert progress.row is None, "ran again"

    assert sweep.run(space, TRAIN, HELD_OUT, tmp_path, progress=nothing) == rows
    again = []
    sweep.run(
        space,
        TRAIN,
        HELD_OUT,
        tmp_path,
        retry_failed=True,
        progress=lambda progress: progress.row and again.append(progress.row["key"]),
    )
    assert sorted(again) == sorted(row["key"] for row in failed)


def test_a_folder_holds_trials_of_one_text_alone(tmp_path):
    """As losses on other documents do not compare, and there is one best model."""
    first = sweep.run(Space.grid(n_embd=[8, 16], **QUICK), TRAIN, HELD_OUT, tmp_path, workers=1)
    there = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    message = "has 2 trials on another text or another split of it, .*; choose another out_dir"
    for train, held_out in ((HELD_OUT, TRAIN), mg.Corpus._embedded("for tests").split(0.3)):
        with pytest.raises(SweepError, match=message):
            sweep.run(Space.grid(n_embd=8, **QUICK), train, held_out, tmp_path, workers=1)
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == there

    [row] = sweep.run(Space.grid(n_embd=12, **QUICK), TRAIN, HELD_OUT, tmp_path, workers=1)
    assert sorted(r["key"] for r in sweep.load(tmp_path)) == sorted(r["key"] for r in [*first, row])


def test_progress_has_the_best_of_all_trials_in_the_folder(tmp_path):
    def best(space):
        seen = []
        sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=1, progress=seen.append)
        return seen

    good, bad = Space.grid(**QUICK), Space.grid(**{**QUICK, "num_steps": 1})
    first, last = best(good)
    assert first.best is None and last.best == last.row["held_out_loss"]
    assert [p.best for p in best(bad)] == [last.best, last.best]
    both = Space((*good.trials, *bad.trials))
    assert [(p.done, p.best) for p in best(both)] == [(2, last.best)]


@posix
def test_a_trial_that_kills_its_process_takes_no_other_with_it(tmp_path, monkeypatch):
    deaths = tmp_path / "deaths"
    monkeypatch.setenv("SWEEP_TEST_DEATHS", str(deaths))
    space = Space.grid(learning_rate=[0.01, 0.02], seeds=4, **QUICK)
    data = Data(TRAIN, HELD_OUT)
    rows = list(pool.run_local(kills_its_process, space.trials, data, 2))
    assert len(rows) == 8
    assert len(deaths.read_text()) == 2 * pool.DEATHS
    for row in rows:
        if row["settings"]["seed"] == 43:
            assert "its worker process died" in row["error"]
        else:
            assert not row["error"]
    assert not multiprocessing.active_children()


@posix
def test_a_worker_that_is_killed_from_outside_costs_no_trial(tmp_path):
    space = Space.grid(learning_rate=[0.01, 0.02], seeds=10, **QUICK)

    def kill_one(progress):
        if progress.done in (3, 11):
            random.choice(multiprocessing.active_children()).kill()

    rows = sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=2, progress=kill_one)
    assert [without_times(row) for row in rows] == in_this_process(space)


def hears_ctrl_c(settings, digest):
    os.kill(os.getpid(), signal.SIGINT)
    return run_trial(settings, digest)


@posix
def test_workers_leave_ctrl_c_to_the_parent():
    space = Space.grid(seeds=2, **QUICK)
    rows = pool.run_local(hears_ctrl_c, space.trials, Data(TRAIN, HELD_OUT), 1)
    assert [row["error"] for row in rows] == [None, None]


def test_workers_are_busy(tmp_path):
    space = Space.grid(num_steps=[2000, 3000], seeds=6)
    rows = sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=2)
    # 0.98 or more on an idle machine. Elsewhere the workers wait for the process that feeds them,
    # but with one of them idle it would be near 0.5.
    assert sweep.busy_fraction(rows, 2) > 0.75


def test_without_the_main_guard_it_says_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import pymicrogpt as mg\nfrom pymicrogpt import sweep\n"
        "corpus = mg.Corpus.from_documents(['ab', 'ba'])\n"
        "sweep.run(sweep.Space.grid(), corpus, corpus, 'out')\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode
    assert 'must stand below `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]
