"""The probes of the best SIMD engine: what they measure, what goes wrong, what is drawn of them."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from synthetic import of_probes

import pymicrogpt
from bench.__main__ import main as bench_main
from bench.measure import probes
from bench.measure.effort import EFFORTS
from bench.report.findings import density, roofline
from bench.report.format import TIMES, digits
from bench.report.part import Drawing, all_parts
from bench.report.write import write
from bench.results import Probe, Results, Row, mean_share
from bench.run_all import main
from bench.task.task import Task, WrongResult
from bench.task.workload import WIDTHS, WORKLOADS
from bench.variants.sessions import EngineSession
from bench.variants.variant import best_engine, load_variants
from pymicrogpt import _core

ROOT = Path(__file__).parents[2]
ENGINE = best_engine(load_variants())
needs_simd = pytest.mark.skipif(ENGINE is None, reason="no SIMD engine runs here")
TINY = replace(EFFORTS["quick"], rounds=2, probe_seconds=1e-4, largest_batch=4)


@pytest.fixture(autouse=True)
def _small_corpus(tmp_path, monkeypatch):
    """No network, whatever the test runs; documents of 4 to 16 characters."""
    rng = random.Random(3)
    names = ["".join(rng.choices("abcde", k=rng.randint(4, 16))) for _ in range(300)]
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(names), encoding="utf-8")
    monkeypatch.setenv("PYMICROGPT_CORPUS", str(corpus))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tasks(tmp_path) -> dict[int, Task]:
    corpus = pymicrogpt.Corpus.load()
    return {b: Task.prepare(WORKLOADS["d16"], b, corpus, tmp_path) for b in (1, 16)}


# What is measured


@needs_simd
def test_every_probe_on_a_tiny_workload(tasks):
    phase_cases = probes.phases(ENGINE, tasks, TINY)
    assert [case["batch"] for case in phase_cases] == [1, 16]
    for case in phase_cases:
        assert len(case["phases"]) > 5
        assert all(len(v) == 2 and min(v) >= 0 for v in case["phases"].values())
        assert sum(map(sum, case["phases"].values())) > 0

    batch_cases = probes.batch(ENGINE, tasks, TINY)
    wanted = [(size, on) for size in (1, 2, 4) for on in (True, False)]
    assert [(case["batch"], case["sharing"]) for case in batch_cases] == wanted
    assert all(len(case["seconds"]) == 2 and min(case["seconds"]) > 0 for case in batch_cases)

    for case in probes.threads(ENGINE, tasks, TINY):
        assert len(case["one"]) == len(case["two"]) == 4
        assert case["peak_shares_one"] == case["peak_shares_two"] == [1.0] * 4

    density_cases = probes.density(ENGINE, tasks, TINY)
    assert [(c["n_embd"], c["batch"]) for c in density_cases] == [
        *((width, size) for size in (16, 1) for width in (16, 32, 64, 128)), (64, 16), (64, 16),
    ]  # fmt: skip
    assert [case["learning_rate"] for case in density_cases] == [0.01] * 8 + [0.003, 0.001]
    for case in density_cases:
        assert case["steps"][:5] == [1, 5, 10, 25, 50]
        assert (case["steps"][-1], len(case["steps"])) == (1000, 43)
        for value, unit, resting in zip(
            case["values"], case["units"], case["resting"], strict=True
        ):
            assert 0 <= value <= unit <= 1 - resting <= 1
        assert 0.4 < case["values"][0] < 0.6

    shape_cases = probes.shapes(ENGINE, tasks, TINY)
    assert [case["n_embd"] for case in shape_cases[:7]] == list(probes.WIDTHS)
    assert {case["n_layer"] for case in shape_cases} == {1, 4}
    assert {case["block_size"] for case in shape_cases} == {16, 32, 64}
    assert 70 in {case["vocab_size"] for case in shape_cases}
    json.dumps([phase_cases, batch_cases, density_cases, shape_cases], allow_nan=False)


@needs_simd
def test_slices_are_those_of_one_training_from_initialisation(tasks):
    case = probes.SlicedEngine(ENGINE, tasks[16])
    case.plan(1e-3)
    firsts = list(case.states)
    assert len(firsts) == probes.SLICES == 10
    assert [first // 100 for first in firsts] == list(range(10))
    middles = [first % 100 + case.steps / 2 for first in firsts]
    assert all(abs(middle - 50) <= 1 for middle in middles)
    assert 1 <= case.steps <= 98
    case.measure()
    case.measure()  # the same losses again
    whole, _ = EngineSession(ENGINE, tasks[16]).run(1000)
    assert case.losses == [loss for first in firsts for loss in whole[first : first + case.steps]]

    slow = probes.SlicedEngine(ENGINE, tasks[16], prefix_sharing=False)
    slow.follow(case)
    slow.measure()
    np.testing.assert_allclose(slow.losses, case.losses, rtol=1e-3)
    case.plan(60.0)
    assert case.steps == 98  # no slice reaches into the next


def test_rows_left_counted_by_hand(tasks):
    # BOS = 2. Of 3 documents "aab", "aa" and "b": 4 + 3 + 2 positions. Distinct prefixes: BOS,
    # a, aa, aab and b.
    documents = [[2, 0, 0, 1, 2], [2, 0, 0, 2], [2, 1, 2]]
    task = replace(
        tasks[1],
        vocab_size=3,
        batch_size=3,
        tokens=np.concatenate(documents).astype(np.int32),
        offsets=np.cumsum([0, *map(len, documents)]),
    )
    assert probes.rows_left(task, documents=3) == pytest.approx(5 / 9)
    assert probes.rows_left(replace(task, batch_size=1), documents=9) == 1.0
    short = replace(task, workload=replace(task.workload, block_size=2))  # BOS, a; BOS, a; BOS, b
    assert probes.rows_left(short, documents=3) == pytest.approx(3 / 6)


def test_joined_and_random_documents_are_documents(tasks):
    task = tasks[1]
    letters = len(task.tokens) - 2 * (len(task.offsets) - 1)
    tokens, offsets, _ = probes.shape_documents(task, task.vocab_size, joined=2)
    assert len(offsets) - 1 == 150
    assert len(tokens) == letters + 2 * 150
    assert (tokens[offsets[:-1]] == task.vocab_size - 1).all()
    assert (tokens[offsets[1:] - 1] == task.vocab_size - 1).all()
    first = np.concatenate([task.tokens[1 : task.offsets[1] - 1],
                            task.tokens[task.offsets[1] + 1 : task.offsets[2] - 1]])  # fmt: skip
    np.testing.assert_array_equal(tokens[1 : offsets[1] - 1], first)

    tokens, offsets, _ = probes.shape_documents(task, 70, joined=1)
    np.testing.assert_array_equal(tokens == 69, task.tokens == task.vocab_size - 1)
    assert tokens.min() >= 0
    assert len(np.unique(tokens)) > 60
    again, _, _ = probes.shape_documents(task, 70, joined=1)
    np.testing.assert_array_equal(tokens, again)


# What goes wrong


class Wrong(EngineSession):
    """An engine that computes something else in one respect."""

    how = ""

    def __init__(self, engine, task, prefix_sharing=True, threads=1, skip_zeros=True):
        super().__init__(engine, task, prefix_sharing, threads, skip_zeros)
        self.threads = threads

    def verify(self):
        loss, gradients = super().verify()
        simd = self.core.activity is not None
        return loss, gradients * (1.001 if simd and self.how == "gradients" else 1)

    def run(self, steps):
        losses, seconds = super().run(steps)
        if self.how == "threads" and self.threads == 2:
            losses[-1] = np.nextafter(losses[-1], 0)  # the last bit
        if self.how == "nan":
            losses[-1] = float("nan")
        return losses, seconds


@needs_simd
@pytest.mark.parametrize(
    ("how", "probe", "reason"),
    [
        ("threads", "threads", "two threads change the losses of batch 16"),
        ("gradients", "phases", "gradient of wte is off by"),
        ("gradients", "shapes", "gradient of wte is off by"),
        ("nan", "batch", "a loss at batch 1 is not finite"),
    ],
)
def test_what_is_wrong_is_an_error(how, probe, reason, tasks, monkeypatch):
    files = {"d16": {str(b): str(task.file) for b, task in tasks.items()}}
    monkeypatch.setitem(EFFORTS, "quick", TINY)
    _, answer = probes.start({"engine": ENGINE, "effort": "quick", "tasks": files, "highest": {}})
    request = {"probe": probe, "workload": "d16"}
    assert "cases" in answer(request)
    monkeypatch.setattr(probes, "EngineSession", Wrong)
    monkeypatch.setattr(Wrong, "how", how)
    with pytest.raises(WrongResult, match=f"^{reason}"):
        answer(request)


CRASHING = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from bench.measure import probes
from bench.measure.process import serve
probes.PROBES["phases"] = lambda *_: os.abort()
probes.PROBES["batch"] = lambda *_: [{{"batch": 1}}]
serve(probes.start)
"""


