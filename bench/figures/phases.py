"""Where the time of a training step goes: a bar for each phase, at batch 1 and 16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import Probe, Results
from bench.statistics import Estimate, estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    for probe in results.probed("phases"):
        yield f"phases_{probe.workload}.png", bars(results, probe)


def per_step(case: dict) -> dict[str, Estimate]:
    """Microseconds of each phase of a step, over the profiles."""
    return {name: estimate(seconds) * 1e6 for name, seconds in case["phases"].items()}


def bars(results: Results, probe: Probe) -> Figure:
    cases = [(case["batch"], per_step(case)) for case in probe.cases]
    names = list(cases[0][1])
    pitch = 0.47 if style.narrow() else 0.36
    height = 1.6 + pitch * len(names)
    figure, panels = style.new_panels(height, columns=len(cases), sharey=True)
    for axes, (batch, times) in zip(panels, cases, strict=True):
        step = sum(time.value for time in times.values())
        for y, name in enumerate(names):
            time = times[name]
            axes.barh(y, time.value, height=style.bar_height(), color=style.COLOURS["SIMD"][0])
            style.whisker(axes, time.value, y, time, "x")
            label = f"{style.digits(time.value)} µs, {style.per_cent(time.value / step)}"
            style.text_on_white(axes, time.high, y, label, (5, 0), fontsize=style.size(12))
        axes.set_xlim(0, 1.6 * max(time.high for time in times.values()))  # room for the labels
        style.name_bars(axes, names)
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.set_xlabel("µs per step", fontsize=style.size(12))
        each = f"{style.digits(step)} µs a step"
        axes.set_title(
            f"batch {batch}: {each}", loc="left", fontsize=style.size(13), color=style.INK
        )
    every = [time for _, times in cases for time in times.values()]
    notes = [
        f"{probe.label}. Medians of {every[0].rounds} profiles; reading the clock is part of them. "
        + style.whisker_note(every)
    ]
    style.finish(figure, results, title(probe, cases), notes)
    return figure


def title(probe: Probe, cases: list[tuple[int, dict[str, Estimate]]]) -> str:
    shares: dict[str, list[str]] = {}  # of the largest phase, the larger batch first
    for batch, times in reversed(cases):
        first = max(times, key=lambda name: times[name].value)
        step = sum(time.value for time in times.values())
        share = style.per_cent(times[first].value / step)
        shares.setdefault(first, []).append(f"{share} at batch {batch}")
    parts = [f"{name}, {' and '.join(words)}" for name, words in shares.items()]
    return f"Largest phase of a {probe.workload} step: {'; '.join(parts)}"
