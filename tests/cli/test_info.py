"""pymicrogpt info"""

from __future__ import annotations

from pathlib import Path

import pytest

import pymicrogpt as mg

from .command import SMALL, command, events

pytestmark = pytest.mark.usefixtures("folder")


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


def test_a_damaged_checkpoint_hides_no_model(capsys):
    assert command("train", *SMALL, "--max-steps", "7") == 0
    file = Path("out/checkpoint.safetensors")
    file.write_bytes(file.read_bytes()[:300])
    capsys.readouterr()
    assert command("info", "--out-dir", "out") == 1
    out, err = capsys.readouterr()
    assert "n embd: 8\n" in out and "\ncheckpoint: damaged: " in out and err == ""