def run_crashing(tasks, rows, monkeypatch) -> dict[str, Probe]:
    Path("crashing.py").write_text(CRASHING, encoding="utf-8")
    monkeypatch.setattr(probes, "COMMAND", [str(Path("crashing.py").resolve())])
    monkeypatch.setattr(probes, "available_cores", lambda: 1)
    monkeypatch.delitem(probes.PROBES, "shapes")
    engine = rows[0].variant
    found = list(probes.run_probes(engine, {"d16": tasks}, rows, "quick", lambda *_: None))
    return {probe.name: probe for probe in found}


def test_a_crash_ends_one_probe_alone(tasks, monkeypatch):
    rows = [Row("avx2", "AVX2", "SIMD", "d16", 16)]
    found = run_crashing(tasks, rows, monkeypatch)
    assert found["phases"].status == "error"
    assert "ended with signal SIGABRT" in found["phases"].reason
    assert found["batch"].cases == [{"batch": 1}]
    assert (found["threads"].status, found["threads"].reason) == ("skipped", "there is one core")


def test_an_engine_that_is_wrong_is_not_probed(tasks, monkeypatch):
    rows = [Row("avx2", "AVX2", "SIMD", "d16", 16, status="error", reason="wrong: loss")]
    for probe in run_crashing(tasks, rows, monkeypatch).values():
        assert (probe.status, probe.reason) == ("skipped", "AVX2, batch 16: wrong: loss")


