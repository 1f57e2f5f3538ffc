"""pymicrogpt train --seconds: what it picks, and that it is over in time. By a clock that steps
move, which this machine's load does not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import pymicrogpt as mg
from pymicrogpt import recipes
from pymicrogpt.cli import plan, run
from pymicrogpt.cli.arguments import option
from pymicrogpt.cli.display import as_text
from pymicrogpt.storage.checkpoint import Checkpoint

from .command import command, events, notes, weights

pytestmark = pytest.mark.usefixtures("folder")

OF_STEP = 1e-3  # seconds
SHAPE = ["--n-layer", "1", "--n-embd", "8", "--n-head", "2", "--block-size", "4"]
SMALL = [*SHAPE, "--batch-size", "2", "--num-samples", "1"]


@pytest.fixture
def clock(monkeypatch):
    """Reads the seconds that steps have taken."""
    taken = 0.0
    steps = mg.Trainer.run

    def timed(trainer, k):
        nonlocal taken
        losses = steps(trainer, k)
        taken += k * OF_STEP
        return losses

    def now() -> float:
        return taken

    found = recipes.recipe
    monkeypatch.setattr(mg.Trainer, "run", timed)
    monkeypatch.setattr(run.time, "perf_counter", now)
    monkeypatch.setattr(plan.recipes, "recipe", lambda *a, **k: found(*a, clock=now, **k))
    return now


def told(capsys, kind: str) -> dict:
    return next(e for e in events(capsys.readouterr().out) if e["event"] == kind)


def test_it_ends_in_time_and_is_kept(clock, capsys):
    assert command("train", *SMALL, "--seconds", "2", "--json") == 0
    start, planned, *progress, end, _ = events(capsys.readouterr().out)
    assert (start["event"], planned["event"], end["event"]) == ("start", "plan", "end")
    settings = planned["settings"]
    assert settings == {name: start["settings"][name] for name in settings}
    assert settings["max_steps"] == end["step"] == progress[-1]["step"]
    assert (settings["n_layer"], settings["n_embd"], settings["batch_size"]) == (1, 8, 2)
    assert planned["seconds"] == 2.0 and 0.04 < planned["spent"] < 0.2
    assert end["seconds"] == pytest.approx(2.0, rel=0.01)  # what was spent on it too
    assert end["step"] == round((2.0 - planned["spent"]) / OF_STEP)
    assert planned["passes"] == settings["max_steps"] * 2 / 30
    model = mg.GPT.load("out")
    assert model.training["steps"] == "{0} of {0}".format(end["step"])
    assert Checkpoint.load("out").settings["num_steps"] == end["step"]


def test_what_is_picked_is_what_is_trained(clock, capsys, monkeypatch):
    found = recipes.recipes()[1][0]._replace(
        n_layer=2, n_embd=12, batch_size=4, learning_rate=0.007
    )
    monkeypatch.setattr(recipes, "recipes", lambda: (1e-3, [found]))
    monkeypatch.setattr(recipes, "extent", lambda *_: (1.0, found.per_document))
    assert command("train", "--seconds", "0.2", "--num-samples", "0", "--json") == 0
    start, planned, *_ = events(capsys.readouterr().out)
    model = mg.GPT.load("out")
    assert model.config == mg.Config(2, 12, 4, 16)
    assert start["num_params"] == model.config.num_params(start["vocab_size"])
    steps = planned["settings"]["max_steps"]
    assert planned["settings"] == {
        "n_layer": 2, "n_embd": 12, "n_head": 4, "block_size": 16, "batch_size": 4,
        "learning_rate": 0.007, "max_steps": steps,
    }  # fmt: skip
    assert command("train", "--seconds", "0.2", "--n-head", "5", "--overwrite", "--json") == 0
    settings = told(capsys, "plan")["settings"]
    assert (settings["n_embd"], settings["n_head"]) == (15, 5)


def test_one_line_says_what_is_picked_and_repeats_it(clock, capsys):
    given = ["--n-embd", "8", "--learning-rate", "0.0123456789"]
    assert command("train", *given, "--seconds", "0.5", "--num-samples", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if line.startswith("--seconds 0.5 picks ")]
    assert re.search(r": as the best for [\d.]+ s of \w+; [\d.,]+ times through the text$", line)
    options = line.removeprefix("--seconds 0.5 picks ").split(": as")[0].split()
    assert "--max-steps" in options and options[options.index("--learning-rate") + 1] == given[-1]
    assert command("train", *options, "--num-samples", "1", "--out-dir", "again") == 0
    assert weights("again") == weights("out")
    # The same run, so one may be repeated in the folder of the other.
    assert command("train", *options, "--num-samples", "1") == 0


def test_a_number_of_steps_has_all_its_digits():
    event = {
        "event": "plan",
        "seconds": 60.0,
        "settings": {"max_steps": 3_859_041},
        "found": "60 s of names",
        "passes": 9.6,
        "enough": False,
    }
    assert as_text(event).startswith("--seconds 60 picks --max-steps 3859041: as the best for ")


def test_evaluation_is_part_of_the_time(clock, capsys, monkeypatch):
    more = ["--seconds", "2", "--eval-interval", "10", "--val-fraction", "0.2", "--json"]
    assert command("train", *SMALL, *more) == 0
    planned = told(capsys, "plan")
    assert planned["settings"]["max_steps"] == pytest.approx(2.0 / OF_STEP, rel=0.1)
    found, evaluated = recipes.recipe, {}

    def seen(corpus, seconds, **settings):
        evaluated.update(settings)
        return found(corpus, seconds, **settings)

    monkeypatch.setattr(plan.recipes, "recipe", seen)
    assert command("train", *SMALL, *more, "--threads", "1", "--overwrite") == 0
    assert (len(evaluated["held_out"]), evaluated["eval_interval"]) == (6, 10)
    assert evaluated["threads"] == 1 and evaluated["engine"] == "auto"


def test_a_resumed_training_goes_on_with_the_plan(clock, monkeypatch, capsys):
    args = [*SMALL, "--seconds", "2", "--json"]
    assert command("train", *args) == 0
    whole = told(capsys, "plan")["settings"]["max_steps"]
    options = [text for k, v in told_settings("out").items() for text in (option(k), str(v))]
    interrupted_at(monkeypatch, 300, *args, "--out-dir", "cut")
    assert 0 < Checkpoint.load("cut").step < whole == notes("cut")["settings"]["max_steps"]
    capsys.readouterr()
    assert command("train", "--resume", "--out-dir", "cut", "--json") == 0
    end = told(capsys, "end")
    assert (end["reason"], end["step"]) == ("finished", whole)
    assert end["seconds"] == pytest.approx(2.0, rel=0.02)
    assert weights("cut") == weights("out")
    assert command("train", *options, "--out-dir", "given", "--num-samples", "1") == 0
    assert weights("given") == weights("out")


def told_settings(out_dir: str) -> dict:
    names = (*recipes.KEPT, "max_steps")
    return {name: notes(out_dir)["settings"][name] for name in names}


def interrupted_at(monkeypatch, step: int, *args: str) -> None:
    import signal

    steps = mg.Trainer.run

    def run_to(trainer, k):
        losses = steps(trainer, k)
        if trainer.num_steps < 2**31 - 1 and trainer.step >= step:  # not while it is calibrated
            signal.raise_signal(signal.SIGINT)
        return losses

    with monkeypatch.context() as patch:
        patch.setattr(mg.Trainer, "run", run_to)
        assert command("train", *args) == 130


def test_the_time_of_a_resumed_training_is_that_of_its_plan(clock, monkeypatch, capsys):
    interrupted_at(monkeypatch, 300, *SMALL, "--seconds", "2")
    capsys.readouterr()
    assert command("train", "--resume", "--seconds", "3") == 2
    assert "out was begun with --seconds 2, and keeps its number of steps" in (
        capsys.readouterr().err
    )
    assert command("train", "--resume", "--seconds", "2") == 0
    interrupted_at(monkeypatch, 30, *SMALL, "--max-steps", "100", "--out-dir", "steps")
    capsys.readouterr()
    assert command("train", "--resume", "--seconds", "2", "--out-dir", "steps") == 2
    assert "steps was begun with --max-steps 100, and keeps" in capsys.readouterr().err


def test_a_run_is_replaced_only_with_consent(clock, capsys):
    args = ["train", *SMALL, "--seconds", "0.5"]
    assert command(*args) == 0
    before, spent = weights("out"), clock()
    capsys.readouterr()
    assert command(*args) == 2
    err = capsys.readouterr().err
    assert "out holds a run already" in err and "--resume" in err and "--overwrite" in err
    assert weights("out") == before and clock() == spent  # nothing was measured
    assert command(*args, "--seed", "7", "--overwrite") == 0
    assert weights("out") != before


def test_running_text_is_cut_as_the_recipe_has_it(clock, capsys, monkeypatch):
    Path("text.txt").write_text("To be,\nor not to be:\nthat is the question.\n" * 40)
    args = ["train", "text.txt", "--mode", "stream", "--seconds", "0.2", "--n-embd", "8"]
    args += ["--n-layer", "1", "--num-samples", "0", "--json"]
    monkeypatch.setattr(recipes, "text_block_size", lambda seconds: 32)
    assert command(*args) == 0
    assert told(capsys, "plan")["settings"]["block_size"] == 32
    assert command(*args, "--block-size", "8", "--overwrite") == 0
    assert told(capsys, "plan")["settings"]["block_size"] == 8


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--seconds", "0"], "--seconds: must be greater than 0 and finite, not 0.0"),
        (["--seconds", "nan"], "--seconds: must be greater than 0"),
        (["--seconds", "inf"], "--seconds: must be greater than 0 and finite"),
        (["--seconds", "soon"], "--seconds: must be a number, not 'soon'"),
        (["--seconds", "1", "--max-steps", "5"], "not allowed with argument"),
        (["--seconds", "1", "--n-embd", "6"], "--n-embd must be divisible by --n-head"),
        (["--seconds", "1e9", *SHAPE], "--max-steps must be at most 2,147,483,647; a larger"),
        (["--seconds", "1", "--engine", "gpu"], "--engine 'gpu' is unknown"),
        (["--seconds", "1", "--patience", "3"], "need --eval-interval"),
        (["--seconds", "1", "--mode", "stream"], "needs a text file"),
        (["--seconds", "1", "--learning-rate", "1e38"], "diverged"),
        (["--seconds", "1", "--resume"], "holds nothing to resume"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_leaves_nothing(args, message, clock, folder, capsys):
    assert command("train", *args) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1
    assert list(folder.iterdir()) == []


def test_a_checkpoint_from_before_there_was_a_plan_is_resumed(monkeypatch):
    interrupted_at(monkeypatch, 30, *SMALL, "--max-steps", "100")
    trainer = mg.Trainer.resume("out", mg.Corpus.load())
    del trainer.notes["budget"]
    trainer.save("out")
    assert "budget" not in json.loads(json.dumps(Checkpoint.load("out").notes))
    assert command("train", "--resume") == 0
