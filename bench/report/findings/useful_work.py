"""Useful work as a share of the FMA peak, against the width of the model and its context.

Where workloads have one context there is nothing to see that the roofline does not show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from bench.report import plot
from bench.report.format import digits, per_cent
from bench.report.part import Drawing, Part, Parts, Table
from bench.results import Estimate, Results, Row, grouped, per_time

WORDS = """\
Useful FLOPs of a training step over the multiply-adds that one core was measured to do with the
vectors of the engine: the fastest SIMD row of each workload and batch size. *Context* is
block_size, which blocks of running text fill, while most documents of a corpus are shorter. Work is
counted as in all tables, with the products by zeros that the engine skips and the prefixes that it
shares. *Library* is the fastest row of the array libraries, under the same peak."""


def parts(results: Results) -> Parts:
    points = collect(results)
    if len({point.context for point in points}) > 1:
        drawings = [Drawing("useful_work", partial(figure, results, points))]
        yield Part((2, 1), "Width and context", WORDS, drawings, [table(results, points)])


@dataclass(frozen=True)
class Point:
    row: Row
    share: Estimate  # useful FLOPs over the FMA peak of the engine
    context: int
    n_embd: int


def collect(results: Results) -> list[Point]:
    """Of the fastest SIMD row of each workload and batch size whose engine has a measured peak, by
    context, width and batch size."""
    found = []
    for name, workload in results.workloads.items():
        rows = [
            row for row in results.ranked(name)
            if row.group == "SIMD" and not row.variation_of and results.peak(row.variant)
        ]  # fmt: skip
        for row, *_ in grouped(rows, lambda row: row.batch).values():
            part = share(results, row, row.variant)
            found.append(Point(row, part, workload["block_size"], workload["n_embd"]))
    return sorted(found, key=lambda point: (point.context, point.n_embd, point.row.batch))


def share(results: Results, row: Row, engine: str) -> Estimate:
    """Useful FLOPs of a row over the FMA peak of an engine."""
    most = results.gflops(row) * row.microseconds / (results.peak(engine) or math.nan)
    return per_time(most, row.estimate)


def table(results: Results, points: list[Point]) -> Table:
    head = ("workload", "n_embd", "context", "batch", "engine", "GFLOP/s", "of the FMA peak")
    lines: Table = [(*head, "library", "of the FMA peak")]
    for point in points:
        row, shape = point.row, (point.n_embd, point.context, point.row.batch)
        libraries = [
            (peer.label, per_cent(share(results, peer, row.variant).value))
            for peer in results.ranked(row.workload)
            if (peer.group, peer.batch) == ("array libraries", row.batch)
        ]
        lines.append((
            row.workload, *map(str, shape), row.label, digits(results.gflops(row)),
            per_cent(point.share.value), *(libraries or [("", "")])[0],
        ))  # fmt: skip
    return lines


def figure(results: Results, points: list[Point]) -> plot.Figure:
    drawn, panels = plot.new_panels(3.2 + 0.2 * len(points), columns=2, sharey=True)
    for axes, name in zip(panels, ("n_embd", "context"), strict=True):
        places = [getattr(point, name) for point in points]
        for point, place in zip(points, places, strict=True):
            plot.point(axes, place, point.share, point.row, 9)
        plot.log2_axis(axes, sorted(set(places)), f"{name} (log scale)")
        axes.margins(x=0.1)
        axes.set_ylim(0, 1.08 * max(point.share.high for point in points))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    for axes in panels if plot.narrow() else panels[:1]:
        axes.set_ylabel("useful FLOPs of the FMA peak")
    ends = []
    for point in points:
        row, value = point.row, point.share.value
        name = f"{row.workload}, batch {row.batch}: {per_cent(value)}"
        ends.append((name, point.context, value, plot.WORKLOAD_COLOURS[row.workload]))
    plot.label_ends(panels[1], ends, lines=2 if plot.narrow() else 1)
    labels = ", ".join(dict.fromkeys(point.row.label for point in points))
    notes = (
        f"{labels}. Hollow: batch 1. Context: block_size; the documents of the corpus are shorter. "
        "Zeros that are skipped and prefixes that are shared count as work. "
    )
    return plot.finish(drawn, results, title(points), notes + plot.whisker_note(drawn))


def title(points: list[Point]) -> str:
    short, long = (
        max((p for p in points if p.context == end.context), key=lambda p: p.share.value)
        for end in (points[0], points[-1])
    )
    return (
        f"At a context of {long.context}, {long.row.workload} does the useful work of "
        f"{per_cent(long.share.value)} of the FMA peak; at {short.context}, {short.row.workload} "
        f"that of {per_cent(short.share.value)}"
    )
