"""The ladder: which step from CPython to the fastest bought which factor. One a workload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import BASELINE, Results, Row, over

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.statistics import Estimate


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    for workload in results.workloads:
        steps = rungs(results, workload)
        if len(steps) > 2 and results.baseline(workload):
            yield f"ladder_{workload}.png", waterfall(results, workload, steps)


@dataclass(frozen=True)
class Rung:
    tick: str
    prose: str  # in the title
    row: Row


def rungs(results: Results, workload: str) -> list[Rung]:
    """What each step changes, and the row that has it on top of all below; only those measured.

    The SIMD rungs are those of one engine, the fastest here.
    """
    simd = [r for r in results.of(workload) if r.group == "SIMD" and not r.variation_of]
    engine = min(simd, key=lambda row: row.microseconds).variant if simd else ""
    variations = ("nosparsity", 1), ("plain", 16), ("nosparsity", 16)
    all_of_them = all(results.find(workload, f"{engine}-{word}", b) for word, b in variations)
    dense, plain = (f"{engine}-nosparsity", f"{engine}-plain") if all_of_them else (engine, engine)
    steps = [
        ("CPython", "CPython", BASELINE, 1),
        ("garbage\ncollector\noff", "no garbage collector", "cpython-nogc", 1),
        ("PyPy\n(JIT)", "PyPy", "pypy", 1),
        ("autograd\ntape in\nC++", "the tape in C++", "tape", 1),
        ("derived\nby hand,\nf32", "derivatives by hand", "scalar", 1),
        ("compiler\nvectorises", "the compiler's vectoriser", "autovec", 1),
        ("SIMD\nintrinsics", "SIMD intrinsics", dense, 1),
        ("batch\nof 16", "a batch of 16", plain, 16),
        ("prefix\nsharing", "prefix sharing", dense if all_of_them else "", 16),
        ("zeros\nskipped", "skipping zeros", engine if all_of_them else "", 16),
    ]
    found = [(*words, results.find(workload, name, batch)) for *words, name, batch in steps]
    return [Rung(*rung) for rung in found if rung[-1]]


def waterfall(results: Results, workload: str, steps: list[Rung]) -> Figure:
    start = steps[0].row
    reached = [over(rung.row, start) for rung in steps]
    gains = [over(b.row, a.row) for a, b in pairwise(steps)]
    largest = sorted(range(len(gains)), key=lambda i: -gains[i].value)[:2]
    draw_stairs = stairs_across if style.narrow() else stairs_upwards
    figure, axes = draw_stairs(steps, reached, gains, [i + 1 for i in largest])
    style.group_legend(
        axes,
        [rung.row.group for rung in steps],
        loc="upper right" if style.narrow() else "upper left",
    )
    parts = " and ".join(f"{steps[i + 1].prose} ({style.times(gains[i].value)})" for i in largest)
    left, below = ("above", "Behind") if style.narrow() else ("to its left", "Below")
    notes = [
        f"Each step multiplies what stands {left}; the last is {steps[-1].row.title}. {below} the "
        "factor: time per sample. Factors are medians of the ratios of rounds; whiskers are of the "
        f"whole up to there. {style.whisker_note(reached[1:])} {style.warning_note()[:-1]}; or the "
        "step may be none. Zeros behind the ReLU are skipped above n_embd 16 only: there that step "
        "is none."
    ]
    text = f"{workload}: {style.times(reached[-1].value)} over CPython; most of it is {parts}"
    style.finish(figure, results, text, notes)
    return figure


def labels(steps: list[Rung], gains: list[Estimate], between: str) -> list[str]:
    """Of each step, its factor and its time."""
    times = [style.duration(rung.row.microseconds) for rung in steps]
    factors = [style.warned(style.times(g.value), g.doubts_as_ratio()) for g in gains]
    return [times[0], *(f"{g}{between}{t}" for g, t in zip(factors, times[1:], strict=True))]


def stairs_upwards(
    steps: list[Rung], reached: list[Estimate], gains: list[Estimate], bold: list[int]
) -> tuple[Figure, Axes]:
    figure, axes = style.new_figure(6.0)
    axes.set_yscale("log")
    axes.set_ylim(0.6, 3 * max(r.high for r in reached) ** 1.1)
    for x, (rung, text) in enumerate(zip(steps, labels(steps, gains, "\n"), strict=True)):
        here, below = reached[x], reached[max(0, x - 1)].value
        colour = style.COLOURS[rung.row.group][0]
        axes.bar(x, here.value - below, bottom=below, width=0.8, color=colour)
        axes.hlines(here.value, x - 0.4, min(x + 1.4, len(steps) - 0.6), style.INK, linewidth=1.2)
        if x:
            style.whisker(axes, x, here.value, here, "y")
        style.text_on_white(axes, x, max(below, here.high), text, (0, 6), ha="center", va="bottom",
                            fontsize=12, fontweight="bold" if x in bold else "normal")  # fmt: skip
    axes.set_xticks(range(len(steps)), [rung.tick for rung in steps], fontsize=11)
    axes.grid(visible=False, axis="x")
    style.log_ticks(axes.yaxis)
    axes.set_ylabel(f"{style.TIMES} over CPython (log scale)", fontsize=12)
    return figure, axes


def stairs_across(
    steps: list[Rung], reached: list[Estimate], gains: list[Estimate], bold: list[int]
) -> tuple[Figure, Axes]:
    figure, axes = style.bar_figure(len(steps))
    axes.set_xscale("log")
    highest = max(r.high for r in reached)
    axes.set_xlim(0.6, highest**1.5)
    for y, (rung, text) in enumerate(zip(steps, labels(steps, gains, "   "), strict=True)):
        here, below = reached[y], reached[max(0, y - 1)].value
        colour = style.COLOURS[rung.row.group][0]
        axes.barh(y, here.value - below, left=below, height=style.bar_height(), color=colour)
        if y:
            style.whisker(axes, here.value, y, here, "x")
        style.text_on_white(axes, max(below, here.high), y, text, (6, 0), fontsize=style.size(12),
                            fontweight="bold" if y in bold else "normal")  # fmt: skip
    style.name_bars(axes, [" ".join(rung.tick.split()) for rung in steps])
    style.log_ticks(axes.xaxis)
    axes.set_xlabel(f"{style.TIMES} over CPython (log scale)", fontsize=style.size(12))
    return figure, axes
