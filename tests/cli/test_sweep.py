"""pymicrogpt sweep"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pymicrogpt as mg
from pymicrogpt import cli, sweep
from pymicrogpt.sweep import report

from .command import posix


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
    corpus.write_text("\n".join(mg.Corpus._embedded("for tests").documents[:200]))
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
        (["--learning-rate", "0.01..0.1"], "--learning-rate is a range, which only a random"),
        (
            ["--max-steps", "5", "--max-seconds", "1"],
            "--max-seconds must not be given beside --max-steps",
        ),
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


def test_a_report_that_fails_says_where_the_trials_are(tmp_path, monkeypatch, capsys):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(mg.Corpus._embedded("for tests").documents[:200]))
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
