"""Time per sample against the width of the model, a line for each implementation.

It is of the largest batch size that the implementation has; the best engine has a line of its
smallest one as well. Running text is left out: its workloads differ in more than the width.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from bench.report import plot
from bench.report.format import digits, times
from bench.report.part import Drawing, Part
from bench.results import Results, Row, over


def parts(results: Results) -> Iterator[Part]:
    lines = collect(results)
    if any(len(rows) > 1 for rows in lines):
        yield Part((2,), "Size", drawings=[Drawing("scaling", partial(figure, results, lines))])


def collect(results: Results) -> list[list[Row]]:
    """The rows of each line, by width. Variations of a variant are left to the other figures."""
    lines: dict[tuple[str, int], list[Row]] = {}
    for row in sorted(results.rows, key=lambda row: width(results, row)):
        if row.ok and not row.variation_of and row.workload in of_documents(results):
            lines.setdefault((row.variant, row.batch), []).append(row)
    if not lines:
        return []
    best = min((row for rows in lines.values() for row in rows), key=lambda row: row.microseconds)
    largest = {variant: batch for variant, batch in sorted(lines)}
    return [
        rows
        for (variant, batch), rows in lines.items()
        if variant == best.variant or batch == largest[variant]
    ]


def of_documents(results: Results) -> dict[str, dict[str, Any]]:
    return {name: w for name, w in results.workloads.items() if not w.get("running_text")}


def width(results: Results, row: Row) -> int:
    n_embd: int = results.workloads[row.workload]["n_embd"]
    return n_embd


def figure(results: Results, lines: list[list[Row]]) -> plot.Figure:
    drawn, axes = plot.new_figure(max(7.0, 1.8 + 0.26 * len(lines)))  # a name for each line
    colours = plot.variant_colours((row.variant, row.group) for (row, *_) in lines)
    for rows in lines:
        found = {width(results, row): row.estimate for row in rows}
        dashes = "--" if rows[0].batch == 1 else "-"
        name, colour = f"{rows[0].title}, n_embd", colours[rows[0].variant]
        plot.line(axes, found, dashes, name, color=colour, markersize=6)
    elsewhere = published(results)
    if len(elsewhere) > 1:
        axes.plot(list(elsewhere), list(elsewhere.values()), ":", marker="x", markersize=7,
                  linewidth=2.2, color=plot.INK)  # fmt: skip
    widths = sorted({w["n_embd"] for w in of_documents(results).values()})
    plot.log2_axis(axes, widths, "n_embd")
    plot.log_axis(axes.yaxis, "µs per sample")
    axes.set_xlim(widths[0] * 0.93, widths[-1] * (widths[-1] / widths[0]) ** 0.02)
    ends = []
    for *_, row in lines:
        time, colour = row.microseconds, colours[row.variant]
        ends.append((f"{row.title}: {digits(time)}", width(results, row), time, colour))
    notes = "Dashed: batch 1. Solid: larger batches. Less is better."
    if len(elsewhere) > 1:
        *_, last = elsewhere
        ends.append((f"published: {digits(elsewhere[last])}", last, elsewhere[last], plot.INK))
        notes += f" Dotted: the least published for each width ({results.published_source})."
    plot.label_ends(axes, ends)
    whiskers = plot.whisker_note(drawn)
    return plot.finish(drawn, results, title(results, widths), f"{notes} {whiskers}")


def published(results: Results) -> dict[int, float]:
    """The least microseconds per sample that others published, by width: another machine."""
    return {
        w["n_embd"]: min(results.published[name].values())
        for name, w in sorted(of_documents(results).items(), key=lambda item: item[1]["n_embd"])
        if results.published.get(name)
    }


def title(results: Results, widths: list[int]) -> str:
    names = {w["n_embd"]: name for name, w in of_documents(results).items()}
    small, large = names[widths[0]], names[widths[-1]]
    work = [results.workloads[name]["flops_per_sample"] for name in (small, large)]
    for best in results.ranked(large):
        if first := results.find(small, best.variant, best.batch):
            return (
                f"From n_embd {widths[0]} to {widths[-1]} a sample is "
                f"{times(work[1] / work[0])} the arithmetic; "
                f"{best.prose} takes {times(over(first, best).value)} the time"
            )
    return "Time per sample against the width of the model"
