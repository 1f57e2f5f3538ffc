"""The ladder: which step from CPython to the fastest bought which factor, and who beats whom."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from bench.report import plot
from bench.report.format import TIMES, WARNED, duration, times, verdict, warned, with_interval
from bench.report.part import Drawing, Part, Parts, Table
from bench.results import BASELINE, Estimate, Results, Row, grouped, over

WORDS = """\
Factors between rows. A warning stands where the interval holds 1 (neither is shown to be faster),
where it is wide, where rounds were few, or all of one side beside a neighbour. *Out of the sandbox*
is the same scalar source as native code, over WebAssembly; between their SIMD lies
the width of the vectors as well, four floats in WebAssembly."""
SAME_LOOPS = ("scalar", "wasm-scalar")  # of one source


def parts(results: Results) -> Parts:
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
    """Two rows of the same rounds: how many times as fast is the one as the other?"""

    what: str
    row: Row
    other: Row


def pairs(results: Results, workload: str) -> list[Pair]:
    """The steps of the ladder, then at each batch size what a sandbox costs, and the fastest row
    over the fastest of every other group. Rows on a GPU are compared in their own finding."""
    steps = rungs(results, workload)
    found = [Pair(b.name, b.row, a.row) for a, b in pairwise(steps)]
    for batch, rows in sorted(grouped(results.ranked(workload), lambda row: row.batch).items()):
        native, sandboxed = (results.find(workload, of, batch) for of in SAME_LOOPS)
        if native and sandboxed:
            found.append(Pair(f"out of the sandbox, batch {batch}", native, sandboxed))
        best, *others = (of[0] for of in grouped(rows, lambda row: row.group).values())
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
        factor = over(pair.row, pair.other)
        names = (pair.what, pair.row.title, pair.other.title)
        lines.append((*names, *with_interval(factor, times), verdict(factor)))
    return lines


@dataclass(frozen=True)
class Rung:
    tick: str
    prose: str  # in the title
    row: Row
    gain: Estimate  # over the rung below; 1 for the first
    reached: Estimate  # over the first

    @property
    def name(self) -> str:
        return " ".join(self.tick.split())

    @property
    def factor(self) -> str:
        return warned(times(self.gain.value), self.gain.doubts_as_ratio())

    @property
    def time(self) -> str:
        return duration(self.row.microseconds)


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
    found: list[Rung] = []
    for tick, prose, name, batch in steps:
        if row := results.find(workload, name, batch):
            first, below = (found[0].row, found[-1].row) if found else (row, row)
            found.append(Rung(tick, prose, row, over(row, below), over(row, first)))
    return found


def waterfall(results: Results, workload: str, steps: list[Rung]) -> plot.Figure:
    largest = sorted(steps[1:], key=lambda rung: -rung.gain.value)[:2]
    if plot.narrow():
        figure, axes = stairs_across(steps, largest)
        corner, left, below = "upper right", "above", "Behind"
    else:
        figure, axes = stairs_upwards(steps, largest)
        corner, left, below = "upper left", "to its left", "Below"
    plot.group_legend(axes, [rung.row.group for rung in steps], loc=corner)
    most = " and ".join(f"{rung.prose} ({times(rung.gain.value)})" for rung in largest)
    notes = (
        f"Each step multiplies what stands {left}; the last is {steps[-1].row.title}. {below} the "
        "factor: time per sample. Whiskers are of the "
        f"whole up to there. {plot.whisker_note(figure)} {WARNED}; or the step may be none. Zeros "
        "behind the ReLU are skipped in batches of 16 above n_embd 16 only; at 16 the step is none."
    )
    text = f"{workload}: {times(steps[-1].reached.value)} over CPython; most of it is {most}"
    return plot.finish(figure, results, text, notes)


def stairs_upwards(steps: list[Rung], largest: list[Rung]) -> tuple[plot.Figure, plot.Axes]:
    figure, axes = plot.new_figure(6.0)
    plot.log_axis(axes.yaxis, f"{TIMES} over CPython")
    axes.set_ylim(0.6, 3 * max(rung.reached.high for rung in steps) ** 1.1)
    for x, rung in enumerate(steps):
        here, below = rung.reached, steps[max(0, x - 1)].reached.value
        colour, weight = plot.COLOURS[rung.row.group][0], "bold" if rung in largest else "normal"
        axes.bar(x, here.value - below, bottom=below, width=0.8, color=colour)
        axes.hlines(here.value, x - 0.4, min(x + 1.4, len(steps) - 0.6), plot.INK, linewidth=1.2)
        plot.whisker(axes, x, here.value, here, rung.row.title)
        text = f"{rung.factor}\n{rung.time}" if x else rung.time
        plot.text_on_white(axes, x, max(below, here.high), text, (0, 6), ha="center", va="bottom",
                           fontsize=12, fontweight=weight)  # fmt: skip
    axes.set_xticks(range(len(steps)), [rung.tick for rung in steps], fontsize=11)
    axes.grid(visible=False, axis="x")
    return figure, axes


def stairs_across(steps: list[Rung], largest: list[Rung]) -> tuple[plot.Figure, plot.Axes]:
    figure, axes = plot.bar_figure(len(steps))
    plot.log_axis(axes.xaxis, f"{TIMES} over CPython")
    axes.set_xlim(0.6, max(rung.reached.high for rung in steps) ** 1.5)
    for y, rung in enumerate(steps):
        below = steps[max(0, y - 1)].reached.value
        colour, weight = plot.COLOURS[rung.row.group][0], "bold" if rung in largest else "normal"
        text = f"{rung.factor}   {rung.time}" if y else rung.time
        plot.bar(axes, y, rung.reached, colour, text, below, fontweight=weight)
    plot.name_bars(axes, [rung.name for rung in steps])
    return figure, axes
