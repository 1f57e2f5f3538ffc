"""What is picked for a corpus and a time, and how many steps fit. By a clock that steps move."""

from __future__ import annotations

import numpy as np
import pytest

import pymicrogpt as mg
from pymicrogpt import recipes
from pymicrogpt.config import INT_MAX

TINY = {"n_layer": 1, "n_embd": 4, "block_size": 8, "batch_size": 1}
NAMES = mg.Corpus.from_documents(["anna", "bert", "carla", "dora", "emil"] * 40)


class Clock:
    """Seconds of steps and evaluations, which take `of_step(trainer)` and `of_document` each."""

    def __init__(self, monkeypatch, of_step=lambda trainer: 1e-3, of_document=0.0) -> None:
        self.now = 0.0
        run, evaluate = mg.Trainer.run, mg.Trainer.evaluate

        def timed_run(trainer, k=None):
            k = trainer.num_steps - trainer.step if k is None else k
            self.now += k * of_step(trainer)
            return run(trainer, k)

        def timed_evaluate(trainer, documents):
            self.now += len(documents) * of_document
            return evaluate(trainer, documents)

        monkeypatch.setattr(mg.Trainer, "run", timed_run)
        monkeypatch.setattr(mg.Trainer, "evaluate", timed_evaluate)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def few(monkeypatch):
    """Recipes that are easy to tell apart, of a machine that takes a millisecond for a step."""
    of = recipes.Found(
        "names", "lines", 10_000, 5.0, 1.0, False, 1.0, 500, 1, 16, 16, 16, 0.01, 2.0
    )
    found = [
        of,
        of._replace(seconds=10.0, n_layer=2, n_embd=32, learning_rate=0.005),
        of._replace(seconds=100.0, n_layer=3, n_embd=48, learning_rate=0.003),
        of._replace(corpus="words", predictions=100, n_layer=4),
        of._replace(corpus="prose", mode="stream", predictions=100_000, per_document=64.0,
                    block_size=64, batch_size=4, n_layer=5),
        of._replace(corpus="prose", mode="stream", predictions=100_000, per_document=32.0,
                    seconds=10.0, block_size=32, n_layer=6),
    ]  # fmt: skip
    monkeypatch.setattr(recipes, "recipes", lambda: (1e-3, found))


def lines(count: int, length: int) -> mg.Corpus:
    letters = "abcdefghij" * 20
    return mg.Corpus.from_documents([letters[i % 10 :][:length] for i in range(count)])


# What is picked


@pytest.mark.parametrize(
    ("corpus", "seconds", "n_layer"),
    [
        (lines(2000, 4), 1.0, 1),
        (lines(2000, 4), 3.0, 1),
        (lines(2000, 4), 4.0, 2),
        (lines(2000, 4), 40.0, 3),
        (lines(2000, 4), 1e6, 3),
        (lines(30, 4), 1.0, 4),
        (lines(2000, 60), 1.0, 5),
        (lines(400, 59), 1.0, 5),
        (mg.Corpus.from_text("to be or not to be, " * 5000, 64), 1.0, 5),
        (mg.Corpus.from_text("to be or not to be, " * 5000, 32), 12.0, 6),
    ],
    ids=lambda value: value.source if isinstance(value, mg.Corpus) else str(value),
)
def test_the_nearest_recipe_is_picked(few, corpus, seconds, n_layer):
    found, picked = recipes.pick(corpus, seconds, {})
    assert found.n_layer == picked["n_layer"] == n_layer


def test_what_is_given_is_kept(few):
    given = {"n_layer": 9, "n_embd": 12, "n_head": 3, "block_size": 7, "batch_size": 5,
             "learning_rate": 0.5}  # fmt: skip
    assert recipes.pick(NAMES, 1.0, given)[1] == given
    for name, value in given.items():
        assert recipes.pick(NAMES, 1.0, {name: value})[1][name] == value
    assert recipes.pick(NAMES, 1.0, {"n_head": 3})[1]["n_embd"] == 18  # which three heads divide
    rates = {c: recipes.pick(NAMES, 1.0, {"n_embd": c})[1]["learning_rate"] for c in (8, 16, 96)}
    assert rates == {8: 0.02, 16: 0.01, 96: 0.0017}  # the wider, the smaller
    with pytest.raises(TypeError, match="no 'seed'; it has n_layer, n_embd"):
        recipes.pick(NAMES, 1.0, {"seed": 1})


