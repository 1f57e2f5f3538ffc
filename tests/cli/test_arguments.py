"""What the commands refuse, in one line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pymicrogpt import cli
from pymicrogpt.cli._main import build_parser
from pymicrogpt.cli.settings import Settings

from .command import SMALL, command, process

pytestmark = pytest.mark.usefixtures("folder")


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
        (["train", "--n-embd", "10"], "--n-embd must be divisible by --n-head: 10 is not"),
        (["train", "--learning-rate", "1e-50"], "--learning-rate must lie in"),
        (["train", "--engine", "gpu"], ": --engine 'gpu' is unknown"),
        (["train", "--engine", "tape", "--threads", "2"], "one thread; --threads must be 1"),
        (["train", "--engine", "reference", "--threads", "2"], "one thread; --threads must be 1"),
        (["train", "--patience", "3"], "need --eval-interval"),
        (["train", "--val-fraction", "0.1"], "need --eval-interval"),
        (["train", "--mode", "stream"], "needs a text file"),
        (["train", "--n-embd", "1000000", "--n-layer", "1000"], "GiB"),
        (["train", "--block-size", "1000000000"], "smaller --batch-size, --n-embd, --n-layer or"),
        (["train", "nowhere.txt"], "nowhere.txt does not exist"),
        (["train", "."], "is a directory"),
        (["train", "--out-dir", "file"], "file is not a directory"),
        (["train", "--out-dir", "file/below"], "file"),
        (["train", "--resume"], "out holds nothing to resume"),
        (["train", "--resume", "--overwrite"], "not allowed with"),
        (["sample"], "out holds no model"),
        (["sample", "--temperature", "-1"], "--temperature: must be at least 0"),
        (["sample", "--top-k", "0"], "--top-k: must be at least 1"),
        (["sample"], "pymicrogpt train --out-dir out trains one"),
        (["info", "--out-dir", "file"], "--out-dir file is not a directory"),
        (["train", "--seed", "-5"], "--seed: must be at least 0, not -5"),
        (["train", "--foo"], "unrecognized arguments: --foo (pymicrogpt train --help)"),
        (["sample", "extra"], "unrecognized arguments: extra (pymicrogpt sample --help)"),
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


def test_arguments_of_the_library_are_options_of_the_command():
    parser = build_parser()
    words = {
        "n_embd must be divisible by n_head": "--n-embd must be divisible by --n-head",
        "no; num_steps must be 1": "no; --max-steps must be 1",
        "engine 'n_embd' is unknown": "--engine 'n_embd' is unknown",
        "the model's block_size is 8": "the model's --block-size is 8",
        "a/n_embd.txt was not trained by an engine": "a/n_embd.txt was not trained by an engine",
        "my n_embd.txt, n_embd/x": "my n_embd.txt, n_embd/x",
        "engine.txt: top_secret": "engine.txt: top_secret",
    }
    train = parser.parse_args(["train"]).parser
    assert {message: train.in_options(message) for message in words} == words
    sample = parser.parse_args(["sample"]).parser
    assert sample.in_options("prompt is longer than block_size") == (
        "--prompt is longer than block_size"  # which sample has no option for
    )


def test_what_a_file_says_stays_as_it_is(capsys):
    assert command("train", *SMALL, "--max-steps", "5") == 0
    file = Path("out/checkpoint.safetensors")
    file.write_bytes(file.read_bytes().replace(rb"n_head\": 2", rb"n_head\": 3"))
    capsys.readouterr()
    assert command("train", "--resume") == 2
    expected = f"pymicrogpt: {file}: n_embd must be divisible by n_head: 8 is not divisible by 3\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--n-embd", "6"], "--n-embd must be divisible by --n-head"),
        (["--learning-rate", "1e39"], "--learning-rate must lie in"),
        (["--engine", "nonsense"], "--engine 'nonsense' is unknown"),
    ],
)
def test_settings_are_refused_before_the_text_is_read(args, message, monkeypatch, capsys):
    monkeypatch.setattr(Settings, "load_corpus", None)
    assert command("train", *args) == 2
    assert message in capsys.readouterr().err
