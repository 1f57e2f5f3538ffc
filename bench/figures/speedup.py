"""Speed-up over CPython, a bar for each implementation, on a log scale: one figure a workload."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import shorten
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import BASELINE, Results, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    for workload in results.workloads:
        if results.of(workload):
            yield f"speedup_{workload}.png", bars(results, workload)


def bars(results: Results, workload: str) -> Figure:
    rows = sorted(results.of(workload), key=lambda row: -row.microseconds)
    base = results.baseline(workload) or rows[0]
    factors = [base.microseconds / row.microseconds for row in rows]
    figure, axes = style.new_figure(2.1 + 0.36 * len(rows))

    left = 0.8 * min(1.0, *factors)
    right = max(factors) * (max(factors) / left) ** 0.33  # room for the labels
    for y, (row, factor) in enumerate(zip(rows, factors, strict=True)):
        colour = style.COLOURS[row.group][0]
        colour = style.paler(colour) if row.batch == 1 else colour
        axes.barh(y, factor - left, left=left, height=0.74, color=colour)
        axes.text(
            factor * (right / left) ** 0.008,
            y,
            f"{style.times(factor)}   {style.micro(row.microseconds)}",
            va="center",
            fontsize=12,
            color=style.INK,
            zorder=1.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_yticks(range(len(rows)), [row.title for row in rows], fontsize=12)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    style.log_ticks(axes.xaxis)
    axes.set_xlabel(f"{style.TIMES} over {base.title} (log scale), and µs per sample", fontsize=12)
    style.group_legend(axes, [row.group for row in rows], loc="upper right")
    notes = ["Pale bars: batch 1.", *missing(results, workload)]
    style.finish(figure, results, title(workload, rows[-1], base), notes)
    return figure


def title(workload: str, best: Row, base: Row) -> str:
    speed = style.micro(best.microseconds)
    if best is base:
        return f"{workload}: {best.prose} takes {speed} per sample"
    factor = style.times(base.microseconds / best.microseconds)
    against = "CPython" if base.variant == BASELINE else base.prose
    return f"{workload}: {best.prose} is {factor} as fast as {against}: {speed} per sample"


def missing(results: Results, workload: str) -> list[str]:
    """What has no bar, and why."""
    reasons: dict[str, list[str]] = {}
    for row in results.rows:
        if row.workload == workload and not row.ok:
            reason = shorten(row.reason, 100, placeholder=" ...")
            names = reasons.setdefault(f"{row.status}: {reason}", [])
            if row.label not in names:
                names.append(row.label)
    return [f"{'; '.join(names)}: {reason}" for reason, names in reasons.items()]