def test_a_context_holds_nearly_all_documents(few):
    mixed = mg.Corpus.from_documents(["ab"] * 995 + ["abcdefghij" * 5] * 5)
    longer = mg.Corpus.from_documents(["ab"] * 900 + ["abcdefghij" * 5] * 100)
    for corpus, context in ((mixed, 16), (longer, 64), (lines(50, 190), 128), (lines(9, 15), 16),
                            (lines(9, 16), 32)):  # fmt: skip
        assert recipes.pick(corpus, 1.0, {})[1]["block_size"] == context


def test_a_batch_is_as_much_work_as_in_the_search(few):
    picked = recipes.pick(lines(2000, 9), 1.0, {})[1]
    assert picked["batch_size"] == 8  # of 10 predictions, where there 16 of 5 were best
    assert recipes.pick(lines(3, 4), 1.0, {})[1]["batch_size"] == 3
    assert recipes.pick(lines(2000, 4), 0.1, {})[1]["batch_size"] == 2  # a tenth of the time


def test_running_text_is_cut_for_the_time(few):
    assert recipes.text_block_size(1.0) == 64
    assert recipes.text_block_size(20.0) == 32


def test_a_slow_engine_has_less_time(few, monkeypatch):
    fast, slow = (
        mg.recipe(NAMES, 10.0, engine="scalar", clock=Clock(monkeypatch, lambda _, s=s: s), **TINY)
        for s in (1e-3, 0.01)
    )
    assert (fast.found, slow.found) == ("10 s of names", "1 s of names")


# How many steps


def test_steps_fit_the_time(few, monkeypatch):
    clock = Clock(monkeypatch)
    recipe = mg.recipe(NAMES, 10.0, engine="scalar", n_embd=16, clock=clock)
    assert 0.2 < recipe.seconds < 0.8
    assert recipe.num_steps == round((10.0 - recipe.seconds) / 1e-3)
    trainer = mg.Trainer(NAMES, recipe.config, engine="scalar", **recipe.settings)
    assert (trainer.batch_size, trainer.num_steps) == (recipe.batch_size, recipe.num_steps)
    assert recipe.found == "10 s of names"


def test_the_first_steps_may_be_slow(few, monkeypatch):
    clock = Clock(monkeypatch, lambda trainer: 0.1 if trainer.step < 3 else 1e-3)
    recipe = mg.recipe(NAMES, 20.0, engine="scalar", clock=clock)
    assert recipe.num_steps == round((20.0 - recipe.seconds) / 1e-3)


def test_evaluation_is_part_of_the_time(few, monkeypatch):
    held_out = lines(100, 3)
    clock = Clock(monkeypatch, of_document=1e-3)
    settings = {"engine": "scalar", "held_out": held_out, "eval_interval": 20, "clock": clock}
    recipe = mg.recipe(NAMES, 30.0, **settings, **TINY)
    per_step = 1e-3 + 100 * 1e-3 / 20
    assert recipe.num_steps == round((30.0 - recipe.seconds) / per_step)


def test_a_step_longer_than_the_time_is_one(few, monkeypatch):
    recipe = mg.recipe(NAMES, 1.0, engine="scalar", clock=Clock(monkeypatch, lambda _: 5.0))
    assert (recipe.num_steps, recipe.batch_size) == (1, 1)


@pytest.mark.parametrize(("active", "later"), [(0.26, 0.13), (0.5, 0.5)])
def test_steps_become_cheaper_where_hidden_values_fall_silent(few, monkeypatch, active, later):
    found = mg.Activity(values=active, units=1.0, resting=0.0)
    monkeypatch.setattr(mg.Trainer, "activity", found)
    clock = Clock(monkeypatch)
    dense = mg.recipe(NAMES, 2.0, engine="scalar", n_embd=16, clock=clock)
    sparse = mg.recipe(NAMES, 2.0, engine="scalar", n_embd=32, clock=clock)
    assert dense.num_steps == round((2.0 - dense.seconds) / 1e-3)
    cheaper = (1 + recipes.THEIR_TIME * later) / (1 + recipes.THEIR_TIME * active)
    assert sparse.num_steps == round((2.0 - sparse.seconds) / (1e-3 * cheaper))


