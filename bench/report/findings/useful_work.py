"""Useful work as a share of the FMA peak, against the width of the model and its context.

Where workloads have one context there is nothing to see that the roofline does not show.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from bench.report import plot
from bench.report.format import digits, per_cent
from bench.report.part import Drawing, Part, Table
from bench.results import Estimate, Results, Row, per_time

WORDS = """\
Useful FLOPs of a training step over the multiply-adds that one core was measured to do with the
vectors of the engine: the fastest SIMD row of each workload and batch size. *Context* is
block_size, which blocks of running text fill, while most documents of a corpus are shorter. Work is
counted as in all tables, with the products by zeros that the engine skips and the prefixes that it
shares. *Library* is the fastest row of the array libraries, under the same peak."""


def parts(results: Results) -> Iterator[Part]:
    rows = collect(results)
    if len({results.workloads[row.workload]["block_size"] for row in rows}) > 1:
        drawings = [Drawing("useful_work", partial(figure, results, rows))]
        yield Part((2, 1), "Width and context", WORDS, drawings, [table(results, rows)])


def collect(results: Results) -> list[Row]:
    """The fastest SIMD row of each workload and batch size whose engine has a measured peak."""
    best: dict[tuple[str, int], Row] = {}
    for workload in results.workloads:
        for row in results.ranked(workload):
            if row.group == "SIMD" and not row.variation_of and results.peak(row.variant):
                best.setdefault((workload, row.batch), row)
    return sorted(best.values(), key=lambda row: place(results, row))


def place(results: Results, row: Row) -> tuple[int, int, int]:
    """Context, width and batch size."""
    workload = results.workloads[row.workload]
    return workload["block_size"], workload["n_embd"], row.batch


def share(results: Results, row: Row, engine: str) -> Estimate:
    """Useful FLOPs of a row over the FMA peak of an engine."""
    most = results.gflops(row) * row.microseconds / (results.peak(engine) or math.nan)
    return per_time(most, row.estimate)


def table(results: Results, rows: list[Row]) -> Table:
    head = ("workload", "n_embd", "context", "batch", "engine", "GFLOP/s", "of the FMA peak")
    lines: Table = [(*head, "library", "of the FMA peak")]
    for row in rows:
        context, n_embd, batch = place(results, row)
        found = [digits(results.gflops(row)), per_cent(share(results, row, row.variant).value)]
        for peer in results.ranked(row.workload):
            if (peer.group, peer.batch) == ("array libraries", batch):
                found += [peer.label, per_cent(share(results, peer, row.variant).value)]
                break
        else:
            found += ["", ""]
        lines.append((row.workload, *map(str, (n_embd, context, batch)), row.label, *found))
    return lines


def figure(results: Results, rows: list[Row]) -> plot.Figure:
    drawn, panels = plot.new_panels(3.2 + 0.2 * len(rows), columns=2, sharey=True)
    found = [(row, share(results, row, row.variant), place(results, row)) for row in rows]
    for axes, which, name in zip(panels, (1, 0), ("n_embd", "context"), strict=True):
        for row, value, at in found:
            plot.point(axes, at[which], value, row, 9)
        ticks = sorted({at[which] for *_, at in found})
        plot.log2_axis(axes, ticks, f"{name} (log scale)")
        axes.margins(x=0.1)
        axes.set_ylim(0, 1.08 * max(value.high for _, value, _ in found))
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    for axes in panels if plot.narrow() else panels[:1]:
        axes.set_ylabel("useful FLOPs of the FMA peak")
    ends = [
        (f"{row.workload}, batch {row.batch}: {per_cent(value.value)}", at[0], value.value,
         plot.WORKLOAD_COLOURS[row.workload])
        for row, value, at in found
    ]  # fmt: skip
    plot.label_ends(panels[1], ends, lines=2 if plot.narrow() else 1)
    labels = ", ".join(dict.fromkeys(row.label for row in rows))
    notes = (
        f"{labels}. Hollow: batch 1. Context: block_size; the documents of the corpus are shorter. "
        f"Zeros that are skipped and prefixes that are shared count as work. "
        f"{plot.whisker_note(drawn)}"
    )
    return plot.finish(drawn, results, title(found), notes)


def title(found: list[tuple[Row, Estimate, tuple[int, int, int]]]) -> str:
    (first, low, (context, *_)), (last, high, (longest, *_)) = (
        max((f for f in found if f[2][0] == wanted), key=lambda f: f[1].value)
        for wanted in (found[0][2][0], found[-1][2][0])
    )
    return (
        f"At a context of {longest}, {last.workload} does the useful work of "
        f"{per_cent(high.value)} of the FMA peak; at {context}, {first.workload} that of "
        f"{per_cent(low.value)}"
    )
