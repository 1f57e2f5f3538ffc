"""Held-out loss against training time over models and settings, and the best for each time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import Probe, Results
from bench.statistics import finite, front

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS = "os^Dv*"


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    for probe in results.probed("pareto"):
        if finite(probe.cases):
            yield "pareto.png", plot(results, probe)


def plot(results: Results, probe: Probe) -> Figure:
    figure, axes = style.new_figure(6.0)
    batches = sorted({case["batch"] for case in probe.cases})
    for case in finite(probe.cases):
        axes.plot(case["seconds"], case["held_out"], MARKERS[batches.index(case["batch"]) % 6],
                  color=style.WORKLOAD_COLOURS.get(f"d{case['n_embd']}", style.QUIET),
                  markersize=6, alpha=0.75, markeredgecolor="none")  # fmt: skip
    best = front(probe.cases)
    axes.step([case["seconds"] for case in best], [case["held_out"] for case in best],
              where="post", color=style.INK, linewidth=1.8, zorder=3)  # fmt: skip
    axes.set_xscale("log")
    low = best[-1]["held_out"]
    high = min(max(case["held_out"] for case in finite(probe.cases)), low + 0.6)
    axes.set_ylim(low - 0.28 * (high - low), high + 0.03 * (high - low))
    axes.margins(x=0.08)
    for case in labelled(best):
        axes.annotate(
            f"d{case['n_embd']}, b{case['batch']}\n{case['learning_rate']:g}",
            (case["seconds"], case["held_out"]),
            xytext=(0, -8),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=style.size(10.5),
            color=style.INK,
        )
    axes.set_xlabel("seconds of training (log scale)", fontsize=style.size(12))
    axes.set_ylabel("held-out loss", fontsize=style.size(12))
    legend(axes, probe, batches)
    style.log_ticks(axes.xaxis)
    above = sum(case["held_out"] is None or case["held_out"] > high for case in probe.cases)
    notes = [
        f"{probe.label}. Each point is a whole training; the learning rate falls to 0 over its "
        "time. Black: the Pareto front. Below it: n_embd, batch size, learning rate of the best "
        f"for each time. {above} of {len(probe.cases)} points lie above the figure."
    ]
    style.finish(figure, results, title(best), notes)
    return figure


def labelled(best: list[dict]) -> list[dict]:
    """The best of the front for each time that trainings were given."""
    return list({case["budget"]: case for case in best}.values())


def legend(axes, probe: Probe, batches: list[int]) -> None:
    from matplotlib.lines import Line2D

    widths = sorted({case["n_embd"] for case in probe.cases})
    handles = [
        Line2D([], [], marker="s", linestyle="", markersize=8, label=f"n_embd {width}",
               color=style.WORKLOAD_COLOURS.get(f"d{width}", style.QUIET))
        for width in widths
    ]  # fmt: skip
    handles += [
        Line2D([], [], marker=MARKERS[i % 6], linestyle="", color=style.QUIET, label=f"batch {b}")
        for i, b in enumerate(batches)
    ]
    axes.legend(handles=handles, loc="upper right", ncols=2, fontsize=style.size(10.5),
                framealpha=0.9, edgecolor="none")  # fmt: skip


def title(best: list[dict]) -> str:
    cases = labelled(best)
    first, last = cases[0], cases[-1]
    return (
        f"In {first['seconds']:.2g} s n_embd {first['n_embd']} reaches a held-out loss of "
        f"{first['held_out']:.2f}; the best of {last['seconds']:.2g} s is {last['held_out']:.2f} "
        f"with n_embd {last['n_embd']}, batch {last['batch']} and learning rate "
        f"{last['learning_rate']:g}"
    )
