"""Held-out loss against training time: a figure a workload, and a table of all rows.

The figure has a line for each implementation, of the batch size that ended lower.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.cases import Point, QualityCase
from bench.report import plot
from bench.report.format import digits, training_time
from bench.report.part import Drawing, Part, Parts, Table, not_measured
from bench.results import Probe, Results, grouped, known
from bench.task.workload import HELD_OUT, SPLIT_SEED

TOLD = 6  # points of a line, its last ones
LEVELS = (2.2, 2.0)  # held-out losses whose time is told

WORDS = f"""\
Every row trained for the same wall time, with as many steps as its measured speed allows, while its
learning rate fell to 0. The held-out loss is that of {100 * HELD_OUT:g} % of the documents, drawn
with seed {SPLIT_SEED}, which are in no training; one engine evaluated the parameters of all rows,
with the clock held. Compilation ahead of the first step is not counted. The time until a level is
interpolated between points, and *none* means not within this training: a longer one may get there.
"""


def parts(results: Results) -> Parts:
    probes = results.probed("quality")
    drawings = [
        Drawing(f"quality_{probe.workload}", partial(figure, results, probe))
        for probe in probes
        if any(len(case["points"]) > 1 for case in probe.cases)
    ]
    missing = [
        f"Not measured: {probe.workload}: {case['label']}, batch {case['batch']}: {case['reason']}"
        for probe in probes
        for case in probe.cases
        if not case["points"]
    ]
    missing += not_measured(results, "quality")
    yield Part((4,), "Loss against time", WORDS, drawings, list(map(table, probes)), missing)


def table(probe: Probe) -> Table:
    cases = ranked(probe)
    after = training_time(cases[0]["budget"]) if cases else ""
    head = (probe.workload, "batch", f"steps in {after}", "training loss", "held-out loss")
    lines = [(*head, *(f"seconds to {level:.1f}" for level in LEVELS))]
    for case in cases:
        points = case["points"]
        train = at(points, case["budget"], [p["train"] for p in points])
        reached = [time_below(points, level) for level in LEVELS]
        row = (case["label"], str(case["batch"]), f"{points[-1]['steps']:,}", f"{train:.3f}")
        times = ("none" if seconds is None else digits(seconds) for seconds in reached)
        lines.append((*row, f"{final(case):.3f}", *times))
    return lines


def time_below(points: list[Point], level: float) -> float | None:
    """Seconds until the held-out loss fell below a level for the first time, by linear
    interpolation; None where it never did."""
    below = next((i for i, point in enumerate(points) if point["held_out"] < level), None)
    if below is None:
        return None
    ends = points[max(0, below - 1) : below + 1]
    falling = [-point["held_out"] for point in ends]  # rising, as np.interp wants them
    return float(np.interp(-level, falling, [point["seconds"] for point in ends]))


def at(points: list[Point], seconds: float, losses: list[float]) -> float:
    """The loss after some seconds, by linear interpolation; at the end where that came before."""
    return float(np.interp(seconds, [p["seconds"] for p in points], losses))


def final(case: QualityCase) -> float:
    return at(case["points"], case["budget"], [p["held_out"] for p in case["points"]])


def ranked(probe: Probe) -> list[QualityCase]:
    """Cases that have a curve, the best at its end first."""
    return sorted((case for case in probe.cases if case["points"]), key=final)


def figure(results: Results, probe: Probe) -> plot.Figure:
    best = [cases[0] for cases in grouped(ranked(probe), lambda case: case["variant"]).values()]
    drawn, axes = plot.new_figure(3.0 + 0.24 * len(best))
    colours = plot.variant_colours((case["variant"], case["group"]) for case in probe.cases)
    budget = best[0]["budget"]
    plot.log_axis(axes.xaxis, "seconds of training")
    axes.set_xlim(budget / 2000, 1.15 * budget)
    axes.set_ylabel("held-out loss")
    ends = []
    for case in best:
        curve = [point for point in case["points"] if point["seconds"]]
        colour, dashes = colours[case["variant"]], "--" if case["batch"] == 1 else "-"
        axes.plot([p["seconds"] for p in curve], [p["held_out"] for p in curve], dashes,
                  color=colour, linewidth=2.0)  # fmt: skip
        for p in curve[-TOLD:]:
            name = f"{case['label']}, batch {case['batch']}, {digits(1e3 * p['seconds'])} ms"
            plot.whisker(axes, p["seconds"], p["held_out"], known(p["held_out"]), name)
        end = min(case["points"][-1]["seconds"], budget) or axes.get_xlim()[0]
        name = f"{case['label']}, {case['batch']}: {final(case):.2f}"
        ends.append((name, end, final(case), colour))
    plot.label_ends(axes, ends)
    notes = (
        "Of each implementation the batch size that ended lower: 1 dashed, larger ones solid. All "
        "train for the same time, while the learning rate falls to 0. The documents evaluated are "
        "in no training. Less is better."
    )
    return plot.finish(drawn, results, title(probe), notes)


def title(probe: Probe) -> str:
    cases = ranked(probe)
    best, worst = cases[0], cases[-1]
    ends = [(f"{case['label']} at batch {case['batch']}", f"{final(case):.2f}") for case in cases]
    text = (
        f"{probe.workload}: after {training_time(best['budget'])} of training {ends[0][0]} has a "
        f"held-out loss of {ends[0][1]}"
    )
    return text if worst is best else f"{text}, {ends[-1][0]} one of {ends[-1][1]}"
