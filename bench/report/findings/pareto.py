"""Held-out loss against training time over models and settings, and the best for each time."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from bench.cases import ParetoCase
from bench.report import plot
from bench.report.part import Drawing, Part, Parts, Table, not_measured
from bench.results import Probe, Results
from bench.task.workload import HELD_OUT
from pymicrogpt import _pareto

WORDS = f"""\
Whole trainings of one engine on one thread, in a search over n_layer, n_embd, batch size and
learning rate for the best held-out loss of each time. The table has those than which none was both
faster and better. One training for each point and one seed, trained on
{100 * (1 - HELD_OUT):g} % of the documents and evaluated on the others: differences of a hundredth
are noise. The best of each time is a recipe, such as `pymicrogpt train --seconds` picks from.
"""
MARKERS = "os^Dv*PX<"
COLOURS = list(plot.WORKLOAD_COLOURS.values())


def parts(results: Results) -> Parts:
    probes = results.probed("pareto")
    drawn = [probe for probe in probes if finite(probe.cases)]
    drawings = [Drawing("pareto", partial(figure, results, probe)) for probe in drawn]
    tables = [table(probe.cases) for probe in probes]
    missing = not_measured(results, "pareto")
    yield Part((5,), "The best model for a time", WORDS, drawings, tables, missing)


def table(cases: list[ParetoCase]) -> Table:
    head = ("seconds", "held-out loss", "n_layer", "n_embd", "batch", "learning rate", "steps")
    lines: Table = [head]
    for case in front(cases):
        shape = str(layers(case)), str(case["n_embd"]), str(case["batch"])
        setting = *shape, f"{case['learning_rate']:g}", f"{case['steps']:,}"
        lines.append((f"{case['seconds']:.3f}", f"{case['held_out']:.3f}", *setting))
    return lines


def layers(case: ParetoCase) -> int:
    return case.get("n_layer", 1)  # which older results have not


def finite(cases: list[ParetoCase]) -> list[tuple[float, ParetoCase]]:
    """Cases whose training ended with a number, and this."""
    return [(case["held_out"], case) for case in cases if case["held_out"] is not None]


def front(cases: list[ParetoCase]) -> list[ParetoCase]:
    """Cases than which none is both faster and better, by time; none without a loss."""
    found = _pareto.front(finite(cases), place=lambda case: (case[1]["seconds"], case[0]))
    return [case for _, case in found]


def figure(results: Results, probe: Probe) -> plot.Figure:
    drawn, axes = plot.new_figure(6.0)
    batches = sorted({case["batch"] for case in probe.cases})
    widths = sorted({case["n_embd"] for case in probe.cases})
    markers = {batch: MARKERS[i % len(MARKERS)] for i, batch in enumerate(batches)}
    colours = {width: COLOURS[i % len(COLOURS)] for i, width in enumerate(widths)}
    for loss, case in finite(probe.cases):
        axes.plot(case["seconds"], loss, markers[case["batch"]], color=colours[case["n_embd"]],
                  markersize=6, alpha=0.75, markeredgecolor="none")  # fmt: skip
    best = front(probe.cases)
    steps = [(case["seconds"], case["held_out"]) for case in best]
    axes.step(*zip(*steps, strict=True), where="post", color=plot.INK, linewidth=1.8, zorder=3)
    plot.log_axis(axes.xaxis, "seconds of training")
    losses = [loss for loss, _ in finite(probe.cases)]
    low, high = min(losses), min(max(losses), min(losses) + 0.6)
    axes.set_ylim(low - 0.28 * (high - low), high + 0.03 * (high - low))
    axes.margins(x=0.08)
    named = labelled([case for loss, case in finite(best) if loss <= high])
    for before, case in pairwise([named[0], *named]):
        close = before["seconds"] < case["seconds"] < 2 * before["seconds"]
        deep = f"{layers(case)} x " if layers(case) > 1 else ""
        text = f"{deep}d{case['n_embd']}, b{case['batch']}\n{case['learning_rate']:g}"
        axes.annotate(text, (case["seconds"], case["held_out"]), xytext=(0, -36 if close else -8),
                      textcoords="offset points", ha="center", va="top",
                      fontsize=plot.size(10.5), color=plot.INK)  # fmt: skip
    axes.set_ylabel("held-out loss")
    for width, colour in colours.items():
        axes.plot([], [], "s", color=colour, markersize=8, label=f"n_embd {width}")
    for batch, marker in markers.items():
        axes.plot([], [], marker, color=plot.QUIET, label=f"batch {batch}")
    plot.legend(axes, points=10.5, loc="upper right", ncols=2)
    above = len(probe.cases) - sum(loss <= high for loss in losses)
    notes = (
        f"{probe.label}. Each point is a whole training; the learning rate falls to 0 over its "
        "time. Black: the Pareto front. Below it: layers, n_embd, batch size and learning rate of "
        f"the best for each time. {above} of {len(probe.cases)} points lie above the figure."
    )
    return plot.finish(drawn, results, title(labelled(best)), notes)


def labelled(best: list[ParetoCase]) -> list[ParetoCase]:
    """The best of the front for each time that trainings were given."""
    return list({case["budget"]: case for case in best}.values())


def title(best: list[ParetoCase]) -> str:
    first, last = best[0], best[-1]
    return (
        f"In {first['seconds']:.2g} s n_embd {first['n_embd']} reaches a held-out loss of "
        f"{first['held_out']:.2f}; the best of {last['seconds']:.2g} s is {last['held_out']:.2f} "
        f"with n_layer {layers(last)}, n_embd {last['n_embd']}, batch {last['batch']} "
        f"and learning rate {last['learning_rate']:g}"
    )
