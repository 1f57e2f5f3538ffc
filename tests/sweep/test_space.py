"""What is tried."""

from __future__ import annotations

import math
import re

import pytest
from conftest import REPO

import pymicrogpt as mg
from pymicrogpt.sweep import Range, Space
from pymicrogpt.sweep.trial import Data

from .common import HELD_OUT


def test_grid_has_every_combination_with_all_settings():
    space = Space.grid(learning_rate=[0.003, 0.01], n_embd=[16, 32], n_layer=2, seeds=3)
    assert len(space) == 12
    assert {(t["learning_rate"], t["n_embd"], t["seed"]) for t in space.trials} == {
        (rate, width, seed) for rate in (0.003, 0.01) for width in (16, 32) for seed in (42, 43, 44)
    }
    assert all(t["n_layer"] == 2 and t["num_steps"] == 1000 for t in space.trials)
    assert space.varied == ["n_embd", "learning_rate", "seed"]


def test_random_draws_begin_alike_and_stay_inside():
    axes = {"learning_rate": Range(1e-3, 1e-1), "n_embd": Range(8, 40), "n_head": [1, 2, 4]}
    few, many = Space.random(20, **axes), Space.random(200, **axes)
    assert many.trials[:20] == few.trials
    assert Space.random(20, **axes, draw_seed=1) != few
    rates = sorted(t["learning_rate"] for t in many.trials)
    assert rates[0] >= 1e-3 and rates[-1] <= 1e-1
    # Evenly over the logarithm: half of them below 0.01, up to 6 standard deviations.
    below = sum(rate < 1e-2 for rate in rates)
    assert abs(below - 100) < 6 * math.sqrt(200 / 4)
    widths = {t["n_embd"] for t in many.trials}
    assert widths <= set(range(8, 41)) and {type(w) for w in widths} == {int}
    assert all(t["n_embd"] % t["n_head"] == 0 for t in many.trials)


def test_random_draws_are_different_ones():
    space = Space.random(7, n_embd=Range(8, 16), n_head=1, seeds=2)
    assert len(space) == 14
    assert len({t["n_embd"] for t in space.trials}) == 7 and not space.missing


