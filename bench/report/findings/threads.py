"""Speed-up on two cores, for each workload at two batch sizes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.cases import ThreadsCase
from bench.report import plot
from bench.report.format import (
    TIMES,
    WARNED,
    digits,
    interval,
    verdict,
    warned,
)
from bench.report.part import Drawing, Part, Table, not_measured
from bench.results import Estimate, Results, Timed

WORDS = """\
Speed-up of two threads over one, timed in turns, and its interval. Below 1 two threads are slower:
small steps are over before a second core has helped. Each round held the losses of both against
each other, to the last bit."""


def parts(results: Results) -> Iterator[Part]:
    bars = collect(results)
    drawings = [Drawing("threads", partial(figure, results, bars))] if bars else []
    missing = not_measured(results, "threads")
    yield Part((6, 5), "Two threads", WORDS, drawings, [table(bars)], missing, level=3)


def table(bars: list[tuple[str, ThreadsCase]]) -> Table:
    lines: Table = [("step", "one thread, µs per sample", "two", "speed-up", "interval", "verdict")]
    for name, case in bars:
        factor = speedup(case)
        told = f"{factor.value:.2f}{TIMES}", interval(factor), verdict(factor)
        lines.append((name, *microseconds(case), *told))
    return lines


def microseconds(case: ThreadsCase) -> list[str]:
    """Per sample, with one thread and with two."""
    return [digits(1e6 * of.estimate.value) for of in timed(case)]


def speedup(case: ThreadsCase) -> Estimate:
    """Of two threads over one."""
    one, two = timed(case)
    return one.over(two)


def timed(case: ThreadsCase) -> tuple[Timed, Timed]:
    return Timed.of_case(case, "one", "_one"), Timed.of_case(case, "two", "_two")


def collect(results: Results) -> list[tuple[str, ThreadsCase]]:
    """(name of the step, case), by workload and batch."""
    cases = results.cases("threads")
    return [(f"{workload}, batch {case['batch']}", case) for workload, case in cases]


def figure(results: Results, bars: list[tuple[str, ThreadsCase]]) -> plot.Figure:
    drawn, axes = plot.bar_figure(len(bars), above=1.8)
    factors = [speedup(case) for _, case in bars]
    for y, ((name, case), factor) in enumerate(zip(bars, factors, strict=True)):
        colour = plot.WORKLOAD_COLOURS[name.partition(",")[0]]
        text = warned(f"{factor.value:.2f}{TIMES}", factor.doubts_as_ratio())
        text += f"   {' to '.join(microseconds(case))} µs per sample"
        plot.bar(axes, y, factor, colour, text)
    axes.axvline(1, color=plot.INK, linewidth=1.2, zorder=1.2)
    axes.axvline(2, color=plot.QUIET, linewidth=1.2, linestyle=":", zorder=1.2)
    axes.set_xlim(0, (2.1 if plot.narrow() else 1.6) * max(2.0, *(f.high for f in factors)))
    axes.set_xticks([0, 0.5, 1, 1.5, 2])
    plot.name_bars(axes, [name for name, _ in bars])
    axes.set_xlabel("speed-up of two threads over one")
    label = results.probed("threads")[0].label
    notes = (
        f"{label}. Medians of rounds of one thread and two in turns. Below 1, two threads are "
        f"slower. Losses agree to the last bit. {plot.whisker_note(drawn)} {WARNED}, or the "
        "interval holds 1."
    )
    return plot.finish(drawn, results, title(bars), notes, threads="one and two threads")


def title(bars: list[tuple[str, ThreadsCase]]) -> str:
    ranked = sorted((speedup(case).value, name) for name, case in bars)
    (least, worst), (most, best) = ranked[0], ranked[-1]
    return (
        f"Two threads are at best {most:.2f}{TIMES} as fast as one ({best}), "
        f"at worst {least:.2f}{TIMES} ({worst})"
    )
