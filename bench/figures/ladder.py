"""The ladder: which step from CPython to the fastest bought which factor. One a workload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import BASELINE, Results, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    plain = results.find(workload, f"{engine}-nosharing", 16)
    steps = [
        ("CPython", "CPython", BASELINE, 1),
        ("garbage\ncollector\noff", "no garbage collector", "cpython-nogc", 1),
        ("PyPy\n(JIT)", "PyPy", "pypy", 1),
        ("autograd\ntape in\nC++", "the tape in C++", "tape", 1),
        ("derived\nby hand,\nf32", "derivatives by hand", "scalar", 1),
        ("compiler\nvectorises", "the compiler's vectoriser", "autovec", 1),
        ("SIMD\nintrinsics", "SIMD intrinsics", engine, 1),
        ("batch\nof 16", "a batch of 16", f"{engine}-nosharing" if plain else engine, 16),
        ("prefix\nsharing", "prefix sharing", engine if plain else "", 16),
    ]
    found = [(*words, results.find(workload, name, batch)) for *words, name, batch in steps]
    return [Rung(*rung) for rung in found if rung[-1]]


def waterfall(results: Results, workload: str, steps: list[Rung]) -> Figure:
    start = steps[0].row.microseconds
    reached = [start / rung.row.microseconds for rung in steps]
    gains = [1.0, *(b / a for a, b in pairwise(reached))]
    largest = sorted(range(1, len(steps)), key=lambda x: -gains[x])[:2]
    figure, axes = style.new_figure(6.0)
    axes.set_yscale("log")
    axes.set_ylim(0.6, 3 * max(reached) ** 1.1)
    for x, (rung, gain) in enumerate(zip(steps, gains, strict=True)):
        below = reached[max(0, x - 1)]
        colour = style.COLOURS[rung.row.group][0]
        axes.bar(x, reached[x] - below, bottom=below, width=0.8, color=colour)
        axes.hlines(reached[x], x - 0.4, min(x + 1.4, len(steps) - 0.6), style.INK, linewidth=1.2)
        time = style.duration(rung.row.microseconds)
        axes.annotate(
            f"{style.times(gain)}\n{time}" if x else time,
            (x, max(below, reached[x])),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=12,
            fontweight="bold" if x in largest else "normal",
            color=style.INK,
            zorder=1.5,  # above the grid, below the bars
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    axes.set_xticks(range(len(steps)), [rung.tick for rung in steps], fontsize=11)
    axes.grid(visible=False, axis="x")
    style.log_ticks(axes.yaxis)
    axes.set_ylabel(f"{style.TIMES} over CPython (log scale)", fontsize=12)
    style.group_legend(axes, [rung.row.group for rung in steps], loc="upper left")
    parts = " and ".join(f"{steps[x].prose} ({style.times(gains[x])})" for x in largest)
    top = steps[-1].row
    style.finish(
        figure,
        results,
        f"{workload}: {style.times(reached[-1])} over CPython; most of it is {parts}",
        [
            f"Each step multiplies what stands to its left; the last is {top.title}. "
            "Below the factor: time per sample."
        ],
    )
    return figure
