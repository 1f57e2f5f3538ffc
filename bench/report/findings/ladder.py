"""The ladder: which step from CPython to the fastest bought which factor, and who beats whom."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from bench.report import plot
from bench.report.format import (
    TIMES,
    WARNED,
    duration,
    interval,
    times,
    verdict,
    warned,
)
from bench.report.part import Drawing, Part, Table
from bench.results import BASELINE, Estimate, Results, Row, over

WORDS = """\
Factors between rows. A warning stands where the interval holds 1 (neither is shown to be faster),
where it is wide, where rounds were few, or all of one side beside a neighbour. *Out of the sandbox*
is the same scalar source as native code, over WebAssembly; between their SIMD lies
the width of the vectors as well, four floats in WebAssembly."""
SAME_LOOPS = ("scalar", "wasm-scalar")  # of one source


def parts(results: Results) -> Iterator[Part]:
    for index, workload in enumerate(results.workloads):
        steps, drawings = rungs(results, workload), []
        if len(steps) > 2 and results.baseline(workload):
            drawings = [Drawing(f"ladder_{workload}", partial(waterfall, results, workload, steps))]
        lines = table(pairs(results, workload))
        name = f"{workload}: who is faster than whom"
        part = Part((1, index, 1), name, WORDS, drawings, [lines], level=3)
        if not part.empty:
            yield part


@dataclass(frozen=True)
class Pair:
    """Two rows of the same rounds."""

    what: str
    row: Row
    other: Row

    @property
    def factor(self) -> Estimate:
        """How many times as fast the row is as the other."""
        return over(self.row, self.other)


def pairs(results: Results, workload: str) -> list[Pair]:
    """The steps of the ladder, then at each batch size what a sandbox costs, and the fastest row
    over the fastest of every other group. Rows on a GPU are compared in their own finding."""
    steps = rungs(results, workload)
    found = [Pair(" ".join(b.tick.split()), b.row, a.row) for a, b in pairwise(steps)]
    rows = results.ranked(workload)
    for batch in sorted({row.batch for row in rows}):
        native, sandboxed = (results.find(workload, of, batch) for of in SAME_LOOPS)
        if native and sandboxed:
            found.append(Pair(f"out of the sandbox, batch {batch}", native, sandboxed))
        group_best: dict[str, Row] = {}
        for row in rows:
            if row.batch == batch:
                group_best.setdefault(row.group, row)
        best, *others = group_best.values()
        known = [(pair.row, pair.other) for pair in found]
        found += [
            Pair(f"{best.group} over {row.group}, batch {batch}", best, row)
            for row in others
            if (best, row) not in known
        ]
    return found


def table(found: list[Pair]) -> Table:
    lines: Table = [("what", "of", "over", "factor", "interval", "verdict")]
    for pair in found:
        factor = pair.factor
        names = (pair.what, pair.row.title, pair.other.title)
        lines.append((*names, times(factor.value), interval(factor), verdict(factor)))
    return lines


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
    return [
        Rung(tick, prose, row)
        for tick, prose, name, batch in steps
        if (row := results.find(workload, name, batch))
    ]


def waterfall(results: Results, workload: str, steps: list[Rung]) -> plot.Figure:
    start = steps[0].row
    reached = [over(rung.row, start) for rung in steps]
    gains = [over(b.row, a.row) for a, b in pairwise(steps)]
    largest = sorted(range(len(gains)), key=lambda i: -gains[i].value)[:2]
    draw_stairs = stairs_across if plot.narrow() else stairs_upwards
    figure, axes = draw_stairs(steps, reached, gains, [i + 1 for i in largest])
    plot.group_legend(
        axes,
        [rung.row.group for rung in steps],
        loc="upper right" if plot.narrow() else "upper left",
    )
    parts = " and ".join(f"{steps[i + 1].prose} ({times(gains[i].value)})" for i in largest)
    left, below = ("above", "Behind") if plot.narrow() else ("to its left", "Below")
    notes = (
        f"Each step multiplies what stands {left}; the last is {steps[-1].row.title}. {below} the "
        "factor: time per sample. Whiskers are of the "
        f"whole up to there. {plot.whisker_note(figure)} {WARNED}; or the step may be none. Zeros "
        "behind the ReLU are skipped above n_embd 16 only: there that step is none."
    )
    text = f"{workload}: {times(reached[-1].value)} over CPython; most of it is {parts}"
    return plot.finish(figure, results, text, notes)


def labels(steps: list[Rung], gains: list[Estimate], between: str) -> list[str]:
    """Of each step, its factor and its time."""
    shown = [duration(rung.row.microseconds) for rung in steps]
    factors = [warned(times(g.value), g.doubts_as_ratio()) for g in gains]
    return [shown[0], *(f"{g}{between}{t}" for g, t in zip(factors, shown[1:], strict=True))]


def stairs_upwards(
    steps: list[Rung], reached: list[Estimate], gains: list[Estimate], bold: list[int]
) -> tuple[plot.Figure, plot.Axes]:
    figure, axes = plot.new_figure(6.0)
    plot.log_axis(axes.yaxis, f"{TIMES} over CPython")
    axes.set_ylim(0.6, 3 * max(r.high for r in reached) ** 1.1)
    for x, (rung, text) in enumerate(zip(steps, labels(steps, gains, "\n"), strict=True)):
        here, below = reached[x], reached[max(0, x - 1)].value
        colour = plot.COLOURS[rung.row.group][0]
        axes.bar(x, here.value - below, bottom=below, width=0.8, color=colour)
        axes.hlines(here.value, x - 0.4, min(x + 1.4, len(steps) - 0.6), plot.INK, linewidth=1.2)
        plot.whisker(axes, x, here.value, here, "y", rung.row.title)
        plot.text_on_white(axes, x, max(below, here.high), text, (0, 6), ha="center", va="bottom",
                            fontsize=12, fontweight="bold" if x in bold else "normal")  # fmt: skip
    axes.set_xticks(range(len(steps)), [rung.tick for rung in steps], fontsize=11)
    axes.grid(visible=False, axis="x")
    return figure, axes


def stairs_across(
    steps: list[Rung], reached: list[Estimate], gains: list[Estimate], bold: list[int]
) -> tuple[plot.Figure, plot.Axes]:
    figure, axes = plot.bar_figure(len(steps))
    plot.log_axis(axes.xaxis, f"{TIMES} over CPython")
    highest = max(r.high for r in reached)
    axes.set_xlim(0.6, highest**1.5)
    for y, (rung, text) in enumerate(zip(steps, labels(steps, gains, "   "), strict=True)):
        here, below = reached[y], reached[max(0, y - 1)].value
        colour = plot.COLOURS[rung.row.group][0]
        weight = "bold" if y in bold else "normal"
        plot.bar(axes, y, here, colour, text, below, fontweight=weight)
    plot.name_bars(axes, [" ".join(rung.tick.split()) for rung in steps])
    return figure, axes
