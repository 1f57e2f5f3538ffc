"""pymicrogpt info"""

from __future__ import annotations

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
