"""A training that signals, crashes or kills stopped goes on to the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPO

import pymicrogpt as mg
from pymicrogpt.cli import run
from pymicrogpt.storage.checkpoint import Checkpoint

from .command import LONG, NAMES, SMALL, command, events, interrupt, notes, posix, process, weights

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_training_goes_on_to_the_same_end(name, capsys):
    number = getattr(signal, name)
    code, err = interrupt(number, *LONG)
    assert code == 128 + number
    assert "go on with: pymicrogpt train --resume --out-dir out" in err
    assert err.count("\n") == 1
    step = Checkpoint.load("out").step
    assert 1000 <= step < 150_000
    assert command("train", *SMALL, *LONG) == 2
    assert f"interrupted at step {step}" in capsys.readouterr().err
    assert command("train", "--resume", "--n-embd", "16") == 2
    assert "begun with --n-embd 8" in capsys.readouterr().err
    assert command("train", "--resume", *SMALL, "--json") == 0
    resumed = events(capsys.readouterr().out)
    assert resumed[0]["step"] == step
    assert command("train", *SMALL, *LONG, "--out-dir", "through", "--json") == 0
    through = events(capsys.readouterr().out)
    assert resumed[-3:] == through[-3:]  # samples
    assert weights("out") == weights("through")
    assert notes("out") == notes("through")


def test_a_crash_costs_only_what_came_after_the_last_save(monkeypatch, capsys):
    Path("few.txt").write_text("abcd\ndcba\n")  # the best model is an early one
    args = ["train", "few.txt", *SMALL, "--max-steps", "400", "--val-fraction", "0.5"]
    args += ["--eval-interval", "20", "--json", "--temperature", "5", "--log-interval", "10"]
    assert command(*args, "--out-dir", "through") == 0
    through = events(capsys.readouterr().out)

    monkeypatch.setattr(run, "SAVE_SECONDS", 0.0)
    steps = mg.Trainer.run

    def crash(trainer, k):
        if trainer.step >= 230:
            raise SystemError("crash")
        return steps(trainer, k)

    with monkeypatch.context() as patch:
        patch.setattr(mg.Trainer, "run", crash)
        with pytest.raises(SystemError):
            command(*args)
    assert Checkpoint.load("out").step >= 200 > notes("out")["best_step"]
    capsys.readouterr()
    assert command("train", "--resume", *SMALL, *args[-5:]) == 0
    assert events(capsys.readouterr().out)[-3:] == through[-3:]  # samples
    assert weights("out") == weights("through")
    assert notes("out") == notes("through")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_again_and_again(monkeypatch):
    args = [*SMALL, "--max-steps", "20000", "--eval-interval", "1000", "--log-interval", "100"]
    code = "from pymicrogpt.cli import main, run; run.SAVE_SECONDS = 0.0; main()"
    command_line = [sys.executable, "-c", code, "train", "--json"]
    for lines in range(3, 12, 2):
        again = ["--resume"] if Path("out/checkpoint.safetensors").exists() else args
        training = subprocess.Popen([*command_line, *again], stdout=subprocess.PIPE)
        for _ in range(lines):
            training.stdout.readline()
        training.kill()
        training.communicate()
    assert 0 < Checkpoint.load("out").step < 20_000
    assert command("train", "--resume") == 0
    assert command("train", *args, "--out-dir", "through") == 0
    assert weights("out") == weights("through")


def test_resume_with_another_text_or_engine(capsys, folder, monkeypatch):
    assert interrupt(signal.SIGINT, *LONG)[0] == 130
    Path("other.txt").write_text("xyz\n" * 9)
    assert command("train", "other.txt", "--resume") == 2
    assert capsys.readouterr().err.count("\n") == 1
    Path("moved.txt").write_text("\n".join(NAMES))
    monkeypatch.delenv("PYMICROGPT_CORPUS")
    assert command("train", "moved.txt", "--resume", "--engine", "scalar", "--threads", "1") == 0


@posix
def test_signals_in_quick_succession():
    for wait in (0.0, 0.002, 0.02):
        training = process("train", *SMALL, *LONG, "--json", "--overwrite")
        for _ in range(2):
            training.stdout.readline()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            training.send_signal(number)
            time.sleep(wait)
        _, err = training.communicate()
        assert training.returncode - 128 in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        assert "Traceback" not in err and err.count("go on with") == 1
        assert Checkpoint.load("out").step >= 1000


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize(
    "task", [["train", *SMALL, *LONG], ["sweep", "--n-embd", "8,12"]], ids=lambda task: task[0]
)
def test_another_signal_while_it_leaves(name, task):
    """Between the end of the work, where Python's handlers are back, and that of the process."""
    code = "import signal; from pymicrogpt.cli import _main; flushed = _main.flushed\n"
    code += f"_main.flushed = lambda: (signal.raise_signal(signal.{name}), flushed())[1]\n"
    code += "from pymicrogpt.__main__ import main; raise SystemExit(main())"
    command_line = [sys.executable, "-c", code, *task, "--json"]
    work = subprocess.Popen(command_line, stdout=-1, stderr=-1, text=True)
    work.stdout.readline()
    work.send_signal(getattr(signal, name))
    _, err = work.communicate()
    assert err.count("\n") == 1 and ("stopped after" in err or "go on with" in err)
    assert work.returncode == 128 + getattr(signal, name)


@posix
def test_interrupted_while_it_loads():
    slow = "import builtins, time; wait = builtins.__import__\n"
    slow += "def late(name, *args, **kinds):\n"
    slow += "    if name == 'argparse': print('now', flush=True); time.sleep(9)\n"
    slow += "    return wait(name, *args, **kinds)\n"
    slow += "builtins.__import__ = late\nfrom pymicrogpt.__main__ import main\nmain()"
    loading = subprocess.Popen([sys.executable, "-c", slow], stdout=-1, stderr=-1, text=True)
    assert loading.stdout.readline() == "now\n"
    loading.send_signal(signal.SIGINT)
    assert loading.communicate()[1] == "pymicrogpt: interrupted\n"
    assert loading.returncode == 130


def test_history_does_not_depend_on_interruptions(monkeypatch, capsys):
    args = [
        *SMALL,
        "--max-steps",
        "400",
        "--eval-interval",
        "100",
        "--log-interval",
        "50",
        "--json",
    ]
    assert command("train", *args, "--out-dir", "through") == 0
    evaluate, steps = mg.Trainer.evaluate, mg.Trainer.run

    def interrupted(trainer, *arguments):
        if trainer.step == 200:
            signal.raise_signal(signal.SIGINT)
        return evaluate(trainer, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(mg.Trainer, "evaluate", interrupted)
        assert command("train", *args) == 130
    assert Checkpoint.load("out").step == 200

    def few_then_interrupted(trainer, k):
        if trainer.step > 250:
            signal.raise_signal(signal.SIGINT)
        return steps(trainer, min(k, 7))

    with monkeypatch.context() as patch:
        patch.setattr(mg.Trainer, "run", few_then_interrupted)
        assert command("train", "--resume", *args) == 130
    assert command("train", "--resume", *args) == 0
    assert notes("out") == notes("through")


def test_the_package_loads_nothing_before_ctrl_c_is_provided_for():
    code = "import os, sys; before = {*sys.modules}; import pymicrogpt.__main__\n"
    code += "print(*sorted({*sys.modules} - before))"
    # Without site: what an editable install hooks into it would be counted too.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=REPO
    )
    loaded = [name for name in done.stdout.split() if name != "__future__"]
    assert loaded == ["pymicrogpt", "pymicrogpt.__main__", "pymicrogpt.engines"]
