"""Where the time of a training step goes: a bar for each phase, at batch 1 and 16."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import Probe, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    for probe in results.probed("phases"):
        yield f"phases_{probe.workload}.png", bars(results, probe)


def per_step(case: dict) -> dict[str, float]:
    """Microseconds of each phase of a step, the median of the profiles."""
    return {name: 1e6 * median(seconds) for name, seconds in case["phases"].items()}


def bars(results: Results, probe: Probe) -> Figure:
    cases = [(case["batch"], per_step(case)) for case in probe.cases]
    names = list(cases[0][1])
    figure, panels = style.new_panels(1.6 + 0.36 * len(names), columns=len(cases), sharey=True)
    for axes, (batch, times) in zip(panels, cases, strict=True):
        step = sum(times.values())
        for y, name in enumerate(names):
            axes.barh(y, times[name], height=0.74, color=style.COLOURS["SIMD"][0])
            label = f"{style.digits(times[name])} µs, {style.per_cent(times[name] / step)}"
            style.text_on_white(axes, times[name], y, label, (5, 0), fontsize=12)
        axes.set_xlim(0, 1.55 * max(times.values()))  # room for the labels
        axes.set_yticks(range(len(names)), names, fontsize=12)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.set_xlabel("µs per step", fontsize=12)
        each = f"{style.digits(step)} µs a step"
        axes.set_title(f"batch {batch}: {each}", loc="left", fontsize=13, color=style.INK)
    notes = [
        f"{probe.label}. Median of {rounds(probe)} profiles; reading the clock is part of them."
    ]
    style.finish(figure, results, title(probe, cases), notes)
    return figure


def rounds(probe: Probe) -> int:
    return len(next(iter(probe.cases[0]["phases"].values())))


def title(probe: Probe, cases: list[tuple[int, dict[str, float]]]) -> str:
    shares: dict[str, list[str]] = {}  # of the largest phase, the larger batch first
    for batch, times in reversed(cases):
        first = max(times, key=times.get)
        share = style.per_cent(times[first] / sum(times.values()))
        shares.setdefault(first, []).append(f"{share} at batch {batch}")
    parts = [f"{name}, {' and '.join(words)}" for name, words in shares.items()]
    return f"Largest phase of a {probe.workload} step: {'; '.join(parts)}"
