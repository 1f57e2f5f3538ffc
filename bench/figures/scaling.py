"""Time per sample against the width of the model, a line for each implementation and batch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import Results, Row, over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    lines = collect(results)
    if any(len(rows) > 1 for rows in lines):
        yield "scaling.png", plot(results, lines)


def collect(results: Results) -> list[list[Row]]:
    """The rows of each line, by width. Variations of a variant are left to the other figures."""
    lines: dict[tuple[str, int], list[Row]] = {}
    for row in sorted(results.rows, key=lambda row: width(results, row)):
        if row.ok and not row.variation_of:
            lines.setdefault((row.variant, row.batch), []).append(row)
    return list(lines.values())


def width(results: Results, row: Row) -> int:
    return results.workloads[row.workload]["n_embd"]


def plot(results: Results, lines: list[list[Row]]) -> Figure:
    figure, axes = style.new_figure(max(7.0, 1.8 + 0.26 * len(lines)))  # a name for each line
    colours = choose_colours(lines)
    for rows in lines:
        axes.plot(
            [width(results, row) for row in rows],
            [row.microseconds for row in rows],
            color=colours[rows[0].variant],
            linestyle="--" if rows[0].batch == 1 else "-",
            linewidth=2.2,
            marker="o",
            markersize=6,
        )
        for row in rows:
            style.whisker(axes, width(results, row), row.microseconds, row.estimate, "y")
    widths = sorted({w["n_embd"] for w in results.workloads.values()})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(widths, [str(w) for w in widths])
    axes.xaxis.minorticks_off()
    style.log_ticks(axes.yaxis)
    axes.set_xlim(widths[0] * 0.93, widths[-1] * (widths[-1] / widths[0]) ** 0.02)
    axes.set_xlabel("n_embd", fontsize=style.size(12))
    axes.set_ylabel("µs per sample (log scale)", fontsize=style.size(12))
    label_ends(axes, results, lines, colours, widths[-1])
    whiskers = style.whisker_note(row.estimate for rows in lines for row in rows)
    notes = [f"Dashed: batch 1. Solid: batch 16. Less is better. {whiskers}"]
    style.finish(figure, results, title(results, widths), notes)
    return figure


def choose_colours(lines: list[list[Row]]) -> dict[str, str]:
    """A colour for each variant, of those of its group."""
    colours: dict[str, str] = {}
    for group, palette in style.COLOURS.items():
        members = dict.fromkeys(rows[0].variant for rows in lines if rows[0].group == group)
        colours |= {name: palette[i % len(palette)] for i, name in enumerate(members)}
    return colours


def label_ends(
    axes: Axes, results: Results, lines: list[list[Row]], colours: dict[str, str], last: int
) -> None:
    """Names at the right of the axes, moved apart where lines end close together."""
    low, high = (math.log(y) for y in axes.get_ylim())
    gap = (high - low) * 0.29 / axes.figure.get_figheight()
    ends = sorted(lines, key=lambda rows: rows[-1].microseconds)
    wanted = [math.log(rows[-1].microseconds) for rows in ends]
    for (rows, end), y in zip(
        zip(ends, wanted, strict=True), spread(wanted, gap, low, high), strict=True
    ):
        axes.annotate(
            f"{rows[-1].title}: {style.digits(rows[-1].microseconds)}",
            xy=(width(results, rows[-1]), math.exp(end)),
            xytext=(1.07, (y - low) / (high - low)),
            textcoords="axes fraction",
            fontsize=style.size(11),
            va="center",
            color=style.INK,
            arrowprops={
                "arrowstyle": "-",
                "color": colours[rows[0].variant],
                "linewidth": 1.2,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """The ascending positions nearest to `wanted` of which no two are closer than `gap`.

    Pool adjacent violators: labels that collide form a block, which moves to its mean.
    """
    blocks: list[list[float]] = []  # [sum of (wanted - i * gap), count]
    for i, y in enumerate(wanted):
        blocks.append([y - i * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    placed = [total / count for total, count in blocks for _ in range(int(count))]
    last = len(placed) - 1
    return [
        min(max(y + i * gap, low + i * gap), high - (last - i) * gap) for i, y in enumerate(placed)
    ]


def title(results: Results, widths: list[int]) -> str:
    names = {w["n_embd"]: name for name, w in results.workloads.items()}
    small, large = names[widths[0]], names[widths[-1]]
    work = [results.workloads[name]["flops_per_sample"] for name in (small, large)]
    for best in results.ranked(large):
        first = results.find(small, best.variant, best.batch)
        if first:
            factor = over(first, best).value
            return (
                f"From n_embd {widths[0]} to {widths[-1]} a sample is "
                f"{style.times(work[1] / work[0])} the arithmetic; "
                f"{best.prose} takes {style.times(factor)} the time"
            )
    return "Time per sample against the width of the model"
