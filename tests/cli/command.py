"""The command line: in this process where that is enough, as a real process for signals, pipes
and terminals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pymicrogpt import cli
from pymicrogpt.storage.checkpoint import Checkpoint

NAMES = ["anna", "bert", "carla", "dora", "emil", "fritz", "gerda", "heinz", "ann", "berta"] * 3

SMALL = ["--n-embd", "8", "--n-head", "2", "--block-size", "4", "--num-samples", "3"]

LONG = ["--max-steps", "150000", "--log-interval", "1000", "--eval-interval", "5000"]

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX terminals, signals and locks")


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


def interrupt(number: int, *args: str) -> tuple[int, str]:
    """Exit code and stderr of a training that gets the signal at its first line of progress."""
    training = process("train", *SMALL, *args, "--json")
    assert json.loads(training.stdout.readline())["event"] == "start"
    assert json.loads(training.stdout.readline())["event"] == "progress"
    training.send_signal(number)
    _, err = training.communicate()
    return training.returncode, err


def weights(out_dir: str) -> bytes:
    return Path(out_dir, "model.safetensors").read_bytes()


def notes(out_dir: str) -> dict:
    return {k: v for k, v in Checkpoint.load(out_dir).notes.items() if k != "seconds"}
