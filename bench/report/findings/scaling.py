"""Time per sample against the width of the model, a line for each implementation.

It is of the largest batch size that the implementation has; the best engine has a line of its
smallest one as well. Running text is left out: its workloads differ in more than the width.
"""

from __future__ import annotations

from functools import partial

from bench.report import plot
from bench.report.format import digits, times
from bench.report.part import Drawing, Part, Parts
from bench.results import Results, Row, grouped, over


def parts(results: Results) -> Parts:
    lines = collect(results)
    if any(len(rows) > 1 for rows in lines):
        yield Part((2,), "Size", drawings=[Drawing("scaling", partial(figure, results, lines))])


def collect(results: Results) -> list[list[Row]]:
    """The rows of each line, by width. Variations of a variant are left to the other figures."""
    by_width = [
        row for name in of_documents(results) for row in results.of(name) if not row.variation_of
    ]
    if not by_width:
        return []
    best = min(by_width, key=lambda row: row.microseconds)
    lines = grouped(by_width, lambda row: (row.variant, row.batch))
    largest = dict(sorted(lines))  # batch size of each variant
    return [
        rows for (variant, batch), rows in lines.items()
        if variant == best.variant or batch == largest[variant]
    ]  # fmt: skip


def of_documents(results: Results) -> dict[str, int]:
    """The workloads whose documents are not running text, with their widths, by these."""
    widths = {n: w["n_embd"] for n, w in results.workloads.items() if not w.get("running_text")}
    return dict(sorted(widths.items(), key=lambda item: item[1]))


def figure(results: Results, lines: list[list[Row]]) -> plot.Figure:
    drawn, axes = plot.new_figure(max(7.0, 1.8 + 0.26 * len(lines)))  # a name for each line
    colours = plot.variant_colours((row.variant, row.group) for (row, *_) in lines)
    width = of_documents(results)
    ends = []
    for rows in lines:
        dashes, colour = "--" if rows[0].batch == 1 else "-", colours[rows[0].variant]
        found = {width[row.workload]: row.estimate for row in rows}
        ends.append(plot.line(axes, found, dashes, colour, rows[0].title, "n_embd", markersize=6))
    notes = "Dashed: batch 1. Solid: larger batches. Less is better."
    published = {  # the least for each width, of another machine
        width[name]: min(results.published[name].values())
        for name in width if results.published.get(name)
    }  # fmt: skip
    if len(published) > 1:
        axes.plot(list(published), list(published.values()), ":", marker="x", markersize=7,
                  linewidth=2.2, color=plot.INK)  # fmt: skip
        at, least = list(published.items())[-1]
        ends.append((f"published: {digits(least)}", at, least, plot.INK))
        notes += f" Dotted: the least published for each width ({results.published_source})."
    widths = sorted(set(width.values()))
    plot.log2_axis(axes, widths, "n_embd")
    plot.log_axis(axes.yaxis, "µs per sample")
    axes.set_xlim(widths[0] * 0.93, widths[-1] * (widths[-1] / widths[0]) ** 0.02)
    plot.label_ends(axes, ends)
    notes = f"{notes} {plot.whisker_note(drawn)}"
    return plot.finish(drawn, results, title(results, widths), notes)


def title(results: Results, widths: list[int]) -> str:
    names = {width: name for name, width in of_documents(results).items()}
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
