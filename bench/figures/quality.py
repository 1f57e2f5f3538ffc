"""Held-out loss against training time, a line for each implementation and batch: one a workload."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.figures import style
from bench.figures.scaling import spread
from bench.quality import loss_after
from bench.results import Probe, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    for probe in results.probed("quality"):
        if any(len(case["points"]) > 1 for case in probe.cases):
            yield f"quality_{probe.workload}.png", plot(results, probe)


def final(case: dict) -> float:
    return loss_after(case["points"], case["budget"])


def end_of(case: dict) -> float:
    """Seconds at which final() is met."""
    return min(case["points"][-1]["seconds"], case["budget"])


def ranked(probe: Probe) -> list[dict]:
    """Cases that have a curve, the best at its end first."""
    return sorted((case for case in probe.cases if case["points"]), key=final)


def plot(results: Results, probe: Probe) -> Figure:
    cases = ranked(probe)
    figure, axes = style.new_figure(3.0 + 0.24 * len(cases))
    colours: dict[str, str] = {}
    for group, palette in style.COLOURS.items():
        members = dict.fromkeys(c["variant"] for c in probe.cases if c["group"] == group)
        colours |= {name: palette[i % len(palette)] for i, name in enumerate(members)}
    budget = cases[0]["budget"]
    for case in cases:
        curve = [p for p in case["points"] if p["seconds"]]
        axes.plot([p["seconds"] for p in curve], [p["held_out"] for p in curve],
                  "--" if case["batch"] == 1 else "-", color=colours[case["variant"]],
                  linewidth=2.0, marker="o", markersize=3.5)  # fmt: skip
    axes.set_xscale("log")
    style.log_ticks(axes.xaxis)
    axes.set_xlim(budget / 2000, 1.15 * budget)
    axes.set_xlabel("seconds of training (log scale)", fontsize=style.size(12))
    axes.set_ylabel("held-out loss", fontsize=style.size(12))
    label_ends(axes, cases, colours)
    notes = [
        "Dashed: batch 1. Solid: batch 16. Every row trains for the same time, its learning rate "
        "falling to 0 over it. The documents evaluated are in no training. Less is better."
    ]
    style.finish(figure, results, title(probe), notes)
    return figure


def label_ends(axes: Axes, cases: list[dict], colours: dict[str, str]) -> None:
    """Names at the right of the axes, moved apart where lines end close together."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.27 / axes.figure.get_figheight()
    wanted = [final(case) for case in cases]
    for case, end, y in zip(cases, wanted, spread(wanted, gap, low, high), strict=True):
        axes.annotate(
            f"{case['label']}, {case['batch']}: {final(case):.2f}",
            xy=(end_of(case) or axes.get_xlim()[0], end),
            xytext=(1.06, (y - low) / (high - low)),
            textcoords="axes fraction",
            fontsize=style.size(10.5),
            va="center",
            color=style.INK,
            arrowprops={
                "arrowstyle": "-",
                "color": colours[case["variant"]],
                "linewidth": 1.0,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )


def title(probe: Probe) -> str:
    cases = ranked(probe)
    best, worst = cases[0], cases[-1]
    text = (
        f"{probe.workload}: after {duration(best['budget'])} of training {prose(best)} has a "
        f"held-out loss of {final(best):.2f}"
    )
    return text if worst is best else f"{text}, {prose(worst)} one of {final(worst):.2f}"


def prose(case: dict) -> str:
    return f"{case['label']} at batch {case['batch']}"


def duration(seconds: float) -> str:
    return "one second" if seconds == 1 else f"{seconds:g} s"
