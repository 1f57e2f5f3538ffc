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

    @property
    def name(self) -> str:
        return " ".join(self.tick.split())


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


@dataclass(frozen=True)
class Stair:
    """A rung as it is drawn."""

    rung: Rung
    reached: Estimate  # over CPython
    below: float  # what the rung before has reached
    factor: str
    weight: str  # of the letters

    @property
    def colour(self) -> str:
        return plot.COLOURS[self.rung.row.group][0]


def waterfall(results: Results, workload: str, steps: list[Rung]) -> plot.Figure:
    rows = [rung.row for rung in steps]
    reached = [over(row, rows[0]) for row in rows]
    gains = [over(b, a) for a, b in pairwise(rows)]
    factors = ["", *(warned(times(gain.value), gain.doubts_as_ratio()) for gain in gains)]
    below = [reached[0].value, *(r.value for r in reached)]
    largest = sorted(range(1, len(rows)), key=lambda i: -gains[i - 1].value)[:2]
    weights = ["bold" if i in largest else "normal" for i in range(len(rows))]
    stairs = list(map(Stair, steps, reached, below, factors, weights))
    figure, axes = stairs_across(stairs) if plot.narrow() else stairs_upwards(stairs)
    side, left, beside = (
        ("right", "above", "Behind") if plot.narrow() else ("left", "to its left", "Below")
    )
    plot.group_legend(axes, [row.group for row in rows], loc=f"upper {side}")
    most = " and ".join(f"{steps[i].prose} ({times(gains[i - 1].value)})" for i in largest)
    notes = (
        f"Each step multiplies what stands {left}; the last is {rows[-1].title}. {beside} the "
        "factor: time per sample. Whiskers are of the "
        f"whole up to there. {plot.whisker_note(figure)} {WARNED}; or the step may be none. Zeros "
        "behind the ReLU are skipped above n_embd 16 only: there that step is none."
    )
    text = f"{workload}: {times(reached[-1].value)} over CPython; most of it is {most}"
    return plot.finish(figure, results, text, notes)


def stairs_upwards(stairs: list[Stair]) -> tuple[plot.Figure, plot.Axes]:
    figure, axes = plot.new_figure(6.0)
    plot.log_axis(axes.yaxis, f"{TIMES} over CPython")
    axes.set_ylim(0.6, 3 * max(stair.reached.high for stair in stairs) ** 1.1)
    for x, stair in enumerate(stairs):
        here, below, row = stair.reached, stair.below, stair.rung.row
        axes.bar(x, here.value - below, bottom=below, width=0.8, color=stair.colour)
        axes.hlines(here.value, x - 0.4, min(x + 1.4, len(stairs) - 0.6), plot.INK, linewidth=1.2)
        plot.whisker(axes, x, here.value, here, "y", row.title)
        text = f"{stair.factor}\n{duration(row.microseconds)}".strip()
        plot.text_on_white(axes, x, max(below, here.high), text, (0, 6), ha="center", va="bottom",
                           fontsize=12, fontweight=stair.weight)  # fmt: skip
    axes.set_xticks(range(len(stairs)), [stair.rung.tick for stair in stairs], fontsize=11)
    axes.grid(visible=False, axis="x")
    return figure, axes


def stairs_across(stairs: list[Stair]) -> tuple[plot.Figure, plot.Axes]:
    figure, axes = plot.bar_figure(len(stairs))
    plot.log_axis(axes.xaxis, f"{TIMES} over CPython")
    axes.set_xlim(0.6, max(stair.reached.high for stair in stairs) ** 1.5)
    for y, stair in enumerate(stairs):
        text = f"{stair.factor}   {duration(stair.rung.row.microseconds)}".strip()
        plot.bar(axes, y, stair.reached, stair.colour, text, stair.below, fontweight=stair.weight)
    plot.name_bars(axes, [stair.rung.name for stair in stairs])
    return figure, axes
