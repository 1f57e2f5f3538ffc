"""Speed-up on two cores, for each workload at two batch sizes."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median, quantiles
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    bars = collect(results)
    if bars:
        yield "threads.png", plot(results, bars)


def speedups(case: dict) -> list[float]:
    """Of two threads over one, for each round."""
    return [one / two for one, two in zip(case["one"], case["two"], strict=True)]


def spread(values: list[float]) -> tuple[float, float]:
    """The quartiles."""
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def collect(results: Results) -> list[tuple[str, dict]]:
    """(workload, case), by workload and batch."""
    return [(p.workload, case) for p in results.probed("threads") for case in p.cases]


def plot(results: Results, bars: list[tuple[str, dict]]) -> Figure:
    figure, axes = style.new_figure(1.6 + 0.46 * len(bars))
    names, highest = [], 2.0
    for y, (workload, case) in enumerate(bars):
        factors = speedups(case)
        middle, (low, high) = median(factors), spread(factors)
        highest = max(highest, high)
        names.append(f"{workload}, batch {case['batch']}")
        axes.barh(y, middle, height=0.7, color=style.WORKLOAD_COLOURS[workload])
        axes.errorbar(middle, y, xerr=[[middle - low], [high - middle]], color=style.INK,
                      linewidth=1.5, capsize=4)  # fmt: skip
        micro = [style.digits(1e6 * median(case[count])) for count in ("one", "two")]
        text = f"{middle:.2f}{style.TIMES}   {micro[0]} to {micro[1]} µs per sample"
        style.text_on_white(axes, high, y, text, (8, 0), fontsize=12)
    axes.axvline(1, color=style.INK, linewidth=1.2, zorder=1.2)
    axes.axvline(2, color=style.QUIET, linewidth=1.2, linestyle=":", zorder=1.2)
    axes.set_xlim(0, 1.55 * highest)
    axes.set_xticks([0, 0.5, 1, 1.5, 2])
    axes.set_yticks(range(len(bars)), names, fontsize=12)
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("speed-up of two threads over one", fontsize=12)
    label = results.probed("threads")[0].label
    notes = [
        f"{label}. Median of the ratios of {len(bars[0][1]['one'])} rounds, one thread and two in "
        "turns; whiskers: quartiles. Below 1, two threads are slower. Losses agree to the last bit."
    ]
    style.finish(figure, results, title(bars), notes, threads="one and two threads")
    return figure


def title(bars: list[tuple[str, dict]]) -> str:
    ranked = sorted(bars, key=lambda bar: median(speedups(bar[1])))
    best, worst = (
        (f"{median(speedups(case)):.2f}{style.TIMES}", f"({workload}, batch {case['batch']})")
        for workload, case in (ranked[-1], ranked[0])
    )
    return (
        f"Two threads are at best {best[0]} as fast as one {best[1]}, "
        f"at worst {worst[0]} {worst[1]}"
    )