def test_hidden_values_fall_silent_as_in_the_search_where_the_text_is_like_its(monkeypatch):
    kept = recipes.Found("names", "lines", 1, 5.0, 1.0, False, 1.0, 500, 1, 32, 16, 16, 0.01, 2.0)
    monkeypatch.setattr(mg.Trainer, "activity", mg.Activity(values=0.5, units=1.0, resting=0.0))
    predictions, _ = recipes.extent(NAMES, 16)
    for times, later in ((1, 0.1), (2, 0.3), (0.5, 0.3), (1e9, 0.5)):
        of = kept._replace(predictions=times * predictions, active=0.1)
        monkeypatch.setattr(recipes, "recipes", lambda of=of: (1e-3, [of]))
        with monkeypatch.context() as patch:
            fitted = mg.recipe(NAMES, 2.0, engine="scalar", clock=Clock(patch))
        cheaper = (1 + recipes.THEIR_TIME * later) / (1 + recipes.THEIR_TIME * 0.5)
        assert fitted.num_steps == round((2.0 - fitted.seconds) / (1e-3 * cheaper))


def test_what_cannot_be_is_refused(few, monkeypatch):
    clock = Clock(monkeypatch)
    for seconds in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds must be greater than 0 and finite"):
            mg.recipe(NAMES, seconds, clock=clock)
    with pytest.raises(TypeError, match="seconds must be a number"):
        mg.recipe(NAMES, "ten", clock=clock)
    with pytest.raises(ValueError, match="num_steps must be at most 2,147,483,647; a larger"):
        mg.recipe(NAMES, 1.5e-3 * INT_MAX, engine="scalar", clock=clock, **TINY)
    with pytest.raises(ValueError, match="n_embd must be divisible"):
        mg.recipe(NAMES, 1.0, n_embd=6, clock=clock)
    with pytest.raises(TypeError, match="corpus must be a Corpus, not list"):
        mg.recipe(["anna"], 1.0, clock=clock)
    with pytest.raises(TypeError, match="held_out must be a Corpus, not list"):
        mg.recipe(NAMES, 1.0, held_out=["anna"], clock=clock)
    with pytest.raises(ValueError, match="the corpus has no documents"):
        mg.recipe(mg.Corpus((), "none"), 1.0, clock=clock)
    for wrong, error in ((-1, ValueError), (2.5, TypeError), ("x", TypeError)):
        with pytest.raises(error, match="eval_interval must be"):
            mg.recipe(NAMES, 1.0, held_out=NAMES, eval_interval=wrong, clock=clock)
    with pytest.raises(ValueError, match="diverged"):
        mg.recipe(NAMES, 10.0, engine="scalar", learning_rate=1e38, clock=clock)


# The file


def test_no_more_steps_than_are_enough(few, monkeypatch):
    found = recipes.recipes()[1]
    longest = found[2]._replace(enough=True, took=40.0, steps=300)
    monkeypatch.setattr(recipes, "recipes", lambda: (1e-3, [*found[:2], longest]))
    trained = {}
    for count in (200, 2000, 20_000):  # a tenth of the corpus of the search, as many, tenfold
        clock = Clock(monkeypatch, lambda _: 1e-3)
        recipe = mg.recipe(lines(count, 4), 100.0, engine="scalar", clock=clock)
        assert recipe.enough and recipe.seconds < 3.0
        trained[count] = recipe.num_steps
    assert trained == {200: 300, 2000: 300, 20_000: 3000}
    clock = Clock(monkeypatch, lambda _: 1e-3)
    smaller = mg.recipe(lines(2000, 4), 100.0, engine="scalar", batch_size=4, clock=clock)
    assert smaller.num_steps == 4 * 300
    clock = Clock(monkeypatch, lambda _: 1e-3)
    narrow = mg.recipe(lines(2000, 4), 100.0, engine="scalar", n_embd=16, clock=clock)
    assert not narrow.enough and narrow.num_steps > 10_000  # it learns less by heart
    clock = Clock(monkeypatch, lambda _: 1.0)
    assert not mg.recipe(lines(2000, 4), 10.0, engine="scalar", clock=clock).enough


def test_the_file_has_recipes_for_lines_and_text_and_the_times_promised():
    per_step, found = recipes.recipes()
    assert per_step > 0
    for corpus in {f.corpus for f in found}:
        times = [f.seconds for f in found if f.corpus == corpus]
        assert times == sorted(set(times)) and min(times) == 0.1
        assert corpus != "names" or {0.1, 1.0, 10.0} <= set(times)
        losses = [f.held_out for f in found if f.corpus == corpus]
        assert losses == sorted(losses, reverse=True)
        assert not any(f.enough for f in found if f.corpus == corpus and f.seconds < times[-1])
    assert {f.mode for f in found} == {"lines", "stream"}
    for f in found:
        config = mg.Config(f.n_layer, f.n_embd, block_size=f.block_size)
        assert config.head_dim > 0 and f.held_out > 0
        np.testing.assert_array_less(0, [f.batch_size, f.learning_rate, f.predictions])
