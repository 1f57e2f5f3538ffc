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
        (
            ["--learning-rate", "0.01..0.1"],
            "--learning-rate is a range, which only a random space can draw from: --random must",
        ),
        (["--draw-seed", "5"], "nothing to vary"),
        (["--random", "5"], "nothing to vary"),
        (["--draw-seed", "0", "--n-embd", "8"], "--draw-seed is for the draws of a random space: "),
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
    assert cli.main([*args, "--out-dir", "corpus.txt"]) == 2
    assert capsys.readouterr().err == "pymicrogpt: --out-dir corpus.txt is not a directory\n"


QUICK = ["--max-steps", "20", "--evals", "1", "--workers", "1"]


@pytest.fixture
def corpora(tmp_path, monkeypatch):
    """names.txt, poem.txt in the current folder."""
    monkeypatch.chdir(tmp_path)
    documents = mg.Corpus._embedded("for tests").documents
    Path("names.txt").write_text("\n".join(documents[:200]))
    Path("poem.txt").write_text("\n".join(documents[200:300]))


def contents(folder):
    return {file: file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


def test_later_sweeps_in_a_folder_lose_nothing(corpora, capsys):
    import csv

    def keys():
        with open("sweep/results.csv", newline="") as file:
            return {row["key"] for row in csv.DictReader(file)}

    args = ["sweep", "names.txt", *QUICK]
    assert cli.main([*args, "--n-embd", "8,16", "--learning-rate", "0.01,0.02"]) == 0
    first, best = keys(), mg.GPT.load("sweep/best").training["held_out_loss"]
    model = Path("sweep/best/model.safetensors").read_bytes()
    line = f"best held-out loss {best:.4f}\n"
    assert capsys.readouterr().out.count(line) >= 1

    # A part of it, something worse, and what only fails.
    for more, code, count, earlier in (
        (["--n-embd", "8", "--learning-rate", "0.01"], 0, 4, 3),
        (["--n-embd", "8", "--learning-rate", "1e-9"], 0, 5, 4),
        (["--batch-size", "0"], 1, 6, 5),
    ):
        assert cli.main([*args, *more]) == code
        assert first <= keys() and len(keys()) == count
        assert Path("sweep/best/model.safetensors").read_bytes() == model
        out = capsys.readouterr().out
        assert f"{earlier} trials of earlier sweeps in sweep count too\n" in out
        assert ["1", f"{best:#.4g}"] in [line.split()[:2] for line in out.splitlines()]
        assert out.count("best held-out loss") == out.count(line)

    there = contents("sweep")
    for other in (["poem.txt"], ["names.txt", "--val-fraction", "0.3"]):
        assert cli.main(["sweep", *other, *QUICK, "--n-embd", "8"]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and err.endswith("; choose another --out-dir\n")
        assert "sweep/trials.jsonl has 6 trials on another text or another split of it" in err
        assert contents("sweep") == there


def test_a_sweep_that_goes_on_tells_the_best_of_all(corpora, capsys):
    args = ["sweep", "names.txt", *QUICK]
    assert cli.main([*args, "--n-embd", "16", "--learning-rate", "0.02"]) == 0
    [good] = [line for line in capsys.readouterr().out.splitlines() if "best held-out" in line]
    assert cli.main([*args, "--n-embd", "16", "--learning-rate", "0.02,1e-9"]) == 0
    [last] = [line for line in capsys.readouterr().out.splitlines() if "best held-out" in line]
    assert last.startswith("2/2 trials") and last.split()[-1] == good.split()[-1]


@pytest.mark.parametrize("how", ["argument", "environment", "stream"])
def test_the_card_of_the_best_model_has_no_path(corpora, monkeypatch, how):
    path = os.path.abspath("names.txt")
    given = [] if how == "environment" else [path]
    if how == "environment":
        monkeypatch.setenv("PYMICROGPT_CORPUS", path)
    if how == "stream":
        given += ["--mode", "stream"]
    assert cli.main(["sweep", *given, *QUICK, "--n-embd", "8"]) == 0
    assert os.path.dirname(path) not in Path("sweep/best/README.md").read_text()
    assert mg.GPT.load("sweep/best").training["corpus"].startswith("names.txt (")


def test_fewer_combinations_than_were_to_be_drawn(corpora, capsys):
    args = ["sweep", "poem.txt", *QUICK, "--n-head", "1", "--n-embd", "8..10"]
    assert cli.main([*args, "--random", "3"]) == 0
    out, err = capsys.readouterr()
    assert "3/3 trials" in out and not err
    assert cli.main([*args, "--random", "5", "--seeds", "2"]) == 0
    out, err = capsys.readouterr()
    assert "6/6 trials" in out
    assert err == (
        "pymicrogpt: only 3 different combinations can be drawn, not 5: each of them is tried\n"
    )
