"""Speed-up on two cores, for each workload at two batch sizes."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import Results
from bench.statistics import Estimate, ratio

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    bars = collect(results)
    if bars:
        yield "threads.png", plot(results, bars)


def speedup(case: dict) -> Estimate:
    """Of two threads over one, by the ratios of the rounds."""
    return ratio(case["one"], case["two"])


def collect(results: Results) -> list[tuple[str, dict]]:
    """(workload, case), by workload and batch."""
    return [(p.workload, case) for p in results.probed("threads") for case in p.cases]


def plot(results: Results, bars: list[tuple[str, dict]]) -> Figure:
    figure, axes = style.bar_figure(len(bars), above=1.8)
    factors = [speedup(case) for _, case in bars]
    for y, ((workload, case), factor) in enumerate(zip(bars, factors, strict=True)):
        colour = style.WORKLOAD_COLOURS[workload]
        axes.barh(y, factor.value, height=style.bar_height(), color=colour)
        style.whisker(axes, factor.value, y, factor, "x")
        micro = [style.digits(1e6 * median(case[count])) for count in ("one", "two")]
        text = style.warned(f"{factor.value:.2f}{style.TIMES}", factor.doubts_as_ratio())
        text += f"   {micro[0]} to {micro[1]} µs per sample"
        style.text_on_white(axes, factor.high, y, text, (8, 0), fontsize=style.size(12))
    axes.axvline(1, color=style.INK, linewidth=1.2, zorder=1.2)
    axes.axvline(2, color=style.QUIET, linewidth=1.2, linestyle=":", zorder=1.2)
    axes.set_xlim(0, (2.1 if style.narrow() else 1.6) * max(2.0, *(f.high for f in factors)))
    axes.set_xticks([0, 0.5, 1, 1.5, 2])
    style.name_bars(axes, [f"{workload}, batch {case['batch']}" for workload, case in bars])
    axes.set_xlabel("speed-up of two threads over one", fontsize=style.size(12))
    label = results.probed("threads")[0].label
    notes = [
        f"{label}. Median of the ratios of {factors[0].rounds} rounds, one thread and two in "
        "turns. Below 1, two threads are slower. Losses agree to the last bit. "
        f"{style.whisker_note(factors)} {style.warning_note()[:-1]}, or the interval holds 1."
    ]
    style.finish(figure, results, title(bars), notes, threads="one and two threads")
    return figure


def title(bars: list[tuple[str, dict]]) -> str:
    ranked = sorted(bars, key=lambda bar: speedup(bar[1]).value)
    best, worst = (
        (f"{speedup(case).value:.2f}{style.TIMES}", f"({workload}, batch {case['batch']})")
        for workload, case in (ranked[-1], ranked[0])
    )
    return (
        f"Two threads are at best {best[0]} as fast as one {best[1]}, "
        f"at worst {worst[0]} {worst[1]}"
    )
