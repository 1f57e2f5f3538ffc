"""What the tests of sweeps share."""

from __future__ import annotations

import os
import signal

import pytest

import pymicrogpt as mg
from pymicrogpt.sweep.trial import Data, receive, run_trial

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and locks")

TRAIN, HELD_OUT = mg.Corpus._embedded("for tests").split(0.2)

QUICK = {"num_steps": 40, "batch_size": 4, "evals": 4}


def without_times(row):
    """What two runs of one trial must have in common, to the bit."""
    result = {k: row[k] for k in ("key", "engine", "num_steps", "error", "held_out_loss")}
    return {**result, "train": row["train_loss"], "curve": [(p[0], p[2]) for p in row["curve"]]}


def in_this_process(space):
    data = Data(TRAIN, HELD_OUT)
    receive(data)
    return [without_times(run_trial(settings, data.digest)) for settings in space.trials]


def kills_its_process(settings, digest):
    """run_trial, but seed 43 brings down every process that it runs in, and says so before."""
    if settings["seed"] == 43:
        with open(os.environ["SWEEP_TEST_DEATHS"], "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    return run_trial(settings, digest)
