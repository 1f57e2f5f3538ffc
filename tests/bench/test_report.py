"""The report and the figures of rows, drawn from a result file alone."""

from __future__ import annotations

import io
import re
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from synthetic import of_rows, old_report

from bench.report import plot
from bench.report.findings import ladder, scaling, speedup
from bench.report.format import WARNING, digits
from bench.report.part import UNSEEN, Drawing, all_parts
from bench.report.write import write
from bench.results import Results
from bench.run_all import text_table
from bench.task.workload import WORKLOADS
from bench.variants.variant import load_variants


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (0.000341, "0.00034"), (0.0996, "0.10"), (0.854, "0.85"), (9.994, "9.99"),
     (9.996, "10.0"), (99.96, "100"), (1234, "1,230")],
)  # fmt: skip
def test_digits(value, text):
    assert digits(value) == text


def test_a_run_without_any_figure_is_a_result_too(tmp_path):
    results = of_rows(leave_out=set(load_variants()))
    write(results, tmp_path / "out")
    assert Results.load(tmp_path / "out" / "results.json") == results
    assert not list((tmp_path / "out").glob("*.png"))


def test_an_image_of_few_colours_has_those_of_its_legend():
    """At batch 1 bars are pale: the colours of the groups stand in the legend alone."""
    results = of_rows()
    results.rows = [row for row in results.rows if row.batch == 1]
    image = Image.open(io.BytesIO(Drawing("", lambda: speedup.bars(results, "d16")).wide.png))
    shown = np.array([colour for _, colour in image.convert("RGB").getcolors() or []])
    assert len(shown) < 64
    for group in {row.group for row in results.of("d16")}:
        wanted = np.array(to_rgb(plot.COLOURS[group][0])) * 255
        assert np.abs(shown - wanted).max(axis=1).min() <= UNSEEN, group


def test_report_has_each_row_reason_and_published_figure(tmp_path):
    results = of_rows(leave_out={"pypy"})
    stale = tmp_path / "speedup_d128.png"
    stale.touch()
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    write(results, tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for row in results.rows:
        assert (f"| {row.label} | {row.batch} |" in text) == row.ok
    absent = "PyPy; NEON; NEON, no sparsity; NEON, plain"
    assert re.search(
        f"^Not measured: unavailable: this CPU has none; buy another one: {absent}", text, re.M
    )
    assert re.search(r"\| EEmicroGPT, SME2 \|.*\| 36.8 \|.*published elsewhere", text)
    assert "| 171,000 |" not in text.replace("174,000", "")  # the median, not the minimum
    for name in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (tmp_path / name).stat().st_size > 10_000
    assert not stale.exists()
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_without_cpython_there_is_no_speedup(tmp_path):
    results = of_rows(leave_out={"cpython"})
    assert all(results.speedup(row) is None for row in results.rows if row.ok)
    assert "No speed-up: CPython was not measured" in text_table(results, "d16")
    assert "ladder_d16" not in drawings(results)


def test_the_report_says_what_each_row_was_timed_over(tmp_path):
    results = of_rows(workloads=("d16",))
    results.find("d16", "scalar", 16).coverage = 0.128
    write(results, tmp_path)
    words = {"cpython": "slices, ", "scalar": "first 128 of 1,000 steps, ", "tape": ""}
    for name in ("README.md", "index.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "timed over whole trainings of 1,000 steps from initialisation, since a" in text
    for name, batch in (("cpython", 1), ("scalar", 16), ("tape", 1)):
        row = results.find("d16", name, batch)
        found = f"{words[name]}3 rounds, interval of 75 %"
        assert speedup.note(results, row) == f"{WARNING} {found}"
        assert f"| {WARNING} {found} |" in (tmp_path / "README.md").read_text("utf-8")


def test_a_variation_explains_the_fastest_row_and_is_not_it():
    results = of_rows(workloads=("d16",))
    row = results.find("d16", "avx512-nosparsity", 16)
    row.values = [value / 2 for value in row.values]  # by chance, where nothing is skipped
    assert results.fastest("d16").name == "d16/b16/avx512"
    assert "AVX-512 at batch 16 is" in drawings(results)["speedup_d16"].wide.title
    compared = [pair for pair in ladder.pairs(results, "d16") if " over " in pair.what]
    assert compared
    assert not [c for c in compared if c.row.variation_of or c.other.variation_of]


def drawings(results: Results) -> dict[str, Drawing]:
    return {drawing.name: drawing for part in all_parts(results) for drawing in part.drawings}


def legend_texts(axes):
    return axes.get_legend().get_texts() if axes.get_legend() else []


def shown_texts(figure):
    texts = [figure._suptitle, figure._supxlabel]
    for axes in figure.axes:
        texts += [*axes.texts, *legend_texts(axes)]
        for axis, at in ((axes.xaxis, 0), (axes.yaxis, 1)):
            low, high = sorted(axis.get_view_interval())
            labels = axis.get_ticklabels()  # of ticks outside of the view, too
            texts += [label for label in labels if low <= label.get_position()[at] <= high]
    return [text for text in texts if text.get_text() and text.get_visible()]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"workloads": tuple(WORKLOADS)},
        {"workloads": ("d16",), "more": 14},
        {"leave_out": ("cpython", "avx512")},
        {"workloads": ("d256",), "wrong": set(load_variants()) - {"tape"}},
    ],
)
@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_no_label_is_clipped_or_covers_another(settings, narrow):
    no_label_is_clipped_or_covers_another(of_rows(**settings), narrow)


def no_label_is_clipped_or_covers_another(results, narrow):
    from matplotlib.text import Text  # without the arrow that an annotation adds

    for name, drawing in drawings(results).items():
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


def test_titles_say_what_was_found():
    results = of_rows()
    best = results.find("d16", "avx512", 16)
    factor = digits(results.speedup(best).value)
    assert f"AVX-512 at batch 16 is {factor}" in drawings(results)["speedup_d16"].wide.title


def test_rungs_multiply_to_the_whole_speedup():
    results = of_rows(leave_out={"pypy"})
    steps = ladder.rungs(results, "d16")
    assert [rung.row.variant for rung in steps] == [
        "cpython", "cpython-nogc", "tape", "scalar", "autovec", "avx512-nosparsity", "avx512-plain",
        "avx512-nosparsity", "avx512",
    ]  # fmt: skip
    assert [rung.row.batch for rung in steps[-4:]] == [1, 16, 16, 16]
    fewer = ladder.rungs(of_rows(leave_out={"avx512-plain"}), "d16")
    assert [rung.tick for rung in fewer][-2:] == ["SIMD\nintrinsics", "batch\nof 16"]
    assert [(rung.row.variant, rung.row.batch) for rung in fewer][-2:] == [
        ("avx512", 1), ("avx512", 16),
    ]  # fmt: skip


def test_spread_keeps_order_and_distance():
    placed = plot.spread([0.0, 0.1, 0.2, 5.0, 9.99], gap=1.0, low=0.0, high=10.0)
    assert all(b - a >= 1.0 - 1e-12 for a, b in pairwise(placed))
    assert placed[0] >= 0.0
    assert placed[-1] <= 10.0


def test_a_figure_that_cannot_be_drawn_leaves_the_old_report_whole(tmp_path, monkeypatch):
    before = old_report(tmp_path / "out")

    def fail(results):
        raise RuntimeError("no ink")

    monkeypatch.setattr(scaling, "parts", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        write(of_rows(), tmp_path / "out")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".out")] == []
