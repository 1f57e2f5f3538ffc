"""Pipes, terminals and locales, and output that fails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pymicrogpt as mg
from pymicrogpt._words import escaped
from pymicrogpt.cli import display, terminal
from pymicrogpt.storage.checkpoint import Checkpoint

from .command import SMALL, command, events, posix, process

pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
def test_a_reader_that_goes_away():
    training = process("train", *SMALL, "--max-steps", "100000", "--log-interval", "10")
    training.stdout.readline()
    training.stdout.close()
    assert training.stderr.read() == ""
    assert training.wait() == 0
    assert Checkpoint.load("out").step == 100_000

    sampling = process("sample", "--num-samples", "100000")
    sampling.stdout.readline()
    sampling.stdout.close()
    assert sampling.stderr.read() == ""
    assert sampling.wait() == 128 + signal.SIGPIPE


@pytest.mark.skipif(os.name == "nt", reason="the shell is not sh")
def test_closed_streams():
    line = f"'{sys.executable}' -m pymicrogpt train --max-steps 9 --out-dir"
    assert subprocess.run(f"{line} out >&-", shell=True).returncode == 0
    assert subprocess.run(f"{line} /dev/null 2>&- >&-", shell=True).returncode == 2
    assert Checkpoint.load("out").step == 9


def test_output_without_utf8():
    Path("accents.txt").write_text("é\n" * 20, encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    training = process("train", "accents.txt", *SMALL, env=environment, encoding="ascii")
    out, err = training.communicate()
    assert (training.returncode, err) == (0, "")
    assert r"\xe9" in out


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("rich", [True, False])
def test_on_a_terminal(rich):
    import pty

    if rich:
        pytest.importorskip("rich", reason="the bar needs rich")
    hidden = "" if rich else "sys.modules['rich'] = None; "
    code = f"import sys; {hidden}from pymicrogpt.cli import main; sys.exit(main())"
    ours, theirs = pty.openpty()
    training = subprocess.Popen(
        [sys.executable, "-c", code, "train", *SMALL, "--eval-interval", "100"],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    out = b""
    try:
        while data := os.read(ours, 4096):
            out += data
    except OSError:  # what Linux says at the end
        pass
    os.close(ours)
    text = out.decode()
    assert training.wait() == 0
    assert "step 1000/1000" in text and "sample  3: " in text and "Traceback" not in text
    assert ("\x1b[?25l" in text, "\x1b[?25h" in text) == (rich, rich)  # cursor hidden, shown again


def test_plain_lines_elsewhere(monkeypatch):
    assert type(display.new_display(as_json=False)) is display.Display


@posix
@pytest.mark.parametrize("rich", [True, False])
@pytest.mark.parametrize("hangup", [True, False])
def test_a_closed_terminal_costs_nothing(rich, hangup):
    """With SIGHUP the training is saved; where that is ignored it goes on, and the exit code says
    that its output was lost."""
    import pty

    code = "sys.modules['rich'] = None; " if not rich else ""
    code += "signal.signal(signal.SIGHUP, signal.SIG_IGN); " if not hangup else ""
    code = f"import signal, sys; {code}from pymicrogpt.cli import main; sys.exit(main())"
    steps = "4000000" if hangup else "20000"
    args = ["train", *SMALL, "--max-steps", steps, "--log-interval", "100"]
    child, terminal = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm"
        os.execv(sys.executable, [sys.executable, "-c", code, *args])
    out = b""
    while not re.search(rb"step +[1-9]\d\d", out):
        out += os.read(terminal, 4096)
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code == (128 + signal.SIGHUP if hangup else 2)
    step = Checkpoint.load("out").step
    assert 100 <= step < 4_000_000 if hangup else step == 20_000
    assert mg.GPT.load("out").training["steps"] == f"{step} of {steps}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "args", ["--help", "--version", "info", "train", "sample", "sample --json"]
)
def test_full_output_is_one_message(args, capfd):
    command("train", *SMALL, "--max-steps", "5", "--out-dir", "kept")
    args = args.split() + (["--out-dir", "kept"] if "sample" in args else [])
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pymicrogpt", *args], stdout=full, stderr=-1, text=True
        )
    assert done.returncode == 2
    assert done.stderr == "pymicrogpt: standard output: No space left on device\n"
    assert args != ["train"] or Checkpoint.load("out").step == 1000


def test_control_characters_do_not_reach_a_terminal(capsys):
    name = "red\x1b[31m.txt"
    Path(name).write_text("ab\tc\x1bd\n" * 40)
    assert command("train", name, *SMALL, "--mode", "stream", "--max-steps", "5") == 0
    assert command("info", "--out-dir", "out") == 0
    assert command("train", "\x1b[31mnowhere\n.txt", "--out-dir", "other") == 2
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert r"alphabet: \t\n\x1babcd" in lines and r"corpus: red\x1b[31m.txt" in lines
    assert r"red\x1b[31m.txt" in lines[0] and "\x1b" not in err and err.count("\n") == 1


@posix
def test_arguments_in_a_locale_without_utf8():
    assert command("train", *SMALL, "--max-steps", "5") == 0
    Path("é.txt").write_text("é\n" * 20, encoding="utf-8")
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"}
    env.pop("PYTHONIOENCODING", None)
    done = process("train", "é.txt", *SMALL, "--max-steps", "5", "--out-dir", "à", env=env)
    out, err = done.communicate()
    assert (done.returncode, err) == (0, "") and "à holds the model" in out
    assert mg.GPT.load("à").training["corpus"] == "é.txt"
    done = process("sample", "--prompt", "é", "--out-dir", "à", "--json", env=env)
    out, err = done.communicate()
    assert (done.returncode, err) == (0, "")
    assert all(event["text"].startswith("é") for event in events(out))


@posix
def test_silence_is_broken_on_a_terminal_alone(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "SILENCE_SECONDS", 0.0)
    for there in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda answer=there: answer)
        with terminal.waiting("counting"):
            time.sleep(0.1)
        assert capsys.readouterr().err == ("counting ...\n" if there else "")


@pytest.mark.parametrize("order", "\x07\x7f\x9b\u061c\u200e\u200f\u2028\u202e\u2066\u2069")
def test_no_order_to_a_terminal_gets_through(order):
    number = order.encode("unicode_escape").decode()
    assert escaped(f"a{order}b") == f"a{number}b"
