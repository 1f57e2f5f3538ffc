"""Time per sample against the batch size, with and without prefix sharing, and rows left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import Probe, Results
from bench.statistics import Estimate, estimate, ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    probes = results.probed("batch")
    if probes:
        yield "batch.png", plot(results, probes)


def line(probe: Probe, sharing: bool) -> dict[int, Estimate]:
    """Microseconds per sample by batch size."""
    return {
        case["batch"]: estimate(case["seconds"]) * 1e6
        for case in probe.cases
        if case["sharing"] == sharing
    }


def rows_left(probe: Probe) -> dict[int, float]:
    return {case["batch"]: case["rows_left"] for case in probe.cases if "rows_left" in case}


def plot(results: Results, probes: list[Probe]) -> Figure:
    figure, (axes, below) = style.new_panels(4.6 + 0.8 * len(probes), rows=(3, 1), sharex=True)
    sizes = list(line(probes[0], True))
    for probe in probes:
        colour = style.WORKLOAD_COLOURS[probe.workload]
        for sharing, dashes in ((False, "--"), (True, "-")):
            times = line(probe, sharing)
            values = [time.value for time in times.values()]
            axes.plot(list(times), values, dashes, color=colour, linewidth=2.2, marker="o",
                      markersize=5)  # fmt: skip
            for size, time in times.items():
                style.whisker(axes, size, time.value, time, "y")
        label_line(axes, probe, colour)
    axes.set_yscale("log")
    axes.margins(y=0.12)
    style.log_ticks(axes.yaxis)
    axes.set_ylabel("µs per sample (log scale)", fontsize=style.size(12))

    left = rows_left(probes[0])
    below.plot(*zip(*left.items(), strict=True), color=style.INK, linewidth=2.2, marker="o",
               markersize=5)  # fmt: skip
    step = 2 if style.narrow() else 1  # else they touch
    for size, fraction in list(left.items())[::step]:
        style.text_on_white(below, size, fraction, f"{100 * fraction:.0f} %", (0, 11), ha="center")
    below.set_ylim(0, 1.35)
    below.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    below.set_ylabel("rows left", fontsize=style.size(12))
    below.set_xlabel("batch size", fontsize=style.size(12))
    below.set_xscale("log", base=2)
    below.set_xticks(sizes, [str(size) for size in sizes])
    below.xaxis.minorticks_off()
    room = 0.62 if style.narrow() else 0.24  # for the names of the lines
    below.set_xlim(
        sizes[0] * (0.5 if style.narrow() else 0.72), sizes[-1] * (sizes[-1] / sizes[0]) ** room
    )
    every = [time for probe in probes for on in (True, False) for time in line(probe, on).values()]
    notes = [
        f"{probes[0].label}. Solid: documents of a batch share their common prefixes. Dashed: they "
        "do not. Less is better. Rows left: distinct prefixes by positions. "
        + style.whisker_note(every)
    ]
    style.finish(figure, results, title(probes), notes)
    return figure


def label_line(axes: Axes, probe: Probe, colour: str) -> None:
    """Values at batch 1 and 16, and at the ends of both lines."""
    shared, plain = (
        {size: time.value for size, time in line(probe, on).items()} for on in (True, False)
    )
    last = max(shared)
    for size in {1, 16} & set(shared) - {last}:
        style.text_on_white(axes, size, shared[size], style.digits(shared[size]), (0, -13),
                            ha="center", fontweight="bold")  # fmt: skip
    ends = [("without sharing", plain[last], "normal"), ("", shared[last], "bold")]
    apart = 7 if plain[last] / shared[last] < 1.5 else 0
    for (words, value, weight), shift in zip(ends, (apart, -apart), strict=True):
        text = f"{probe.workload}{' ' * bool(words)}{words}: {style.digits(value)}"
        style.text_on_white(axes, last, value, text, (9, shift), color=colour, fontweight=weight)


def title(probes: list[Probe]) -> str:
    of = {case["batch"]: case["seconds"] for case in probes[-1].cases if case["sharing"]}
    plain = {case["batch"]: case["seconds"] for case in probes[-1].cases if not case["sharing"]}
    first, last = min(of), max(of)
    return (
        f"{probes[-1].workload}: batch {last} is "
        f"{style.times(ratio(of[first], of[last]).value)} as fast per sample as batch {first}; "
        f"without sharing prefixes it would be "
        f"{style.times(ratio(of[first], plain[last]).value)}"
    )
