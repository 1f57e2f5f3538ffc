"""Loss against training time and the Pareto front: what is measured, and what is drawn of it."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic import of_trainings

import pymicrogpt
from bench import __main__ as bench
from bench.measure import pareto, quality, recipes
from bench.measure.effort import EFFORTS
from bench.report.findings import quality as finding
from bench.report.findings.pareto import front
from bench.report.format import digits
from bench.report.part import all_parts
from bench.report.write import write
from bench.results import Results, Round, Row
from bench.task.task import Task
from bench.task.workload import HELD_OUT, SPLIT_SEED, WORKLOADS
from bench.variants.variant import load_variants
from pymicrogpt import recipes as package
from pymicrogpt.config import INT_MAX


@pytest.fixture(scope="module")
def corpus() -> pymicrogpt.Corpus:
    rng = random.Random(3)
    names = ["".join(rng.choices("abcde", k=rng.randint(4, 16))) for _ in range(300)]
    return pymicrogpt.Corpus.from_documents(names)


@pytest.fixture
def task(corpus, tmp_path) -> Task:
    train, held_out = corpus.split(HELD_OUT, SPLIT_SEED)
    task = Task.prepare(WORKLOADS["d16"], 16, train, tmp_path)
    quality.save_held_out(task, train, held_out)
    return task


def held_out_of(task: Task) -> dict:
    with np.load(quality.held_out_file(task)) as arrays:
        return dict(arrays)


# What is measured


def test_a_curve_is_that_of_the_same_training_by_the_library(task, corpus):
    train, held_out = corpus.split(HELD_OUT, SPLIT_SEED)
    assert len(task.offsets) - 1 == len(train) == len(corpus) - 15
    points = quality.curve("autovec", load_variants()["scalar"], task, 40, held_out_of(task))
    trainer = pymicrogpt.Trainer(
        train, pymicrogpt.Config(n_embd=16), engine="scalar", batch_size=16, num_steps=40
    )
    assert points[0]["held_out"] == pytest.approx(trainer.evaluate(held_out), rel=1e-6)
    losses = trainer.run()
    last = points[-1]
    assert (points[0]["steps"], points[0]["seconds"], last["steps"]) == (0, 0.0, 40)
    assert last["held_out"] == pytest.approx(trainer.evaluate(held_out), rel=1e-5)
    assert last["held_out"] < points[0]["held_out"]
    after = points[-2]["steps"]
    assert last["train"] == pytest.approx(losses[after:].mean(), rel=1e-5)
    assert all(a["seconds"] < b["seconds"] for a, b in pairwise(points))


def test_a_row_too_slow_for_one_step_has_its_first_loss(task):
    points = quality.curve("autovec", load_variants()["scalar"], task, 0, held_out_of(task))
    assert [point["steps"] for point in points] == [0]


@pytest.mark.parametrize("name", ["cpython", "rust-tape"])
def test_programs_tell_their_parameters(name, task):
    variant = load_variants()[name]
    if reason := variant.available():
        pytest.skip(reason)
    found = {}
    for each in (variant, load_variants()["tape"]):
        session = each.open(task)
        session.run(1)
        found[each.name] = session.parameters()
        session.close()
    np.testing.assert_allclose(found[name], found["tape"], rtol=1e-3, atol=1e-4)
    assert not np.allclose(found[name], task.parameters, atol=1e-3)


def test_rows_train_for_the_time_they_are_given(corpus, tmp_path):
    variants = load_variants()
    rows = [
        Row("scalar", "C++ scalar", "hand-derived", "d16", 16, values=[1e-3]),
        Row("numpy", "NumPy", "array libraries", "d16", 16, values=[30e-6]),
        Row("broken", "b", "hand-derived", "d16", 16, values=[30e-6]),
    ]
    for row in rows:
        row.rounds = [Round(1.0, 10, 160, 1140)]
    rows.append(Row("tape", "tape", "autograd tape", "d16", 1, status="error", reason="wrong"))
    broken = tmp_path / "broken.py"
    broken.write_text(
        "from bench.variants.variant import Variant\n"
        "VARIANTS = [Variant('broken', 'b', 'hand-derived', lambda task: 1 / 0)]",
        encoding="utf-8",
    )
    variants["broken"] = load_variants([str(broken)])["broken"]
    (probe,) = quality.run_quality(
        "autovec",
        variants,
        {"d16": WORKLOADS["d16"]},
        rows,
        corpus,
        replace(EFFORTS["quick"], training_seconds=0.05, trained_groups=("hand-derived",)),
        tmp_path / "quality",
        lambda *_: None,
        [str(broken)],
    )
    good, bad = probe.cases
    assert (good["variant"], good["reason"]) == ("scalar", "")
    first = int(0.05 / (1e-3 * 16))  # at a speed far too low: over early
    assert good["points"][-1]["steps"] > 2 * first
    assert 0.02 < good["points"][-1]["seconds"] < 2.0  # even where a core is shared
    assert (bad["points"], bad["reason"]) == ([], "ZeroDivisionError: division by zero")


def test_a_corpus_that_cannot_be_split_says_so(tmp_path):
    corpus = pymicrogpt.Corpus.from_documents(["ab"])
    (probe,) = quality.run_quality(
        "autovec", {}, {}, [], corpus, EFFORTS["quick"], tmp_path, lambda *_: None, []
    )
    front = pareto.run_pareto(corpus, "autovec", "auto-vectorised", lambda *_: None)
    for found in (probe, front):
        assert found.status == "skipped"
        assert "nothing can be held out" in found.reason
    for part in all_parts(Results({}, {}, [], {}, "", [probe, front])):
        assert "nothing can be held out" in part.missing[0]


def test_the_search_trains_as_often_as_it_may(corpus):
    told = []
    probe = pareto.run_pareto(
        corpus, "autovec", "auto-vectorised", lambda *words: told.append(words), {0.003: 9, 0.02: 2}
    )
    assert [case["budget"] for case in probe.cases] == [0.003] * 9 + [0.02] * 2
    assert len(told) == 11
    train, held_out = corpus.split(HELD_OUT, SPLIT_SEED)
    case = probe.cases[1]  # more than the first, all of which are defaults
    trainer = pymicrogpt.Trainer(
        train,
        pymicrogpt.Config(case["n_layer"], case["n_embd"], block_size=case["block_size"]),
        engine="autovec",
        batch_size=case["batch"],
        learning_rate=case["learning_rate"],
        num_steps=case["steps"],
    )
    trainer.run()
    assert case["held_out"] == trainer.evaluate(held_out)
    best = min(probe.cases[:9], key=lambda case: case["held_out"])
    assert {**probe.cases[9], **SAME} == {**best, **SAME}  # where the next time begins


def test_a_search_begins_with_what_was_found_before(corpus):
    """For the same time, the next and the one before."""
    halves = corpus.split(HELD_OUT, SPLIT_SEED)
    known = {1: pareto.Setting(n_embd=96), 0.02: pareto.Setting(n_embd=48)}
    trials = {0.003: 2, 0.02: 4, 0.03: 2, 1: 0}
    cases = list(pareto.search(lambda _: halves, "autovec", trials, lambda _: None, known=known))
    assert [case["n_embd"] for case in cases[:2]] == [16, 48]
    assert 48 in [case["n_embd"] for case in cases[2:4]]
    assert {case["n_embd"] for case in cases[6:]} >= {96}
    before = recipes.found_before("names")
    assert before and all(setting.moved(n_embd=1) for setting in before.values())


SAME = dict.fromkeys(("steps", "budget", "seconds", "held_out"))


def test_a_hill_is_climbed_to_its_top():
    top = pareto.Setting(n_layer=3, n_embd=64, batch_size=32, learning_rate=0.003)
    tried = []

    def loss(setting: pareto.Setting) -> float:
        """Steps away from the top, over ladders that have one between any two rungs."""
        tried.append(setting)
        return sum(
            abs(ladder.index(getattr(setting, name)) - ladder.index(getattr(top, name)))
            for name, ladder in pareto.LADDERS.items()
        )

    names = ["n_embd", "learning_rate", "n_layer", "batch_size"]
    start = pareto.Setting()
    ranked = pareto.climb([start, *start.larger(running_text=False)], 100, loss, names)
    assert ranked[0] == top and len(tried) == len(set(tried)) == len(ranked)
    assert len(tried) == 38  # 62 where all neighbours are tried before any of theirs
    assert [loss(setting) for setting in ranked] == sorted(map(loss, ranked))
    assert len(pareto.climb([start], 7, loss, names)) == 7


def test_a_recipe_is_the_best_of_its_time_and_better_than_those_of_less():
    found = ((0.1, 2.5), (0.1, 2.4), (0.1, None), (1.0, None), (3.0, 2.2))
    cases = [{"budget": budget, "held_out": loss} for budget, loss in found]
    best = [(0.1, cases[1]), (3.0, cases[4])]
    assert list(recipes.best_by_time(cases)) == best
    more = [{"budget": budget, "held_out": loss} for budget, loss in ((10.0, 2.3), (60.0, 2.25))]
    assert list(recipes.best_by_time(cases + more)) == [*best, (10.0, cases[4])]  # 3 s are enough
    assert list(recipes.best_by_time(cases[2:4])) == []


def test_the_file_of_recipes_is_as_the_package_reads_it(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "corpora", lambda: {"names": (lambda _: (corpus, corpus), False)})
    monkeypatch.setattr(recipes, "TRIALS", {0.003: 2})
    monkeypatch.setattr(recipes, "best_engine", lambda _: "autovec")
    file = tmp_path / "recipes.json"
    assert bench.main(["recipes", "--out", str(file)]) == 0
    monkeypatch.setattr(package, "files", lambda _: SimpleNamespace(joinpath=lambda *_: file))
    per_step, [found] = package.recipes.__wrapped__()
    assert per_step > 0 and (found.corpus, found.mode, found.seconds) == ("names", "lines", 0.003)
    assert (found.predictions, found.per_document) == pytest.approx(
        package.extent(corpus, 16), 0.01
    )


def test_recipes_for_names_are_not_those_of_other_names(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("PYMICROGPT_CORPUS", raising=False)
    monkeypatch.setenv("PYMICROGPT_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "recipes.json"
    assert bench.main(["recipes", "--out", str(file)]) == 2
    assert "names.txt" in capsys.readouterr().err and not file.exists()


def test_a_training_that_missed_its_time_is_done_again(corpus, monkeypatch):
    """By a clock that only steps move, and those of the training itself by more."""
    now = 0.0
    run = pymicrogpt.Trainer.run

    def timed(trainer, k=None):
        nonlocal now
        k = trainer.num_steps if k is None else k
        now += k * (0.001 if trainer.num_steps == INT_MAX else 0.002)
        return run(trainer, k)

    monkeypatch.setattr(pymicrogpt.Trainer, "run", timed)
    halves = corpus.split(HELD_OUT, SPLIT_SEED)
    setting = pareto.Setting(batch_size=1)
    case = pareto.trained(setting, 1.0, lambda _: halves, "autovec", clock=lambda: now)
    assert case["seconds"] == pytest.approx(1.0, rel=0.01)
    assert case["steps"] == pytest.approx(480, rel=0.01)  # 960 by the pace of the first
    long = pareto.trained(setting, 6.0, lambda _: halves, "autovec", clock=lambda: now)
    assert long["seconds"] > 11.0


# What follows from it


def test_times_and_losses_are_interpolated():
    points = [
        {"seconds": seconds, "held_out": loss} for seconds, loss in ((0, 3), (1, 2.5), (2, 2.0))
    ]
    assert finding.time_below(points, 2.25) == pytest.approx(1.5)
    assert finding.time_below(points, 4) == 0
    assert finding.time_below(points, 2.0) is None  # not below
    losses = [point["held_out"] for point in points]
    assert finding.at(points, 0.5, losses) == pytest.approx(2.75)
    assert finding.at(points, 9, losses) == 2.0


def test_front_has_what_nothing_beats():
    losses = {0.1: 2.5, 0.2: 2.6, 0.3: 2.4, 0.4: None, 0.5: 2.4, 0.6: 2.1}
    cases = [{"seconds": s, "held_out": loss} for s, loss in losses.items()]
    assert [case["seconds"] for case in front(cases)] == [0.1, 0.3, 0.6]


# What is drawn


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_no_label_is_clipped_or_covers_another(narrow):
    from matplotlib.text import Text

    drawings = [drawing for part in all_parts(of_trainings()) for drawing in part.drawings]
    assert [drawing.name for drawing in drawings] == ["quality_d16", "quality_d64", "pareto"]
    for drawn in drawings:
        figure = (drawn.narrow if narrow else drawn.wide).figure
        figure.draw_without_rendering()
        texts = [figure._suptitle, figure._supxlabel, *figure.axes[0].texts]
        boxes = {text: Text.get_window_extent(text) for text in texts}
        for text, box in boxes.items():
            assert figure.bbox.x0 <= box.x0, f"{drawn.name}: {text.get_text()!r}"
            assert box.x1 <= figure.bbox.x1, f"{drawn.name}: {text.get_text()!r}"
        for (a, box_a), (b, box_b) in combinations(boxes.items(), 2):
            assert not box_a.overlaps(box_b), f"{drawn.name}: {a.get_text()!r} on {b.get_text()!r}"


def test_titles_and_tables_say_what_was_found():
    results = of_trainings()
    found = [part for part in all_parts(results) if part.place[0] > 1]
    titles = {drawing.name: drawing.wide.title for part in found for drawing in part.drawings}
    assert "after one second of training" in titles["quality_d16"]
    best = front(results.probed("pareto")[0].cases)[-1]
    assert f"{best['held_out']:.2f} with n_layer 1, n_embd {best['n_embd']}" in titles["pareto"]
    head, first, *_ = found[0].tables[0]
    assert head[5:] == ("seconds to 2.2", "seconds to 2.0")
    best = min(results.probed("quality")[0].cases[1:], key=lambda c: c["points"][-1]["held_out"])
    assert first[5:] == tuple(
        digits(finding.time_below(best["points"], level)) for level in (2.2, 2.0)
    )
    assert "none" in {line[6] for line in found[0].tables[0]}
    assert any("it is broken" in words for words in found[0].missing)


def test_report_has_both_sections(tmp_path):
    results = of_trainings()
    write(results, tmp_path / "out")
    assert Results.load(tmp_path / "out" / "results.json") == results
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for name in ("quality_d16.png", "quality_d64.png", "pareto.png"):
        assert f"]({name})" in text
        assert Path(tmp_path, "out", name).stat().st_size > 10_000
    assert "## Loss against time" in text
    assert "How close" not in text