def test_an_error_is_in_the_report_and_has_no_number(tmp_path):
    results = of_probes()
    for probe in results.probes:
        if probe.name == "threads":
            probe.status, probe.reason, probe.cases = "error", "wrong: two threads", []
    write(results, tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "Not measured: d64: error: wrong: two threads" in text
    assert "threads.png" not in text
    assert not (tmp_path / "threads.png").exists()


# What is drawn


def test_results_survive_the_file_and_the_report_is_drawn_from_it_alone(tmp_path, monkeypatch):
    pyperf = pytest.importorskip("pyperf")
    results = of_probes()
    results.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results
    assert len(pyperf.BenchmarkSuite.load(str(tmp_path / "results.json"))) == 4

    monkeypatch.setattr(probes, "run_probes", None)
    monkeypatch.setattr(_core, "Trainer", None)
    (tmp_path / "phases_d128.png").touch()
    assert bench_main(["report", str(tmp_path)]) == 0
    names = {"phases_d16.png", "phases_d64.png", "roofline.png", "batch.png", "threads.png"}
    names.add("density.png")
    assert names <= {file.name for file in tmp_path.iterdir()}
    assert not (tmp_path / "phases_d128.png").exists()
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for name in names:
        assert f"]({name})" in text
        assert (tmp_path / name).stat().st_size > 10_000


def test_without_probes_there_is_no_section(tmp_path):
    results = replace(of_probes(), probes=[])
    assert [part.heading for part in all_parts(results) if part.place[0] == 6] == []
    assert not {"batch", "threads", "roofline", "density"} & set(drawings(results))


def drawings(results: Results) -> dict[str, Drawing]:
    return {drawing.name: drawing for part in all_parts(results) for drawing in part.drawings}


def shown_texts(figure):
    texts = [figure._suptitle, figure._supxlabel]
    for axes in figure.axes:
        texts += [*axes.texts, axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
        for axis, at in ((axes.xaxis, 0), (axes.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            labels = axis.get_ticklabels()
            texts += [label for label in labels if low <= label.get_position()[at] <= high]
    return [text for text in texts if text.get_text() and text.get_visible()]


@pytest.mark.parametrize("workloads", [("d16",), ("d16", "d64"), tuple(WIDTHS)])
@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_no_label_is_clipped_or_covers_another(workloads, narrow):
    from matplotlib.text import Text  # without the arrow that an annotation adds

    results = of_probes(workloads)
    found = drawings(results)
    assert {"batch", "threads", "density", "roofline", f"phases_{workloads[0]}"} <= set(found)
    for name, drawing in found.items():
        if name.partition("_")[0] in ("phases", "batch", "threads", "density", "roofline"):
            figure = (drawing.narrow if narrow else drawing.wide).figure
            figure.draw_without_rendering()
            boxes = {text: Text.get_window_extent(text) for text in shown_texts(figure)}
            page = figure.bbox
            for text, box in boxes.items():
                inside = page.x0 <= box.x0 and box.x1 <= page.x1
                inside = inside and page.y0 <= box.y0 and box.y1 <= page.y1
                assert inside, f"{name}: {text.get_text()!r} is clipped"
            for (a, box_a), (b, box_b) in combinations(boxes.items(), 2):
                assert not box_a.overlaps(box_b), f"{name}: {a.get_text()!r} on {b.get_text()!r}"
            if name == "roofline":
                for point in figure.axes[0].lines:
                    if point.get_marker() == "o":
                        at = figure.axes[0].transData.transform(point.get_xydata()[0])
                        for text, box in boxes.items():
                            assert not box.padded(0.06 * figure.dpi).contains(*at), (
                                f"{text.get_text()!r}"
                            )


def test_titles_say_what_was_found():
    titles = {name: drawing.wide.title for name, drawing in drawings(of_probes()).items()}
    assert titles["phases_d16"] == (
        "Largest phase of a d16 step: embedding backward with Adam, 70 % at batch 16 and 70 % at "
        "batch 1"
    )
    assert titles["batch"].startswith(f"d64: batch 256 is {digits(0.8**-8)}{TIMES} as fast")
    # One and two threads have the medians 1.02 and 1.1 / gain: rounds' ratios are 1, 0.927 and 1.
    assert f"at best 1.70{TIMES} as fast as one" in titles["threads"]
    assert "d64 at batch 16 does the useful work of" in titles["roofline"]


def test_intensity_counted_by_hand():
    # C = 16, V = 27, one document of 7.1 positions: 4 values of each parameter, and 11 C + 2 C + V
    # activations a position, written and read, of 4 bytes each.
    results = of_probes()
    row = results.find("d16", "avx512", 1)
    expected = 1.5e5 / (4 * 4 * 4192 + 7.1 * (13 * 16 + 27) * 2 * 4)
    assert roofline.intensity(results, row) == pytest.approx(expected)


def test_shares_of_a_training_are_read_and_averaged_by_hand():
    case = {"steps": [1, 3, 5], "values": [0.5, 0.3, 0.3], "units": [1.0, 0.8, 0.2]}
    assert (density.at(case, 1), density.at(case, 2), density.at(case, 5)) == (0.5, 0.3, 0.3)
    assert density.mean(case) == pytest.approx((0.5 + 0.4 + 0.3 + 0.3 + 0.3) / 5)
    assert mean_share(case["steps"], case["units"]) == pytest.approx(
        (1.0 + 0.9 + 0.8 + 0.5 + 0.2) / 5
    )


def test_density_has_its_numbers_in_title_table_and_words(tmp_path):
    results = of_probes()
    drawn = drawings(results)["density"].wide
    shares = [100 * max(0.5 * step**-0.4, 0.4 / 64) for step in (1, 100, 500)]
    assert drawn.title == (
        "At n_embd 64 and learning rate 0.01, {:.0f} % of the hidden values are not zero at step "
        "1, {:.1f} % at step 100 and {:.1f} % at step 500".format(*shares)
    )
    assert len(drawn.figure.axes[0].lines) == 6  # not those of batch 1
    write(results, tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "### Zeros in the MLP" in text
    assert "*at rest* those that no longer move" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| 64 | 16 | 0.01 |"))
    assert "| 50 % | {:.1f} % | {:.1f} % |".format(*shares[1:]) in line
    assert line.endswith("| 50 % |")  # at rest


def test_executed_flops_counted_by_hand():
    # n_embd 64, batch 16, rows left 0.8. Five of six products of 2 * 4 C^2 FLOPs a position, 7.1 of
    # these a document, are with hidden values of which the mean share is not zero.
    results = of_probes()
    row = results.find("d64", "avx512", 16)
    case = next(c for c in density.collect(results) if (c["n_embd"], c["batch"]) == (64, 16))
    useful, product = 1.5e5 * 4**1.95, 2 * 4 * 64**2 * 7.1
    executed = 0.8 * (useful - 5 * product * (1 - density.mean(case)))
    assert roofline.executed_share(results, row) == pytest.approx(executed / useful)
    dense = results.find("d16", "avx512", 16)
    assert roofline.executed_share(results, dense) == pytest.approx(0.8)  # zeros are not skipped
    (line,) = (
        line
        for line in roofline.table(results, roofline.collect(results))
        if line[0] == "d64, batch 16"
    )
    assert line[4] == digits(results.gflops(row) * executed / useful)
    figure = drawings(results)["roofline"].wide.figure
    bars = [found for found in figure.axes[0].lines if found.get_marker() == "_"]
    assert len(bars) == 4
    found = sorted(float(bar.get_ydata()[0]) for bar in bars)
    assert found == pytest.approx(
        sorted(results.gflops(r) * roofline.executed_share(results, r) for r in results.rows)
    )

    results.probes = [probe for probe in results.probes if probe.name != "density"]
    assert roofline.executed_share(results, row) is None
    figure = drawings(results)["roofline"].wide.figure
    assert not [found for found in figure.axes[0].lines if found.get_marker() == "_"]


# Whole runs


@needs_simd
def test_a_run_probes_the_best_engine(tmp_path, monkeypatch):
    arguments = ["--quick", "--workloads", "d16", "--out", "out", "--variants"]
    assert main([*arguments, "tape"]) == 0
    assert Results.load(Path("out/results.json")).probes == []
    assert main([*arguments, ENGINE]) == 0
    results = Results.load(Path("out/results.json"))
    assert {probe.name for probe in results.probes} == {*probes.PROBES, "quality", "generation"}
    skipped = {probe.name for probe in results.probes if probe.status != "ok"}
    assert skipped == ({"threads"} if probes.available_cores() < 2 else set())
    assert (Path("out") / "roofline.png").exists()
