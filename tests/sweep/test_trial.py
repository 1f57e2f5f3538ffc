"""One trial, and what it is trained on."""

from __future__ import annotations

import json

from pymicrogpt import sweep
from pymicrogpt.sweep import Space, trial
from pymicrogpt.sweep.trial import Data, key, receive, run_trial

from .common import HELD_OUT, TRAIN


def test_equal_values_of_another_type_are_the_same_trial():
    import numpy as np

    plain = Space.grid(n_embd=16, learning_rate=1.0).trials[0]
    other = Space.grid(n_embd=np.int64(16), learning_rate=1).trials[0]
    assert key(plain, "x") == key(other, "x")
    assert key(plain, "x") != key(plain, "y")
    assert key(plain, "x") != key({**plain, "seed": 1}, "x")


def test_the_digest_of_a_corpus_is_that_of_its_json(monkeypatch):
    parts = [[list(part.documents), part.block_size] for part in (TRAIN, HELD_OUT)]
    expected = trial.digest(parts)
    assert Data(TRAIN, HELD_OUT).digest == expected
    monkeypatch.setattr(trial, "BLOCK", 7)
    assert Data(TRAIN, HELD_OUT).digest == expected


def test_a_diverging_trial_is_a_row_with_its_error():
    data = Data(TRAIN, HELD_OUT)
    receive(data)
    [settings] = Space.grid(learning_rate=1e30, num_steps=40, evals=4).trials
    row = run_trial(settings, data.digest)
    assert "diverged" in row["error"]
    json.dumps(row, allow_nan=False)


def test_a_time_budget_becomes_steps():
    data = Data(TRAIN, HELD_OUT)
    receive(data)
    space = Space.grid(seconds=[0.02, 0.4], evals=3)
    short, long = (run_trial(settings, data.digest) for settings in space.trials)
    assert not short["error"] and not long["error"]
    assert long["num_steps"] > 3 * short["num_steps"]  # 20 times, but for noise
    assert long["curve"][-1][0] == long["num_steps"]
    trainer = sweep.retrain(long, TRAIN)
    assert trainer.evaluate(HELD_OUT) == long["held_out_loss"]
    elsewhere = sweep.retrain({**short, "engine": "of another machine"}, TRAIN)
    assert elsewhere.step == short["num_steps"]
