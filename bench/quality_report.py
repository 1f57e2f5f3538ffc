"""The sections of the report on quality: loss against time, and the Pareto front."""

from __future__ import annotations

from fnmatch import fnmatch

from bench.figures import Drawn
from bench.figures.quality import duration, final, ranked
from bench.figures.style import digits
from bench.quality import HELD_OUT, LEVELS, SPLIT_SEED, loss_after, time_below
from bench.results import Probe, Results
from bench.statistics import front
from bench.tables import Part, Table

QUALITY = f"""\
Every row trained for the same wall time, with as many steps as its measured speed allows, while its
learning rate fell to 0. The held-out loss is that of {100 * HELD_OUT:g} % of the documents, drawn
with seed {SPLIT_SEED}, which are in no training; one engine evaluated the parameters of all rows,
with the clock held. Compilation ahead of the first step is not counted. The time until a level is
interpolated between points, and *none* means not within this training: a longer one may get there.
"""
PARETO = f"""\
Whole trainings of one engine over a grid of n_embd, batch size and learning rate, each for several
times. The table has those than which none was both faster and better. One training for each point
and one seed, trained on {100 * (1 - HELD_OUT):g} % of the documents and evaluated on the others:
differences of a hundredth are noise.
"""


def parts(results: Results, figures: list[Drawn]) -> list[Part]:
    """Empty where nothing was trained for its quality."""
    found = []
    if probes := results.probed("quality"):
        drawn = [figure for figure in figures if fnmatch(figure.name, "quality_*.png")]
        missing = [
            f"Not measured: {probe.workload}: {case['label']}, batch {case['batch']}: "
            f"{case['reason']}"
            for probe in probes
            for case in probe.cases
            if not case["points"]
        ]
        tables = [quality_table(probe) for probe in probes]
        found.append(Part("Loss against time", QUALITY, drawn, tables, missing))
    found += [
        Part("Loss against time", missing=[f"Not measured: {probe.reason}"])
        for probe in results.probes
        if probe.name in ("quality", "pareto") and probe.status != "ok"
    ]
    for probe in results.probed("pareto"):
        drawn = [figure for figure in figures if figure.name == "pareto.png"]
        found.append(Part("The best model for a time", PARETO, drawn, [pareto_table(probe)]))
    return found


def quality_table(probe: Probe) -> Table:
    cases = ranked(probe)
    after = duration(cases[0]["budget"]) if cases else ""
    head = (probe.workload, "batch", f"steps in {after}", "training loss", "held-out loss")
    lines = [(*head, *(f"seconds to {level:.1f}" for level in LEVELS))]
    for case in cases:
        points = case["points"]
        times = [time_below(points, level) for level in LEVELS]
        lines.append(
            (
                case["label"],
                str(case["batch"]),
                f"{points[-1]['steps']:,}",
                f"{loss_after(points, case['budget'], 'train'):.3f}",
                f"{final(case):.3f}",
                *("none" if seconds is None else digits(seconds) for seconds in times),
            )
        )
    return lines


def pareto_table(probe: Probe) -> Table:
    lines = [("seconds", "held-out loss", "n_embd", "batch", "learning rate", "steps")]
    lines += [
        (
            f"{case['seconds']:.3f}",
            f"{case['held_out']:.3f}",
            *(f"{case[key]:g}" for key in ("n_embd", "batch", "learning_rate")),
            f"{case['steps']:,}",
        )
        for case in front(probe.cases)
    ]
    return lines
