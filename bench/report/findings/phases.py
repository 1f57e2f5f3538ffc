"""Where the time of a training step goes: a bar for each phase, at batch 1 and 16.

The first of the sections on the probes, and so with the heading of them all.
"""

from __future__ import annotations

from functools import partial

from bench.cases import PhasesCase
from bench.report import plot
from bench.report.format import digits, per_cent
from bench.report.part import Drawing, Part, Parts, not_measured
from bench.results import Estimate, Probe, Results, Timed

WORDS = """\
Time of each phase of a training step, by batch: the phases of a column add up to the step. It is
the mean over ten slices spread evenly over a whole training, since a step's cost falls as hidden
units fall silent; so are all times of this section. Weights are updated once a step, inside the
phases that compute their gradients: at batch 1 that is for the rows of one document, at batch 16
for those of sixteen."""

OTHERS = ("quality", "pareto", "generation")  # probes with a section of their own


def parts(results: Results) -> Parts:
    of_engine = [probe for probe in results.probes if probe.name not in OTHERS]
    if of_engine:
        yield Part((6,), f"How close {of_engine[0].label} comes to the machine")
    drawings = [
        Drawing(f"phases_{probe.workload}", partial(bars, results, probe))
        for probe in results.probed("phases")
    ]
    missing = not_measured(results, "phases")
    yield Part((6, 1), "Phases of a step", WORDS, drawings, [], missing, level=3)


def per_step(case: PhasesCase) -> dict[str, Estimate]:
    """Microseconds of each phase of a step, over the profiles."""
    phases = case["phases"].items()
    return {name: Timed.of_case(case, seconds).estimate * 1e6 for name, seconds in phases}


def bars(results: Results, probe: Probe) -> plot.Figure:
    cases = [(case["batch"], per_step(case)) for case in probe.cases]
    names = list(cases[0][1])
    figure, panels = plot.new_panels(plot.bars_high(len(names)), columns=len(cases), sharey=True)
    for axes, (batch, times) in zip(panels, cases, strict=True):
        step = sum(time.value for time in times.values())
        for y, name in enumerate(names):
            time = times[name]
            label = f"{digits(time.value)} µs, {per_cent(time.value / step)}"
            plot.bar(axes, y, time, plot.COLOURS["SIMD"][0], label)
        axes.set_xlim(0, 1.6 * max(time.high for time in times.values()))  # room for the labels
        plot.name_bars(axes, names)
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.set_xlabel("µs per step")
        text = f"batch {batch}: {digits(step)} µs a step"
        axes.set_title(text, loc="left", fontsize=plot.size(13), color=plot.INK)
    notes = f"{probe.label}. The centre of profiles; reading the clock is part of them. "
    return plot.finish(figure, results, title(probe, cases), notes + plot.whisker_note(figure))


def title(probe: Probe, cases: list[tuple[int, dict[str, Estimate]]]) -> str:
    shares: dict[str, list[str]] = {}  # of the largest phase, the larger batch first
    for batch, times in reversed(cases):
        first = max(times, key=lambda name: times[name].value)
        share = per_cent(times[first].value / sum(time.value for time in times.values()))
        shares.setdefault(first, []).append(f"{share} at batch {batch}")
    parts = [f"{name}, {' and '.join(words)}" for name, words in shares.items()]
    return f"Largest phase of a {probe.workload} step: {'; '.join(parts)}"
