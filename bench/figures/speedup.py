"""Speed-up over CPython, a bar for each implementation, on a log scale: one figure a workload."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import shorten
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import BASELINE, Results, Row, over

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    for workload in results.workloads:
        if results.of(workload):
            yield f"speedup_{workload}.png", bars(results, workload)


def bars(results: Results, workload: str) -> Figure:
    rows = sorted(results.of(workload), key=lambda row: -row.microseconds)
    base = results.baseline(workload) or rows[0]
    factors = [over(row, base) for row in rows]
    figure, axes = style.bar_figure(len(rows), above=2.1)

    left = 0.8 * min(1.0, *(factor.low for factor in factors))
    highest = max(factor.high for factor in factors)
    right = highest * (highest / left) ** (0.45 if style.narrow() else 0.37)  # room for the labels
    for y, (row, factor) in enumerate(zip(rows, factors, strict=True)):
        colour = style.COLOURS[row.group][0]
        colour = style.paler(colour) if row.batch == 1 else colour
        axes.barh(y, factor.value - left, left=left, height=style.bar_height(), color=colour)
        if row is not base:
            style.whisker(axes, factor.value, y, factor, "x")
        doubts = row.estimate.doubts() + (factor.doubts() if row is not base else [])
        text = f"{style.times(factor.value)}   {style.micro(row.microseconds)}"
        end = factor.value if row is base else factor.high
        style.text_on_white(
            axes, end, y, style.warned(text, doubts), (6, 0), fontsize=style.size(12)
        )
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    style.name_bars(axes, [row.title for row in rows])
    style.log_ticks(axes.xaxis)
    axes.set_xlabel(
        f"{style.TIMES} over {base.title} (log scale), and µs per sample", fontsize=style.size(12)
    )
    style.group_legend(axes, [row.group for row in rows], loc="upper right")
    words = f"Pale bars: batch 1. {style.whisker_note(factors)} {style.warning_note()}"
    notes = [words, *missing(results, workload)]
    style.finish(figure, results, title(workload, results.fastest(workload), base), notes)
    return figure


def title(workload: str, best: Row, base: Row) -> str:
    speed = style.micro(best.microseconds)
    if best is base:
        return f"{workload}: {best.prose} takes {speed} per sample"
    factor = style.times(over(best, base).value)
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