def test_a_random_space_has_all_combinations_where_they_are_fewer():
    axes = {"n_embd": Range(8, 16), "n_head": [2, 4, 4]}
    few, all = Space.random(5, **axes), Space.random(20, **axes)
    assert all.trials[:5] == few.trials and not few.missing
    found = [(t["n_embd"], t["n_head"]) for t in all.trials]
    assert sorted(found) == [(w, h) for w in range(8, 17) for h in (2, 4) if w % h == 0]
    assert all.missing == 20 - len(found)
    # Those that a draw hits once in a hundred thousand times are there, too.
    rare = Space.random(99_999, n_layer=Range(1, 3000))
    assert {t["n_layer"] for t in rare.trials} == set(range(1, 3001))
    assert rare.missing == 96_999
    # A range of two neighbouring numbers, and one too long to go through.
    assert len(Space.random(9, beta2=Range(0.5, math.nextafter(0.5, 1)))) == 2
    assert len(Space.random(9, n_embd=Range(4, 2**62), n_head=1)) == 9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Space.grid(n_embed=[16]), "'n_embed' is no setting; there are n_layer, n_embd"),
        (lambda: Space.grid(n_embd=[16, "32"]), "n_embd must be an integer, not '32'"),
        (lambda: Space.grid(n_embd=[]), "n_embd has no values"),
        (lambda: Space.grid(learning_rate=float("nan")), "learning_rate must be finite"),
        (
            lambda: Space.grid(learning_rate=Range(0.1, 1)),
            "only a random space can draw from: random must say how many",
        ),
        (lambda: Space.of(draw_seed=0, n_embd=[8, 16]), "draw_seed is for the draws of a random"),
        (lambda: Space.grid(num_steps=5, seconds=1), "seconds must not be given beside num_steps"),
        (lambda: Space.grid(seconds=0), "seconds must be greater than 0"),
        (lambda: Space.grid(evals=0), "evals must be at least 1"),
        (lambda: Space.grid(seeds=0), "seeds must be at least 1"),
        (lambda: Space.grid(seed=1), "seed is no axis: give seeds"),
        (lambda: Data(["ab"], HELD_OUT), "train must be a Corpus, not list"),
        (lambda: Data(HELD_OUT, mg.Corpus.from_documents(["!"])), "held_out has '!', which no"),
        (lambda: Space.random(0), "trials must be at least 1"),
        (lambda: Space.random(1, n_embd=Range(1.0, 9.0)), "a range of n_embd needs integers"),
        (lambda: Space.random(1, n_embd=[3, 5], n_head=2), "none of 1,000 draws is a shape"),
        (lambda: Range(2, 1), "low < high"),
        (lambda: Range(0, 1), "starts above 0"),
        (lambda: Range("1", 2), "low of a range must be a number"),
    ],
)
def test_bad_input_says_what_is_wrong(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_toml(tmp_path):
    file = tmp_path / "space.toml"
    file.write_text(
        "random = 5\nseeds = 2\n[axes]\nnum_steps = 100\nn_embd = [16, 32]\n"
        "learning_rate = { low = 0.001, high = 0.1 }\nbeta2 = { low = 0.9, high = 1, log = false }"
    )
    space = Space.from_toml(file)
    assert space == Space.random(
        5,
        seeds=2,
        num_steps=100,
        n_embd=[16, 32],
        learning_rate=Range(0.001, 0.1),
        beta2=Range(0.9, 1, log=False),
    )
    changed = Space.from_toml(file, random=7, seconds=2)
    assert len(changed) == 14
    assert {(t["num_steps"], t["seconds"]) for t in changed.trials} == {(None, 2.0)}


def test_toml_with_a_byte_order_mark(tmp_path):
    file = tmp_path / "space.toml"
    file.write_bytes(b"\xef\xbb\xbf[axes]\nn_embd = [16, 32]\n")
    assert len(Space.from_toml(file)) == 2


def test_the_documented_toml(tmp_path):
    document = REPO / "docs" / "sweeps.md"
    [text] = re.findall(r"```toml\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)
    file = tmp_path / "space.toml"
    file.write_text(text)
    assert len(Space.from_toml(file)) == 300


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n_embd = 16", "'n_embd' is unknown here; the file has random, draw_seed, seeds and"),
        ("axes = 3", "axes must be a table"),
        ("[axes]\nn_embd = { low = 3 }", "n_embd: a range is"),
        ("[axes]\nwidth = 3", "'width' is no setting"),
        ("draw_seed = 5\n[axes]\nn_embd = [8, 16]", "draw_seed is for .*: random must say how"),
        ("[axes\n", "space.toml: .*line 1"),
    ],
)
def test_bad_toml_names_the_file(tmp_path, text, message):
    file = tmp_path / "space.toml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as info:
        Space.from_toml(file)
    assert str(file) in str(info.value)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"n_embd": [16, 2**63]}, "n_embd must be at most 9223372036854775807"),
        ({"batch_size": -(2**63)}, "batch_size must be at least -9223372036854775807"),
        ({"seeds": [2**70]}, "seed must be at most"),
        ({"seeds": [1, -5]}, "seed must be at least 0, not -5"),
        ({"learning_rate": 10**400}, "learning_rate must be finite"),
        ({"beta1": -(10**400)}, "beta1 must be finite"),
        ({"seeds": 2**31 - 1}, "these are 2,147,483,647 trials; a sweep has at most 1,000,000"),
        ({"n_layer": range(1, 2000), "seeds": 600}, "these are 1,199,400 trials"),
    ],
)
def test_numbers_that_no_report_or_memory_could_hold(axes, message):
    with pytest.raises(ValueError, match=message):
        Space.grid(**axes)


def test_more_numbers_that_no_report_or_memory_could_hold(tmp_path):
    for low, high in ((1, 10**400), (-(10**400), 1)):
        with pytest.raises(ValueError, match="of a range must be at most 9223372036854775807"):
            Range(low, high)
    with pytest.raises(ValueError, match="a sweep has at most 1,000,000"):
        Space.random(2**31 - 1, n_embd=[8, 16])
    path = tmp_path / "space.toml"
    path.write_text("[axes]\nn_embd = " + "[" * 100_000)
    with pytest.raises(ValueError, match=r"space\.toml: its values are nested too deeply"):
        Space.from_toml(path)
