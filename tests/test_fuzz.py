"""A short run of tests/helpers/fuzz.py, always the same; `make fuzz` is the long one."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from conftest import REPO
from fuzz import TENSORS, Target, attack, targets


def test_short_run():
    fuzz = [
        sys.executable,
        "tests/helpers/fuzz.py",
        "--cases",
        "400",
        "--seconds",
        "120",
        "--seed",
        "0",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    done = subprocess.run(fuzz, cwd=REPO, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for loader in ("GPT.load", "Trainer.resume", "Corpus.from_file", "Results.load"):
        assert f"{loader}: 400 cases, " in done.stdout
    assert done.stdout.count("'refused'") == 4


def fail_with(error):
    def load():
        raise error

    return load


@pytest.mark.parametrize(
    "load, error",
    [
        (fail_with(ValueError("something is wrong")), AssertionError),
        (fail_with(KeyError("file")), KeyError),
        (lambda: "other weights", AssertionError),
        (fail_with(MemoryError()), MemoryError),
    ],
)
def test_a_bad_loader_is_found(tmp_path, load, error):
    (tmp_path / "file").write_bytes(b"valid")
    bad = Target("bad", {"file": TENSORS}, load, (ValueError,), exact=True)
    with pytest.raises(error):
        attack(bad, tmp_path, random.Random(1), "weights")
    assert (tmp_path / "file").read_bytes() == b"valid"


def test_valid_files_are_loaded(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPO))
    for target in targets(tmp_path):
        first = target.load()
        assert not target.exact or target.load() == first
