"""Sweeps: what is tried, what survives a kill, and that local processes and Dask do the same."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import pymicrogpt as mg
from pymicrogpt import cli, sweep
from pymicrogpt.sweep import Range, Space, SweepError, pool, report, trial
from pymicrogpt.sweep.report import table
from pymicrogpt.sweep.run import check_address
from pymicrogpt.sweep.store import Store
from pymicrogpt.sweep.trial import Data, key, receive, run_trial

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and locks")
TRAIN, HELD_OUT = mg.Corpus._embedded("for tests").split(0.2)
QUICK = {"num_steps": 40, "batch_size": 4, "evals": 4}


def without_times(row):
    """What two runs of one trial must have in common, to the bit."""
    result = {k: row[k] for k in ("key", "engine", "num_steps", "error", "held_out_loss")}
    return {**result, "train": row["train_loss"], "curve": [(p[0], p[2]) for p in row["curve"]]}


def in_this_process(space):
    data = Data(TRAIN, HELD_OUT)
    receive(data)
    return [without_times(run_trial(settings, data.digest)) for settings in space.trials]


# -- what is tried --


def test_grid_has_every_combination_with_all_settings():
    space = Space.grid(learning_rate=[0.003, 0.01], n_embd=[16, 32], n_layer=2, seeds=3)
    assert len(space) == 12
    assert {(t["learning_rate"], t["n_embd"], t["seed"]) for t in space.trials} == {
        (rate, width, seed) for rate in (0.003, 0.01) for width in (16, 32) for seed in (42, 43, 44)
    }
    assert all(t["n_layer"] == 2 and t["num_steps"] == 1000 for t in space.trials)
    assert space.varied == ["n_embd", "learning_rate", "seed"]


def test_random_draws_begin_alike_and_stay_inside():
    axes = {"learning_rate": Range(1e-3, 1e-1), "n_embd": Range(8, 40), "n_head": [1, 2, 4]}
    few, many = Space.random(20, **axes), Space.random(200, **axes)
    assert many.trials[:20] == few.trials
    assert Space.random(20, **axes, draw_seed=1) != few
    rates = sorted(t["learning_rate"] for t in many.trials)
    assert rates[0] >= 1e-3 and rates[-1] <= 1e-1
    # Evenly over the logarithm: half of them below 0.01, up to 6 standard deviations.
    below = sum(rate < 1e-2 for rate in rates)
    assert abs(below - 100) < 6 * math.sqrt(200 / 4)
    widths = {t["n_embd"] for t in many.trials}
    assert widths <= set(range(8, 41)) and {type(w) for w in widths} == {int}
    assert all(t["n_embd"] % t["n_head"] == 0 for t in many.trials)


def test_equal_values_of_another_type_are_the_same_trial():
    import numpy as np

    plain = Space.grid(n_embd=16, learning_rate=1.0).trials[0]
    other = Space.grid(n_embd=np.int64(16), learning_rate=1).trials[0]
    assert key(plain, "x") == key(other, "x")
    assert key(plain, "x") != key(plain, "y")
    assert key(plain, "x") != key({**plain, "seed": 1}, "x")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space.grid(n_embed=[16]), "'n_embed' is no setting; there are n_layer, n_embd"),
        (lambda: Space.grid(n_embd=[16, "32"]), "n_embd must be an integer, not '32'"),
        (lambda: Space.grid(n_embd=[]), "n_embd has no values"),
        (lambda: Space.grid(learning_rate=float("nan")), "learning_rate must be finite"),
        (lambda: Space.grid(learning_rate=Range(0.1, 1)), "only a random space can draw"),
        (lambda: Space.grid(num_steps=5, seconds=1), "num_steps or seconds, not both"),
        (lambda: Space.grid(seconds=0), "seconds must be greater than 0"),
        (lambda: Space.grid(evals=0), "evals must be at least 1"),
        (lambda: Space.grid(seeds=0), "seeds must be at least 1"),
        (lambda: Space.grid(seed=1), "seed is no axis: give seeds"),
        (lambda: Data(["ab"], HELD_OUT), "train must be a Corpus, not list"),
        (lambda: Data(HELD_OUT, mg.Corpus.from_documents(["!"])), "held_out has '!', which no"),
        (lambda: Space.random(0), "trials must be at least 1"),
        (lambda: Space.random(1, n_embd=Range(1.0, 9.0)), "a range of n_embd needs integers"),
        (lambda: Space.random(1, n_embd=[3, 5], n_head=2), "none of 1,000 draws is a shape"),
        (lambda: Range(2, 1), "low < high"),
        (lambda: Range(0, 1), "starts above 0"),
        (lambda: Range("1", 2), "low of a range must be a number"),
    ],
)
def test_bad_input_says_what_is_wrong(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_toml(tmp_path):
    file = tmp_path / "space.toml"
    file.write_text(
        "random = 5\nseeds = 2\n[axes]\nnum_steps = 100\nn_embd = [16, 32]\n"
        "learning_rate = { low = 0.001, high = 0.1 }\nbeta2 = { low = 0.9, high = 1, log = false }"
    )
    space = Space.from_toml(file)
    assert space == Space.random(
        5,
        seeds=2,
        num_steps=100,
        n_embd=[16, 32],
        learning_rate=Range(0.001, 0.1),
        beta2=Range(0.9, 1, log=False),
    )
    changed = Space.from_toml(file, random=7, seconds=2)
    assert len(changed) == 14
    assert {(t["num_steps"], t["seconds"]) for t in changed.trials} == {(None, 2.0)}


def test_toml_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "space.toml"
    file.write_bytes(b"\xef\xbb\xbf[axes]\nn_embd = [16, 32]\n")
    assert len(Space.from_toml(file)) == 2


def test_the_digest_of_a_corpus_is_that_of_its_json(monkeypatch):
    parts = [[list(part.documents), part.block_size] for part in (TRAIN, HELD_OUT)]
    expected = trial.digest(parts)
    assert Data(TRAIN, HELD_OUT).digest == expected
    monkeypatch.setattr(trial, "BLOCK", 7)
    assert Data(TRAIN, HELD_OUT).digest == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [("[]", "it is no JSON object"), ("{}", "it lacks key"), ("nonsense", "it is no JSON")],
)
def test_foreign_lines_are_told_with_what_they_lack(line, reason, tmp_path):
    (tmp_path / "trials.jsonl").write_text(line + "\n")
    with pytest.raises(SweepError, match=f"line 1, is not a trial: {reason}"):
        Store(tmp_path / "trials.jsonl")


def test_damaged_rows_are_told_with_what_they_lack(tmp_path):
    space = Space.grid(**QUICK)
    [row] = sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=1)
    for damaged, reason in (
        ({k: v for k, v in row.items() if k != "curve"}, "that lacks curve"),
        ({**row, "settings": {}}, "with other settings"),
    ):
        (tmp_path / "trials.jsonl").write_text(json.dumps(damaged) + "\n")
        with pytest.raises(SweepError, match=f"has a trial {row['key']} {reason}"):
            sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=1)


def test_the_documented_toml(tmp_path):
    document = Path(__file__).parent.parent / "docs" / "sweeps.md"
    [text] = re.findall(r"```toml\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "space.toml"
    file.write_text(text)
    assert len(Space.from_toml(file)) == 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_embd = 16", "'n_embd' is unknown here; the file has random, draw_seed, seeds and"),
        ("axes = 3", "axes must be a table"),
        ("[axes]\nn_embd = { low = 3 }", "n_embd: a range is"),
        ("[axes]\nwidth = 3", "'width' is no setting"),
        ("[axes\n", "space.toml: .*line 1"),
    ],
)
def test_bad_toml_names_the_file(tmp_path, text, message):
    file = tmp_path / "space.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as info:
        Space.from_toml(file)
    assert str(file) in str(info.value)


# -- the file of results --


def a_row(name, **results):
    return {"key": name, "error": None, **results}


def test_store_leaves_out_a_torn_line_at_any_byte(tmp_path):
    path = tmp_path / "trials.jsonl"
    with Store(path) as store:
        store.append(a_row("a"))
        store.append(a_row("b"))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        with Store(path) as store:
            assert list(store.rows) == ["a"]
            store.append(a_row("c"))
        assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "c"]


@posix
def test_store_refuses_what_is_no_trial_and_a_second_sweep(tmp_path):
    path = tmp_path / "trials.jsonl"
    with Store(path) as store:
        store.append(a_row("a"))
        with pytest.raises(SweepError, match="another sweep is writing"):
            Store(path)
    for line in ("hello", "3", "{}", "\udcff"):
        path.write_bytes(
            b'{"key": "a"}\n' + line.encode(errors="surrogateescape") + b'\n{"key": "b"}\n'
        )
        with pytest.raises(SweepError, match=r"trials.jsonl, line 2, is not a trial"):
            Store(path)


def test_a_full_disk_names_the_file_and_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "trials.jsonl"
    write = os.write
    room = [60]

    def write_while_there_is_room(fd, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(fd, data[: room[0]])
        room[0] -= written
        return written

    with Store(path) as store:
        store.append(a_row("a"))
        monkeypatch.setattr(os, "write", write_while_there_is_room)
        store.append(a_row("b"))
        with pytest.raises(SweepError, match=r"trials.jsonl: No space left"):
            store.append(a_row("c", filler="c" * 60))
        monkeypatch.undo()
    with Store(path) as store:
        assert list(store.rows) == ["a", "b"]


# -- local processes --


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
    # Another corpus is another trial.
    other = sweep.run(Space.grid(n_embd=8, **QUICK), HELD_OUT, TRAIN, tmp_path)
    assert other[0]["key"] not in {row["key"] for row in rows}


def test_a_diverging_trial_is_a_row_with_its_error():
    data = Data(TRAIN, HELD_OUT)
    receive(data)
    [settings] = Space.grid(learning_rate=1e30, num_steps=40, evals=4).trials
    row = run_trial(settings, data.digest)
    assert "diverged" in row["error"]
    json.dumps(row, allow_nan=False)


def test_a_time_budget_becomes_steps():
    data = Data(TRAIN, HELD_OUT)
    receive(data)
    space = Space.grid(seconds=[0.02, 0.4], evals=3)
    short, long = (run_trial(settings, data.digest) for settings in space.trials)
    assert not short["error"] and not long["error"]
    assert long["num_steps"] > 3 * short["num_steps"]  # 20 times, but for noise
    assert long["curve"][-1][0] == long["num_steps"]
    trainer = sweep.retrain(long, TRAIN)
    assert trainer.evaluate(HELD_OUT) == long["held_out_loss"]
    elsewhere = sweep.retrain({**short, "engine": "of another machine"}, TRAIN)
    assert elsewhere.step == short["num_steps"]


def kills_its_process(settings, digest):
    """run_trial, but seed 43 brings down every process that it runs in, and says so before."""
    if settings["seed"] == 43:
        with open(os.environ["SWEEP_TEST_DEATHS"], "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return run_trial(settings, digest)


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


# -- the command --


def command(folder, *more):
    arguments = ["--n-embd", "8,12,16", "--seeds", "12", "--max-steps", "300", *more]
    return [sys.executable, "-m", "pymicrogpt", "sweep", "--out-dir", str(folder), *arguments]


def start(folder, *more):
    """The command in a process group of its own, as a terminal would start it."""
    return subprocess.Popen(
        command(folder, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYMICROGPT_OFFLINE": "1"},
    )


def wait_for_rows(folder, count):
    file = Path(folder) / "trials.jsonl"
    deadline = time.monotonic() + 60
    while not file.exists() or file.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def processes_of_group(group):
    listed = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True).stdout
    rows = (line.split() for line in listed.splitlines())
    return sum(int(pgid) == group and not stat.startswith("Z") for pgid, stat in rows)


def gone(group):
    deadline = time.monotonic() + 20
    while processes_of_group(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@posix
def test_stopped_and_killed_sweeps_go_on(tmp_path):
    folder = tmp_path / "out"
    process = start(folder)
    wait_for_rows(folder, 5)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command again runs the others" in err and "Traceback" not in err
    assert gone(process.pid)

    kept = (folder / "trials.jsonl").read_bytes()
    process = start(folder)
    wait_for_rows(folder, kept.count(b"\n") + 5)
    process.kill()
    process.communicate(timeout=20)  # which the workers that it has left do not keep open
    assert gone(process.pid), "workers outlive the sweep that started them"
    with open(folder / "trials.jsonl", "ab") as file:
        file.write(b'{"key": "to')  # as a kill in the middle of a line leaves it

    process = start(folder)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "of 36 trials are done already" in out
    content = (folder / "trials.jsonl").read_bytes()
    assert content.startswith(kept)
    rows = [json.loads(line) for line in content.splitlines()]
    assert len(rows) == len({row["key"] for row in rows}) == 36
    for name in ("results.csv", "results.parquet", "sweep.png", "best"):
        assert (folder / name).exists(), name
    best = sweep.ranking(rows)[0].rows[0]
    model = mg.GPT.load(folder / "best")
    assert model.config.n_embd == best["settings"]["n_embd"]


def test_command_with_toml_json_and_failures(tmp_path):
    file = tmp_path / "space.toml"
    file.write_text("[axes]\nn_embd = [8, 9]\nnum_steps = 20\nevals = 2\n")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TRAIN.documents[:200]))
    arguments = [str(corpus), "--space", str(file), "--seeds", "2", "--workers", "1"]
    run = [sys.executable, "-m", "pymicrogpt", "sweep", *arguments]
    done = subprocess.run(
        [*run, "--json", "--out-dir", "a"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *trials, end = map(json.loads, done.stdout.splitlines())
    assert len(trials) == 4 and {t["event"] for t in trials} == {"trial"}
    assert end["event"] == "end" and end["failed"] == 2
    assert end["best"]["settings"]["n_embd"] == 8
    done = subprocess.run([*run, "--out-dir", "b"], cwd=tmp_path, capture_output=True, text=True)
    assert "failed: n_embd 9, seed 42: ValueError: n_embd must be" in done.stdout
    done = subprocess.run(
        [*run, "--out-dir", "c", "--n-embd", "9"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert not (tmp_path / "c" / "best").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to vary"),
        (["--n-embd", "16,x"], "integers a,b,c or a range"),
        (["--learning-rate", "0.1..0.01"], "low < high"),
        (["--learning-rate", "0.01..0.1"], "only a random space can draw"),
        (["--max-steps", "5", "--max-seconds", "1"], "num_steps or seconds, not both"),
        (["--space", "nowhere.toml"], "nowhere.toml"),
        (["--workers", "2", "--scheduler", "tcp://x:1"], "not allowed with"),
        (["--n-embd", "8", "--scheduler", "nonsense"], "an address is tcp://host:port"),
        (["--n-embd", "8", "--scheduler", "no://x:1"], "an address is tcp://host:port"),
        (["--n-embd", "8", "--scheduler", "tcp://127.0.0.1:9"], "no Dask scheduler answers at"),
        (["--n-embd", "8", "--scheduler", ""], "--scheduler: must not be empty"),
        (["--engine", ""], "--engine: must not be empty"),
        (["--space", ""], "--space: must not be empty"),
        (["--n-embd", "8", "--out-dir", ""], "--out-dir: must not be empty"),
    ],
)
def test_bad_arguments_are_one_line(tmp_path, arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "pymicrogpt", "sweep", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_in_quick_succession(tmp_path, name):
    number = getattr(signal, name)
    for rows in (0, 3):
        process = start(tmp_path / name)
        wait_for_rows(tmp_path / name, rows)
        for _ in range(5):
            os.killpg(process.pid, number)
            time.sleep(0.01)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number, err
        early = rows == 0 and err == "pymicrogpt sweep: interrupted\n"  # before trials are counted
        assert err.count("\n") == 1
        assert early or "the same command again runs the others" in err
        assert gone(process.pid)


def test_a_server_that_is_no_scheduler_is_told_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answers = threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP/1.1 400"))
        answers.start()
        with pytest.raises(SweepError, match="something else does"):
            check_address(f"tcp://127.0.0.1:{port}")
        answers.join()


def test_a_report_that_fails_says_where_the_trials_are(tmp_path, monkeypatch, capsys):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(TRAIN.documents[:200]))
    monkeypatch.chdir(tmp_path)
    args = ["sweep", str(corpus), "--n-embd", "8", "--max-steps", "20", "--workers", "1"]

    def full(path, content, before=None):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(report, "write_atomically", full)
        assert cli.main(args) == 2
    assert "trials are kept in sweep/trials.jsonl" in capsys.readouterr().err
    assert cli.main(args) == 0
    Path("other/best").parent.mkdir()
    Path("other/best").write_text("mine")
    assert cli.main([*args, "--out-dir", "other"]) == 2
    assert "other/best is not a directory" in capsys.readouterr().err


# -- Dask --


@posix
def test_dask_does_the_same_though_workers_die(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs pip install '.[sweep]'")
    import dask

    from pymicrogpt.sweep.cluster import run_on_cluster

    monkeypatch.setenv("SWEEP_TEST_DEATHS", str(tmp_path / "deaths"))
    space = Space.grid(
        n_embd=[8, 16, 9], learning_rate=[0.01, 0.02], seeds=3, num_steps=200, evals=4
    )
    local = sweep.run(space, TRAIN, HELD_OUT, tmp_path / "local")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
    ):
        address = cluster.scheduler_address
        [victim, _] = [nanny.pid for nanny in cluster.workers.values()]
        killed = []

        def kill(progress):
            if progress.done == 4:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

        rows = sweep.run(
            space, TRAIN, HELD_OUT, tmp_path / "dask", scheduler=address, progress=kill
        )
        assert killed
        assert [without_times(row) for row in rows] == [without_times(row) for row in local]
        assert len({row["worker"] for row in rows if row["worker"]}) >= 2

        # The cluster serves the next sweep, on another corpus, and a trial that no worker survives.
        data = Data(HELD_OUT, HELD_OUT)
        trials = Space.grid(seeds=[42, 43], **QUICK).trials
        found = run_on_cluster(kills_its_process, trials, data, address)
        errors = {row["settings"]["seed"]: row["error"] for row in found}
        assert errors[42] is None
        assert "its workers died" in errors[43]
        assert len((tmp_path / "deaths").read_text()) == 2


def test_no_scheduler_is_told_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="needs pip install '.[sweep]'")
    from pymicrogpt.sweep import cluster

    monkeypatch.setattr(cluster, "PATIENCE", 1)
    for address in ("tcp://127.0.0.1:9", "127.0.0.1", "wrong://host:1"):
        with pytest.raises(SweepError, match="no Dask scheduler answers at"):
            sweep.run(Space.grid(), TRAIN, HELD_OUT, tmp_path, scheduler=address)


# -- what is made of the rows --


def made_up(seed, width, curve, error=None):
    [settings] = Space.grid(seeds=[seed], n_embd=width).trials
    return {
        **{name: None for name in ("num_steps", "engine", "worker", "started", "ended")},
        "key": f"{seed} {width}",
        "settings": settings,
        "num_params": width * 100,
        "train_seconds": curve[-1][1] if curve else None,
        "held_out_loss": curve[-1][2] if curve else None,
        "curve": curve,
        "error": error,
    }


ROWS = [
    made_up(42, 16, [[1, 0.1, 3.0], [2, 0.2, 2.5]]),
    made_up(43, 16, [[1, 0.1, 3.2], [2, 0.2, 2.7]]),
    made_up(42, 32, [[1, 0.2, 2.9], [2, 0.4, 2.1]]),
    made_up(43, 32, [[1, 0.2, 2.9], [2, 0.5, 2.3]]),
    made_up(42, 64, [[1, 0.3, 2.0]]),
    made_up(43, 64, [], "MemoryError: too large"),
    made_up(42, 9, [], "ValueError: no"),
]


def test_ranking_is_by_the_mean_over_seeds():
    standings = sweep.ranking(ROWS)
    assert [s.settings["n_embd"] for s in standings] == [32, 16, 64]  # 64 lost a seed
    assert standings[0].loss == pytest.approx(2.2)
    assert standings[0].deviation == pytest.approx(math.sqrt(0.02))
    assert standings[0].seconds == pytest.approx(0.45)
    assert standings[0].rows[0]["key"] == "42 32"
    header, lines = table(ROWS)
    assert header == ["", "held-out loss", "±", "seconds", "parameters", "n_embd", "seeds"]
    assert lines[0] == ["1", "2.200", "0.1414", "0.45", "3,200", "32", "2"]
    assert lines[2][-1] == "1 of 2"


def test_pareto_front_is_what_no_other_point_beats():
    front = [(seconds, loss) for seconds, loss, _ in sweep.pareto_front(ROWS)]
    assert front == [(0.1, 3.0), (0.2, 2.5), (0.3, 2.0)]
    assert sweep.pareto_front([ROWS[-1]]) == []


def test_report_files(tmp_path):
    import csv

    files = sweep.write_report(ROWS, tmp_path)
    assert tmp_path / "results.csv" in files
    with open(tmp_path / "results.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [r["key"] for r in read] == [r["key"] for r in ROWS]
    assert [r["held_out_loss"] for r in read] == ["2.5", "2.7", "2.1", "2.3", "2.0", "", ""]
    assert read[-1]["error"] == "ValueError: no"
    sweep.write_report([], tmp_path)  # nothing to show is no error
    sweep.write_report(ROWS[-1:], tmp_path)


def test_report_as_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pip install '.[sweep]'")
    sweep.write_report(ROWS, tmp_path)
    read = parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert [r["held_out_loss"] for r in read] == [r["held_out_loss"] for r in ROWS]
    assert read[0]["curve"][1] == {"step": 2, "seconds": 0.2, "held_out_loss": 2.5}


def test_report_as_picture():
    pytest.importorskip("matplotlib", reason="needs pip install '.[sweep]'")
    from pymicrogpt.sweep import report

    figure = report.draw(ROWS)
    curves, width = figure.axes
    front = next(line for line in curves.lines if line.get_drawstyle() == "steps-post")
    assert list(front.get_xdata()) == [0.1, 0.2, 0.3] and list(front.get_ydata()) == [3, 2.5, 2]
    assert curves.get_xlabel().startswith("seconds of training") and curves.get_xscale() == "log"
    assert width.get_xlabel() == "n_embd"
    losses, lowest = width.lines
    assert len(losses.get_xdata()) == 5
    assert dict(zip(lowest.get_xdata(), lowest.get_ydata(), strict=True)) == {
        16: 2.5,
        32: 2.1,
        64: 2,
    }
    assert "2.200 after 0.45 s" in figure.get_suptitle()
    assert report.as_png(ROWS).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"n_embd": [16, 2**63]}, "n_embd must be at most 9223372036854775807"),
        ({"batch_size": -(2**63)}, "batch_size must be at least -9223372036854775807"),
        ({"seeds": [2**70]}, "seed must be at most"),
        ({"learning_rate": 10**400}, "learning_rate must be finite"),
        ({"beta1": -(10**400)}, "beta1 must be finite"),
        ({"seeds": 2**31 - 1}, "these are 2,147,483,647 trials; a sweep has at most 1,000,000"),
        ({"n_layer": range(1, 2000), "seeds": 600}, "these are 1,199,400 trials"),
    ],
)
def test_numbers_that_no_report_or_memory_could_hold(axes, message):
    with pytest.raises(ValueError, match=message):
        Space.grid(**axes)


def test_more_numbers_that_no_report_or_memory_could_hold(tmp_path):
    for low, high in ((1, 10**400), (-(10**400), 1)):
        with pytest.raises(ValueError, match="of a range must be at most 9223372036854775807"):
            Range(low, high)
    with pytest.raises(ValueError, match="a sweep has at most 1,000,000"):
        Space.random(2**31 - 1, n_embd=[8, 16])
    path = tmp_path / "space.toml"
    path.write_text("[axes]\nn_embd = " + "[" * 100_000)
    with pytest.raises(ValueError, match=r"space\.toml: its values are nested too deeply"):
        Space.from_toml(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("curve", value) for value in (None, [], 3, [[1, 2]], [[1, None, 2.0]], [[1, 2, "x"]])),
        *(("num_params", value) for value in (None, True, 1.5, 0, 2**63)),
        *(("held_out_loss", value) for value in (None, "2", float("nan"), [1])),
        *(("train_seconds", value) for value in (None, True, float("inf"))),
        *((name, 3) for name in ("data", "engine", "error", "worker")),
        ("started", "now"),
    ],
)
def test_rows_that_no_trial_has_are_told_by_the_name(name, value, tmp_path, monkeypatch):
    [settings] = Space.grid(**QUICK).trials
    receive(data := Data(TRAIN, HELD_OUT))
    row = run_trial(settings, data.digest)
    (tmp_path / "trials.jsonl").write_text(json.dumps({**row, name: value}) + "\n")
    with pytest.raises(SweepError, match=f"a trial {row['key']} with a {name} that no trial has"):
        sweep.run(Space.grid(**QUICK), TRAIN, HELD_OUT, tmp_path, workers=1)


def test_rows_with_equal_settings_of_other_types(tmp_path):
    space = Space.grid(**QUICK)
    receive(data := Data(TRAIN, HELD_OUT))
    row = run_trial(space.trials[0], data.digest)
    (tmp_path / "trials.jsonl").write_text(json.dumps(row) + "\n")
    assert sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=1) == [row]
    row["settings"] = {**row["settings"], "n_layer": True}
    (tmp_path / "trials.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(SweepError, match="with other settings than its key says"):
        sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=1)
