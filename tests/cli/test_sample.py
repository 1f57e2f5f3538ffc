"""pymicrogpt sample"""

from __future__ import annotations

import pytest
from conftest import SIMD

import pymicrogpt as mg

from .command import SMALL, command, events

pytestmark = pytest.mark.usefixtures("folder")


def test_sample(capsys):
    assert command("train", *SMALL, "--max-steps", "50") == 0
    capsys.readouterr()
    args = ["sample", "--num-samples", "40", "--seed", "3"]
    if SIMD:
        assert command(*args, "--engine", "auto") == 0
        drawn = capsys.readouterr().out.splitlines()
        assert drawn == mg.GPT.load("out").generate(40, seed=3)
        assert command(*args, "--engine", "auto", "--max-new-tokens", "30") == 0
        drawn = capsys.readouterr().out.splitlines()
        assert drawn == mg.GPT.load("out").generate(40, seed=3, max_new_tokens=30)
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


def test_characters_that_a_model_does_not_know(capsys):
    assert command("train", *SMALL, "--max-steps", "5") == 0
    capsys.readouterr()
    assert command("sample", "--prompt", "ä") == 2
    assert "'ä'" in capsys.readouterr().err
