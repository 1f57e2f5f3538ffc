"""How many hidden values are left to multiply by, over the steps of a training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from bench.figures import style
from bench.figures.scaling import spread
from bench.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST = 1e-3  # a share below is drawn there
BATCH = 16  # of the lines; the table has batch 1 as well
DASHES = ("-", "--", ":")  # by learning rate, the largest first


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    cases = lines(results)
    if cases:
        yield "density.png", plot(results, cases)


def collect(results: Results) -> list[dict]:
    return [case for probe in results.probed("density") for case in probe.cases]


def lines(results: Results) -> list[dict]:
    return [case for case in collect(results) if case["batch"] == BATCH]


def at(case: dict, step: int, key: str = "values") -> float:
    """A share after some steps, of the sample at or after it."""
    return case[key][int(np.searchsorted(case["steps"], step))]


def mean(case: dict, key: str = "values") -> float:
    """A share over the whole training, linear between the samples."""
    steps = case["steps"]
    return float(np.interp(range(1, steps[-1] + 1), steps, case[key]).mean())


def main_case(cases: list[dict]) -> dict:
    """The one that the title is about: n_embd 64 at the workloads' learning rate."""
    return next((case for case in cases if case["n_embd"] == 64), cases[-1])


def plot(results: Results, cases: list[dict]) -> Figure:
    figure, axes = style.new_figure(5.4)
    rates = sorted({case["learning_rate"] for case in cases}, reverse=True)
    for case in cases:
        shares = np.maximum(case["values"], LEAST)
        axes.plot(case["steps"], shares, DASHES[rates.index(case["learning_rate"]) % len(DASHES)],
                  color=colour(case), linewidth=2.2)  # fmt: skip
    axes.set_yscale("log")
    axes.set_ylim(LEAST, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.yaxis.get_minor_locator().set_params(subs=())
    axes.set_ylabel("hidden values that are not zero (log scale)", fontsize=style.size(12))
    axes.set_xlim(0, cases[0]["steps"][-1])
    axes.xaxis.get_major_locator().set_params(nbins=5)
    axes.set_xlabel("step", fontsize=style.size(12))
    label_ends(axes, cases, rates[0])
    probe = results.probed("density")[0]
    every = cases[0]["steps"][-1] - cases[0]["steps"][-2]
    notes = [
        f"{probe.label}, batch {BATCH}, one training each; learning rate {rates[0]:g} unless "
        f"another is named. Shares of one batch, every {every} steps. Beside the lines: the share "
        "at their end, and its mean over the training."
    ]
    style.finish(figure, results, title(cases), notes)
    return figure


def colour(case: dict) -> str:
    return style.WORKLOAD_COLOURS[f"d{case['n_embd']}"]


def label_ends(axes: Axes, cases: list[dict], usual: float) -> None:
    """Names at the right of the axes, moved apart where lines end close together."""
    low, high = (math.log(y) for y in axes.get_ylim())
    cases = sorted(cases, key=lambda case: case["values"][-1])
    ends = [max(case["values"][-1], LEAST) for case in cases]
    gap = (high - low) * (0.5 if style.narrow() else 0.27) / axes.figure.get_figheight()
    places = spread([math.log(end) for end in ends], gap, low, high)
    for case, end, y in zip(cases, ends, places, strict=True):
        rate = case["learning_rate"]
        name = f"n_embd {case['n_embd']}" + (f" at {rate:g}" if rate != usual else "")
        shares = f"{style.per_cent(case['values'][-1])}, mean {style.per_cent(mean(case))}"
        axes.annotate(
            f"{name}:{chr(10) if style.narrow() else ' '}{shares}",
            xy=(case["steps"][-1], end),
            xytext=(1.06, (y - low) / (high - low)),
            textcoords="axes fraction",
            fontsize=style.size(11),
            va="center",
            color=style.INK,
            arrowprops={
                "arrowstyle": "-",
                "color": colour(case),
                "linewidth": 1.2,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )


def title(cases: list[dict]) -> str:
    case = main_case(cases)
    shares = [(step, style.per_cent(at(case, step))) for step in (1, 100, 500)]
    (_, first), *later = shares
    words = " and ".join(f"{share} at step {step}" for step, share in later)
    return (
        f"At n_embd {case['n_embd']} and learning rate {case['learning_rate']:g}, {first} of the "
        f"hidden values are not zero at step 1, {words}"
    )
