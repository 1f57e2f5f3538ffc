"""The command line: in this process where that is enough, as a real process for signals, pipes
and terminals."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.numpy
from conftest import get_golden

import pymicrogpt as mg
from pymicrogpt import cli, display, files, run
from pymicrogpt.checkpoint import Checkpoint

NAMES = ["anna", "bert", "carla", "dora", "emil", "fritz", "gerda", "heinz", "ann", "berta"] * 3
SMALL = ["--n-embd", "8", "--n-head", "2", "--block-size", "4", "--num-samples", "3"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, with a small corpus beside it."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PYMICROGPT_CORPUS", str(tmp_path / "names.txt"))
    return tmp_path / "work"


def command(*args: str) -> int:
    """Exit code of a command line in this process."""
    try:
        return cli.main(list(args))
    except SystemExit as stop:
        return stop.code or 0


def events(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def process(*args: str, **settings) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pymicrogpt", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **{"encoding": "utf-8", **settings},
    )


def weights(out_dir: str) -> bytes:
    return Path(out_dir, "model.safetensors").read_bytes()


def notes(out_dir: str) -> dict:
    return {k: v for k, v in Checkpoint.load(out_dir).notes.items() if k != "seconds"}


# What it does


def test_without_arguments_it_is_the_original(capsys, monkeypatch, tmp_path):
    golden = get_golden("d16")
    (tmp_path / "golden.txt").write_text("\n".join(golden.corpus.documents))
    monkeypatch.setenv("PYMICROGPT_CORPUS", str(tmp_path / "golden.txt"))
    steps = [] if golden.num_steps == 1000 else ["--max-steps", str(golden.num_steps)]
    assert command("train", *steps) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.removeprefix(f"sample {i:2d}: ") for i, line in enumerate(lines[-20:], 1)]
    assert names[: len(golden.samples)] == golden.samples
    assert mg.GPT.load("out").config == golden.config

    tape = ["--engine", "tape", "--out-dir", "tape", "--json", "--log-interval", "1"]
    assert command("train", *steps, *tape) == 0
    told = events(capsys.readouterr().out)
    losses = [event["loss"] for event in told if event["event"] == "progress"]
    np.testing.assert_allclose(losses, golden.losses, rtol=0, atol=1e-9)
    assert [event["text"] for event in told if event["event"] == "sample"][
        : len(golden.samples)
    ] == (golden.samples)


def test_options_reach_the_trainer(folder):
    (folder / "other.txt").write_text("abc\nbcd\ncde\n" * 4)
    options = {
        "n_layer": 2,
        "n_embd": 12,
        "n_head": 3,
        "block_size": 5,
        "batch_size": 4,
        "learning_rate": 0.02,
        "seed": 7,
        "engine": "tape",
    }
    args = [text for k, v in options.items() for text in (run.option(k), str(v))]
    assert command("train", "other.txt", "--max-steps", "9", *args) == 0
    shape = {k: options.pop(k) for k in ("n_layer", "n_embd", "n_head", "block_size")}
    trainer = mg.Trainer(
        mg.Corpus.from_file("other.txt"), mg.Config(**shape), num_steps=9, **options
    )
    trainer.run()
    model = mg.GPT.load("out")
    assert model.training["corpus"] == "other.txt"
    for name, array in trainer.model.parameters.items():
        assert model.parameters[name].tolist() == array.astype("f4").tolist()


def test_json_lines(capsys):
    assert command("train", *SMALL, "--max-steps", "20", "--eval-interval", "5", "--json") == 0
    start, *progress, end, one, two, three = events(capsys.readouterr().out)
    assert (start["event"], start["documents"], start["held_out"]) == ("start", 27, 3)
    assert [event["step"] for event in progress] == [5, 10, 15, 20]
    for event in progress:
        assert event["loss"] > 0 and event["val_loss"] > 0 and event["samples_per_second"] > 0
    assert progress[-1]["seconds_left"] == 0
    best = min(progress, key=lambda event: event["val_loss"])
    assert (end["reason"], end["step"]) == ("finished", 20)
    assert (end["best_step"], end["best_val_loss"]) == (best["step"], best["val_loss"])
    assert [event["number"] for event in (one, two, three)] == [1, 2, 3]


@pytest.mark.parametrize("n_embd", [8, 32])  # where nothing is skipped, and where units rest
def test_activity_of_the_last_step(n_embd, capsys):
    Path("many.txt").write_text("\n".join(mg.Corpus._embedded("for a test").documents))
    args = ["train", "many.txt", "--n-embd", str(n_embd), "--num-samples", "0", "--overwrite"]
    args += ["--max-steps", "600", "--eval-interval", "200"]
    corpus, _ = mg.Corpus.from_file("many.txt").split(0.1, seed=42)
    trainer = mg.Trainer(corpus, mg.Config(n_embd=n_embd), batch_size=1, num_steps=600)
    trainer.run()
    expected = trainer.activity and vars(trainer.activity)
    assert command(*args, "--json") == 0
    end = next(e for e in events(capsys.readouterr().out) if e["event"] == "end")
    assert end["activity"] == expected  # not of the evaluation, which comes after the step
    assert command(*args) == 0
    lines = capsys.readouterr().out.splitlines()
    after = lines.index(next(line for line in lines if line.startswith("finished at step 600"))) + 1
    if expected:
        values, units, resting = (100 * expected[name] for name in ("values", "units", "resting"))
        at_rest = f"; {resting:.0f} % of the units at rest" if n_embd > 16 else ""
        assert lines[after] == (
            f"hidden values not zero in the last step: {values:.1f} %, "
            f"in {units:.0f} % of the units{at_rest}"
        )
    assert command(*args, "--engine", "scalar", "--json") == 0
    end = next(e for e in events(capsys.readouterr().out) if e["event"] == "end")
    assert end["activity"] is None
    assert command(*args, "--engine", "scalar") == 0
    assert "hidden values" not in capsys.readouterr().out


def test_the_best_model_by_held_out_loss_is_kept(capsys):
    # One document to learn by heart, which makes the others less likely with every step.
    Path("few.txt").write_text("abcd\ndcba\n")
    args = ["train", "few.txt", *SMALL, "--eval-interval", "10", "--val-fraction", "0.5"]
    assert command(*args, "--max-steps", "300", "--patience", "5", "--json") == 0
    told = events(capsys.readouterr().out)
    progress = [event for event in told if event["event"] == "progress"]
    end = next(event for event in told if event["event"] == "end")
    losses = [event["val_loss"] for event in progress]
    assert end["reason"] == "patience"
    assert len(losses) == 1 + int(np.argmin(losses)) + 5
    assert end["best_val_loss"] == min(losses) < losses[-1]
    assert Checkpoint.load("out").step == end["step"] > end["best_step"]

    _, held_out = mg.Corpus.from_file("few.txt").split(0.5, seed=42)
    model = mg.GPT.load("out")
    ids = model.tokenizer.encode(held_out.documents[0])[:5]
    logits = model.logits(ids[:4])
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = -np.mean(log_probabilities[np.arange(4), ids[1:]])
    assert loss == pytest.approx(end["best_val_loss"], rel=1e-5)  # float32
    assert command("train", "--resume") == 2


def test_sample(capsys):
    assert command("train", *SMALL, "--max-steps", "50") == 0
    capsys.readouterr()
    args = ["sample", "--num-samples", "40", "--seed", "3"]
    if any(e.available for e in mg.engines() if e.name in ("avx512", "avx2", "neon")):
        assert command(*args, "--engine", "auto") == 0
        drawn = capsys.readouterr().out.splitlines()
        assert drawn == mg.GPT.load("out").generate(40, seed=3)
    assert command(*args, "--max-new-tokens", "2") == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) == 2
    assert command(*args) == 0
    texts = capsys.readouterr().out.splitlines()
    model = mg.GPT.load("out")
    model.rng.seed(3)
    assert texts == model.sample(40)
    assert command(*args, "--prompt", "an", "--temperature", "2", "--top-k", "1", "--json") == 0
    drawn = {event["text"] for event in events(capsys.readouterr().out)}
    assert len(drawn) == 1 and drawn.pop().startswith("an")


def test_running_text(capsys):
    Path("text.txt").write_text("To be,\nor not to be:\nthat is the question.\n" * 20)
    args = ["train", "text.txt", "--mode", "stream", "--max-steps", "200", "--eval-interval", "50"]
    assert command(*args, "--n-embd", "8", "--batch-size", "4") == 0
    assert "\n" in mg.GPT.load("out").tokenizer.alphabet
    capsys.readouterr()
    assert command("sample", "--num-samples", "2") == 0
    assert capsys.readouterr().out.count("---------------\n") == 2


def test_info(capsys):
    assert command("info", "--json") == 0
    [about] = events(capsys.readouterr().out)
    assert [engine["name"] for engine in about["engines"]] == [e.name for e in mg.engines()]
    assert command("info") == 0
    assert "reference" in capsys.readouterr().out
    assert command("train", *SMALL, "--max-steps", "7") == 0
    capsys.readouterr()
    assert command("info", "--out-dir", "out", "--json") == 0
    [about] = events(capsys.readouterr().out)
    assert (about["n_embd"], about["checkpoint"]) == (8, "step 7 of 7")


def test_plot():
    pytest.importorskip("matplotlib", reason="the figure needs matplotlib")
    args = [*SMALL, "--max-steps", "20"]
    assert command("train", *args, "--plot") == 0
    assert Path("out/loss.png").read_bytes().startswith(b"\x89PNG")
    Path("out/loss.png").unlink()
    assert command("train", *args, "--plot", "--eval-interval", "5", "--overwrite") == 0
    assert Path("out/loss.png").read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib(capsys, monkeypatch):
    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    assert command("train", "--plot") == 2
    assert "pymicrogpt[plot]" in capsys.readouterr().err
    assert not Path("out").exists()


# What it refuses


@pytest.mark.parametrize(
    "args, message",
    [
        ([], "COMMAND"),
        (["tain"], "invalid choice: 'tain'"),
        (["train", "--n-embd", "ten"], "--n-embd: must be an integer, not 'ten'"),
        (["train", "--max-steps", "0"], "--max-steps: must be at least 1, not 0"),
        (["train", "--learning-rate", "nan"], "--learning-rate: must be greater than 0"),
        (["train", "--val-fraction", "1"], "--val-fraction: must be greater than 0 and less"),
        (["train", "--threads", "many"], "--threads: must be an integer, not 'many'"),
        (["train", "--threads", "100000"], "--threads: must be at most 1024"),
        (["train", "--max-step", "5"], "unrecognized arguments: --max-step"),
        (["train", "--n-embd", "10"], "10 is not divisible by 4"),
        (["train", "--engine", "gpu"], "engine 'gpu' is unknown"),
        (["train", "--patience", "3"], "need --eval-interval"),
        (["train", "--mode", "stream"], "needs a text file"),
        (["train", "--n-embd", "1000000", "--n-layer", "1000"], "GiB"),
        (["train", "nowhere.txt"], "nowhere.txt does not exist"),
        (["train", "."], "is a directory"),
        (["train", "--out-dir", "file"], "file is not a directory"),
        (["train", "--out-dir", "file/below"], "file"),
        (["train", "--resume"], "out holds nothing to resume"),
        (["train", "--resume", "--overwrite"], "not allowed with"),
        (["sample"], "out holds no model"),
        (["sample", "--temperature", "-1"], "--temperature: must be at least 0"),
        (["sample", "--top-k", "0"], "--top-k: must be at least 1"),
        (["info", "--out-dir", "file"], "file holds no model"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line(args, message, folder, capsys):
    Path("file").write_text("mine")
    assert command(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err and err.count("\n") == 1 and err.startswith("pymicrogpt")
    assert os.listdir(folder) == ["file"] and Path("file").read_text() == "mine"


def test_characters_that_a_model_does_not_know(capsys):
    assert command("train", *SMALL, "--max-steps", "5") == 0
    capsys.readouterr()
    assert command("sample", "--prompt", "ä") == 2
    assert "'ä'" in capsys.readouterr().err


def test_another_run_is_replaced_only_with_consent(capsys):
    args = ["train", *SMALL, "--max-steps", "20"]
    assert command(*args) == 0
    first = weights("out")
    assert command(*args) == 0  # the same run once more
    assert weights("out") == first
    Path("other.txt").write_text("xyz\n" * 9)
    for more, difference in {
        ("--max-steps", "30"): "--max-steps 20, not 30",
        ("--seed", "1"): "--seed 42, not 1",
        ("other.txt",): "another text",
    }.items():
        capsys.readouterr()
        assert command(*args, *more) == 2
        err = capsys.readouterr().err
        assert difference in err and "--overwrite" in err
        assert weights("out") == first
        assert command(*args, *more, "--overwrite", "--out-dir", "elsewhere") == 0
        assert command(*args, "--overwrite", "--out-dir", "elsewhere") == 0
        assert weights("elsewhere") == first


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "checkpoint.safetensors"])
def test_files_of_others_are_replaced_only_with_consent(name, capsys):
    Path("out").mkdir()
    Path("out", name).write_text("mine")
    Path("out/notes.txt").write_text("mine")
    args = ["train", *SMALL, "--max-steps", "5"]
    assert command(*args) == 2
    err = capsys.readouterr().err
    assert name in err and "--overwrite" in err and err.count("\n") == 1
    assert Path("out", name).read_text() == "mine"
    assert command(*args, "--overwrite") == 0
    assert len(mg.GPT.load("out").sample(1)) == 1
    assert Path("out/notes.txt").read_text() == "mine"


def test_divergence(capsys):
    assert command("train", *SMALL, "--learning-rate", "1e38") == 2
    err = capsys.readouterr().err
    assert "diverged" in err and "--learning-rate" in err and err.count("\n") == 1
    assert not Path("out/model.safetensors").exists()


def test_a_folder_that_cannot_be_written(capsys, monkeypatch):
    args = ["train", *SMALL, "--max-steps", "5"]
    assert command(*args) == 0
    before = weights("out")
    capsys.readouterr()

    def refuse(dir):  # as it is for others than root
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    assert command(*args) == 2
    assert capsys.readouterr().err == "pymicrogpt: out: Permission denied\n"
    assert weights("out") == before


# Interruption

LONG = ["--max-steps", "150000", "--log-interval", "1000", "--eval-interval", "5000"]


def interrupt(number: int, *args: str) -> tuple[int, str]:
    """Exit code and stderr of a training that gets the signal at its first line of progress."""
    training = process("train", *SMALL, *args, "--json")
    assert json.loads(training.stdout.readline())["event"] == "start"
    assert json.loads(training.stdout.readline())["event"] == "progress"
    training.send_signal(number)
    _, err = training.communicate()
    return training.returncode, err


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
    code = "from pymicrogpt import cli, run; run.SAVE_SECONDS = 0.0; cli.main()"
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


def test_a_checkpoint_of_the_library_is_not_a_run(capsys):
    trainer = mg.Trainer(mg.Corpus.load(), num_steps=10)
    trainer.save("out")
    assert command("train", "--resume") == 2
    assert "Trainer.resume" in capsys.readouterr().err
    assert command("train", "--max-steps", "10") == 2
    assert "--overwrite" in capsys.readouterr().err


# Pipes and terminals


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


def test_entry_points():
    from importlib.metadata import entry_points, version

    [script] = entry_points(group="console_scripts", name="pymicrogpt")
    assert script.load() is cli.main
    out, _ = process("--version").communicate()
    assert out == f"pymicrogpt {version('pymicrogpt')}\n"


@pytest.mark.parametrize("args", [[], ["train"], ["sample"], ["info"]], ids=" ".join)
def test_help(args, capsys):
    assert command(*args, "--help") == 0
    assert "usage: pymicrogpt" in capsys.readouterr().out


# Output that fails, signals, and what a folder holds meanwhile

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX terminals, signals and locks")


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


ENGINES = ["reference", "tape", "tape32", "scalar", "autovec", "auto"]


@pytest.mark.parametrize(
    ("engine", "rate"), [("reference", "10"), *((engine, "1e38") for engine in ENGINES)]
)
def test_divergence_has_one_message(engine, rate, capsys):
    args = ["train", *SMALL, "--engine", engine, "--learning-rate", rate, "--max-steps", "60"]
    assert command(*args) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(
        r"pymicrogpt: the training diverged: the loss is -?(nan|inf) at step \d+; "
        r"a --learning-rate smaller than \S+ may help\n",
        err,
    )


@pytest.mark.parametrize("how", ["diverges", "is interrupted"])
def test_the_old_run_stays_until_the_new_one_is_there(how, monkeypatch):
    assert command("train", *SMALL, "--max-steps", "30") == 0
    before = {file.name: file.read_bytes() for file in Path("out").iterdir()}

    def run(trainer, k):
        if how == "diverges":
            return np.full(k, np.nan)
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(mg.Trainer, "run", run)
        args = ["train", *SMALL, "--max-steps", "20", "--overwrite"]
        if how == "diverges":
            assert command(*args) == 2
        else:
            with pytest.raises(SystemError):
                command(*args)
    assert {file.name: file.read_bytes() for file in Path("out").iterdir()} == before
    assert command(*args) == 0
    assert mg.GPT.load("out").training["steps"] == "20 of 20"
    assert "20 of 20" in Path("out/README.md").read_text()


def test_a_new_model_is_never_beside_an_old_checkpoint(monkeypatch, capsys):
    args = ["train", *SMALL, "--max-steps", "20"]
    assert command("train", *SMALL, "--max-steps", "30") == 0

    def killed(old, new):
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(run, "os", SimpleNamespace(**{**vars(os), "replace": killed}))
        with pytest.raises(SystemError):
            command(*args, "--overwrite")
    assert mg.GPT.load("out").training["steps"] == "20 of 20"
    assert not Path("out/checkpoint.safetensors").exists()
    # It is still this training's folder, and nobody else's.
    assert command(*args, "--seed", "1") == 2
    assert "of another training" in capsys.readouterr().err
    assert command(*args) == 0
    assert Checkpoint.load("out").step == 20


@pytest.mark.parametrize("before", [False, True])
def test_a_first_save_that_fails_changes_nothing(before, monkeypatch, capsys):
    args = ["train", *SMALL, "--max-steps", "20"]
    if before:
        assert command(*args, "--seed", "1") == 0
    old = {file.name: file.read_bytes() for file in Path().glob("out/*")}

    def full(trainer, directory):
        raise OSError(errno.ENOSPC, "No space left on device", "checkpoint.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(mg.Trainer, "save", full)
        assert command(*args, "--overwrite") == 2
    expected = "pymicrogpt: checkpoint.safetensors: No space left on device\n"
    assert capsys.readouterr().err == expected
    assert {file.name: file.read_bytes() for file in Path().glob("out/*")} == old
    assert command(*args, "--overwrite") == 0
    assert Checkpoint.load("out").step == 20


@posix
def test_two_trainings_in_one_folder(capsys):
    first = process("train", *SMALL, *LONG, "--json")
    for _ in range(2):
        first.stdout.readline()
    for args in (["--resume"], ["--overwrite"], [*SMALL, *LONG]):
        assert command("train", *args) == 2
        assert "another training is at work in out" in capsys.readouterr().err
    first.kill()
    first.communicate()
    assert command("train", *SMALL, "--max-steps", "5", "--overwrite") == 0


def test_bad_input_leaves_no_folder():
    assert command("train", "nowhere.txt", "--out-dir", "new") == 2
    assert not Path("new").exists()


def test_directories_where_files_go_are_refused_before_the_work(capsys):
    Path("out/model.safetensors").mkdir(parents=True)
    assert command("train", *SMALL, "--overwrite") == 2
    assert "out/model.safetensors is a directory" in capsys.readouterr().err
    pytest.importorskip("matplotlib")
    Path("other/loss.png").mkdir(parents=True)
    assert command("train", *SMALL, "--plot", "--out-dir", "other") == 2
    assert "loss.png, which is a directory" in capsys.readouterr().err


# Text from outside, in any encoding


def test_names_of_others_are_no_markup(capsys):
    name = "<b>x<b> _y_ [z](http:a) `q`.txt"
    Path(name).write_text("anna\nbert\n")
    assert command("train", name, *SMALL, "--max-steps", "5") == 0
    card = Path("out/README.md").read_text()
    assert r"- corpus: &lt;b&gt;x&lt;b&gt; \_y\_ \[z\]\(http:a\) \`q\`.txt" in card
    assert "<b>" not in card and mg.GPT.load("out").training["corpus"] == name


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


def test_standard_input_is_a_corpus(capsys, monkeypatch):
    text = "\n".join(NAMES)
    done = process("train", "-", *SMALL, "--max-steps", "50", stdin=subprocess.PIPE)
    out, err = done.communicate(text)
    assert (done.returncode, err) == (0, "") and out.startswith("standard input\n")
    assert command("train", *SMALL, "--max-steps", "50", "--out-dir", "file") == 0
    assert weights_of("out") == weights_of("file")
    monkeypatch.setattr(sys, "stdin", None)
    assert command("train", "-", "--out-dir", "other") == 2
    assert "standard input is closed" in capsys.readouterr().err


def weights_of(out_dir: str) -> dict[str, list]:
    return {name: array.tolist() for name, array in mg.GPT.load(out_dir).parameters.items()}


def test_greedy_and_logprobs(capsys):
    assert command("train", *SMALL, "--max-steps", "50") == 0
    capsys.readouterr()
    assert command("sample", "--greedy") == 0
    greedy = capsys.readouterr().out
    assert len(set(greedy.splitlines())) == 1
    assert command("sample", "--temperature", "0") == 0
    assert capsys.readouterr().out == greedy
    assert command("sample", "--logprobs", "--json", "--num-samples", "4", "--seed", "1") == 0
    drawn = events(capsys.readouterr().out)
    model = mg.GPT.load("out")
    for event in drawn:
        assert event["logprobs"] == model.logprobs(event["text"])
        assert event["logprob"] == pytest.approx(sum(event["logprobs"]))
    assert command("sample", "--logprobs", "--num-samples", "4", "--seed", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"{event['logprob']:.3f}\t{event['text']}" for event in drawn]


def test_nothing_but_json_is_written(capsys):
    assert command("train", *SMALL, "--max-steps", "5") == 0
    model = mg.GPT.load("out")
    before = weights("out")
    for value in (float("nan"), [float("inf")]):
        model.training["loss"] = value
        with pytest.raises(ValueError, match="training must be of JSON values"):
            model.save("out")
    assert weights("out") == before


def test_more_threads_than_cores_are_warned_of(capsys, monkeypatch):
    from pymicrogpt import engines

    monkeypatch.setattr(engines_module(), "available_cores", lambda: 1)
    assert callable(engines)
    assert command("train", *SMALL, "--max-steps", "5", "--threads", "2") == 0
    assert "warning: --threads 2 on 1 core: " in capsys.readouterr().err
    assert command("train", *SMALL, "--max-steps", "5", "--overwrite") == 0
    assert capsys.readouterr().err == ""


def engines_module():
    return sys.modules["pymicrogpt.engines"]


def test_dead_units_are_warned_of(capsys):
    Path("many.txt").write_text("\n".join(mg.Corpus._embedded("for a test").documents))
    args = ["train", "many.txt", "--n-embd", "64", "--batch-size", "16", "--num-samples", "0"]
    for rate, dead in (("0.01", True), ("0.001", False)):
        args = [*args[:8], "--max-steps", "1000", "--learning-rate", rate, "--out-dir", rate]
        assert command(*args) == 0
        out = capsys.readouterr().out
        simd = re.search(r"engine (\w+)", out)[1] in ("avx512", "avx2", "neon")  # others count none
        assert ("hidden values" in out) == simd
        assert ("of the hidden units no longer take part" in out) == (dead and simd)


@posix
def test_silence_is_broken_on_a_terminal_alone(monkeypatch, capsys):
    monkeypatch.setattr(display, "SILENCE_SECONDS", 0.0)
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda answer=terminal: answer)
        with display.waiting("counting"):
            time.sleep(0.1)
        assert capsys.readouterr().err == ("counting ...\n" if terminal else "")


# The page


def test_web_opens_the_page_or_says_how_to_build_it(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    monkeypatch.setattr(Path, "is_file", lambda path: path.name == "index.html")
    assert command("web") == 0
    page = capsys.readouterr().out.strip()
    assert opened == [Path(page).as_uri()] and page.endswith("index.html")
    assert command("web", "--print") == 0
    assert len(opened) == 1
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert command("web") == 2
    assert "open that file" in capsys.readouterr().err
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    assert command("web") == 2
    assert "make web" in capsys.readouterr().err


def test_the_package_loads_nothing_before_ctrl_c_is_provided_for():
    code = "import os, sys; before = {*sys.modules}; import pymicrogpt.__main__\n"
    code += "print(*sorted({*sys.modules} - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    loaded = [name for name in done.stdout.split() if name != "__future__"]
    assert loaded == ["pymicrogpt", "pymicrogpt.__main__", "pymicrogpt.engines"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--n-embd", "6"], "n_embd must be divisible by n_head"),
        (["--learning-rate", "1e39"], "learning_rate must lie in"),
        (["--engine", "nonsense"], "engine 'nonsense' is unknown"),
    ],
)
def test_settings_are_refused_before_the_text_is_read(args, message, monkeypatch, capsys):
    monkeypatch.setattr(run.Settings, "load_corpus", None)
    assert command("train", *args) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "note",
    [
        {"history": None},
        {"history": [[2, 1.5, "x"]]},
        {"history": [[2, 1.5]]},
        {"history": [["2", 1.5, None]]},
        {"seconds": None},
        {"loss_sum": "x"},
        {"loss_count": None},
        {"best_val_loss": [1]},
        {"best_step": 2, "best_val_loss": None},
        {"evals_since_best": 1.5},
        {"ended": 3},
        {"settings": None},
        {"settings": {"max_steps": 7}},
        {"settings": {**asdict(run.Settings()), "log_interval": "x"}},
        {"settings": {**asdict(run.Settings()), "corpus": 3}},
    ],
)
def test_a_checkpoint_with_notes_that_are_none_of_a_run(note, capsys):
    assert command("train", *SMALL, "--max-steps", "9") == 0
    whole = Checkpoint.load("out")
    notes = {**whole.notes, "ended": "", **note}
    dataclasses.replace(whole, notes=notes, step=5, next_document=5).save("out", "float32")
    capsys.readouterr()
    assert command("train", "--resume") == 2
    assert "was not written by this command" in capsys.readouterr().err


def test_values_that_are_nested_too_deeply(capsys):
    nested: list = []
    for _ in range(500):
        nested = [nested]
    assert command("train", *SMALL, "--max-steps", "9") == 0
    model = mg.GPT.load("out")
    before = weights("out")
    model.training["more"] = nested
    with pytest.raises(ValueError, match="training must be of JSON values: they are nested too"):
        model.save("out")
    assert weights("out") == before
    Path("out/config.json").unlink()
    with safetensors.safe_open("out/model.safetensors", "numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["pymicrogpt"])
    header["training"]["more"] = nested
    header = {"pymicrogpt": json.dumps(header)}
    safetensors.numpy.save_file(tensors, "out/model.safetensors", header)
    assert command("info", "--out-dir", "out") == 2
    assert "its header holds values that are nested too deeply" in capsys.readouterr().err


@pytest.mark.parametrize("order", "\x07\x7f\x9b\u061c\u200e\u200f\u2028\u202e\u2066\u2069")
def test_no_order_to_a_terminal_gets_through(order):
    number = order.encode("unicode_escape").decode()
    assert display.escaped(f"a{order}b") == f"a{number}b"


def test_a_disk_without_room_is_known_before_the_work(monkeypatch, capsys):
    usage = SimpleNamespace(total=2**30, used=0, free=1072 * 24 - 1)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(run.Run, "train", None)
    assert command("train", *SMALL) == 2
    assert "out has no room for the model and its checkpoint, 25,728" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_written_is_named_itself(monkeypatch, capsys):
    def fail(dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir / "tmp123"))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", fail)
    monkeypatch.setattr(mg.Corpus, "load", None)  # the text is read later
    for args in (["train"], ["sweep", "--n-embd", "8,16", "--out-dir", "out"]):
        assert command(*args) == 2
        assert capsys.readouterr().err == f"pymicrogpt: out: {os.strerror(errno.EROFS)}\n"
        assert not Path("out").exists()


def test_a_training_that_fails_leaves_no_folder(monkeypatch):
    assert command("train", *SMALL, "--learning-rate", "1e30") == 2
    assert not Path("out").exists()
