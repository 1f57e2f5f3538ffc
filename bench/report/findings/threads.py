"""Speed-up on two cores, for each workload at two batch sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from bench.report import plot
from bench.report.format import TIMES, WARNED, digits, verdict, warned, with_interval
from bench.report.part import Drawing, Part, Parts, Table, not_measured
from bench.results import Estimate, Results, Timed

WORDS = """\
Speed-up of two threads over one, timed in turns, and its interval. Below 1 two threads are slower:
small steps are over before a second core has helped. Each round held the losses of both against
each other, to the last bit."""


def parts(results: Results) -> Parts:
    bars = collect(results)
    drawings = [Drawing("threads", partial(figure, results, bars))] if bars else []
    missing = not_measured(results, "threads")
    yield Part((6, 5), "Two threads", WORDS, drawings, [table(bars)], missing, level=3)


@dataclass(frozen=True)
class Bar:
    workload: str
    name: str  # of the step
    factor: Estimate  # of two threads over one
    times: list[str]  # of a sample, with one thread and with two


def collect(results: Results) -> list[Bar]:
    """By workload and batch."""
    bars = []
    for workload, case in results.cases("threads"):
        one, two = (Timed.of_case(case, case[of], f"_{of}") for of in ("one", "two"))
        times = [digits(1e6 * timed.estimate.value) for timed in (one, two)]
        bars.append(Bar(workload, f"{workload}, batch {case['batch']}", one.over(two), times))
    return bars


def fixed(factor: float) -> str:
    return f"{factor:.2f}{TIMES}"


def table(bars: list[Bar]) -> Table:
    head = ("step", "one thread, µs per sample", "two", "speed-up", "interval", "verdict")
    return [head, *(
        (bar.name, *bar.times, *with_interval(bar.factor, fixed), verdict(bar.factor))
        for bar in bars
    )]  # fmt: skip


def figure(results: Results, bars: list[Bar]) -> plot.Figure:
    drawn, axes = plot.bar_figure(len(bars), above=1.8)
    for y, bar in enumerate(bars):
        text = warned(fixed(bar.factor.value), bar.factor.doubts_as_ratio())
        text += f"   {' to '.join(bar.times)} µs per sample"
        plot.bar(axes, y, bar.factor, plot.WORKLOAD_COLOURS[bar.workload], text)
    axes.axvline(1, color=plot.INK, linewidth=1.2, zorder=1.2)
    axes.axvline(2, color=plot.QUIET, linewidth=1.2, linestyle=":", zorder=1.2)
    highest = max(2.0, *(bar.factor.high for bar in bars))
    axes.set_xlim(0, (2.1 if plot.narrow() else 1.6) * highest)
    axes.set_xticks([0, 0.5, 1, 1.5, 2])
    plot.name_bars(axes, [bar.name for bar in bars])
    axes.set_xlabel("speed-up of two threads over one")
    notes = (
        f"{results.probed('threads')[0].label}. The centre of rounds of one thread and two in "
        "turns. Below 1, two threads are slower. Losses agree to the last bit. "
        f"{plot.whisker_note(drawn)} {WARNED}, or the interval holds 1."
    )
    ranked = sorted((bar.factor.value, bar.name) for bar in bars)
    (least, worst), (most, best) = ranked[0], ranked[-1]
    title = (
        f"Two threads are at best {fixed(most)} as fast as one ({best}), "
        f"at worst {fixed(least)} ({worst})"
    )
    return plot.finish(drawn, results, title, notes, threads="one and two threads")
