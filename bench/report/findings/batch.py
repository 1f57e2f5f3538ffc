"""Time per sample against the batch size, with and without prefix sharing, and rows left."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.cases import BatchCase
from bench.report import plot
from bench.report.format import digits, interval, per_cent, times
from bench.report.part import Drawing, Part, Table, not_measured
from bench.results import Estimate, Probe, Results, Timed

WORDS = """\
Time per sample against the batch size. A larger batch updates the weights less often, and its
documents have more prefixes in common: the model computes each distinct prefix once. *Rows left* is
what remains of the positions. Another batch size is another training, not only a faster one."""


def parts(results: Results) -> Iterator[Part]:
    probes = results.probed("batch")
    drawings = [Drawing("batch", partial(figure, results, probes))] if probes else []
    tables = [table(probes)] if probes else []
    missing = not_measured(results, "batch")
    yield Part((6, 4), "Batch size", WORDS, drawings, tables, missing, level=3)


def table(probes: list[Probe]) -> Table:
    left = rows_left(probes[0])
    head = ["batch", "rows left"]
    columns = [list(map(str, left)), list(map(per_cent, left.values()))]
    for probe in probes:
        for sharing, words in ((True, ""), (False, ", no sharing")):
            head += [f"{probe.workload}{words}, µs per sample", "interval"]
            found = line(probe, sharing).values()
            columns += [[digits(time.value) for time in found], [interval(time) for time in found]]
    return [tuple(head), *zip(*columns, strict=True)]


def line(probe: Probe, sharing: bool) -> dict[int, Estimate]:
    """Microseconds per sample by batch size."""
    cases: list[BatchCase] = probe.cases
    return {
        case["batch"]: Timed.of_case(case, "seconds").estimate * 1e6
        for case in cases
        if case["sharing"] == sharing
    }


def rows_left(probe: Probe) -> dict[int, float]:
    return {case["batch"]: case["rows_left"] for case in probe.cases if "rows_left" in case}


def figure(results: Results, probes: list[Probe]) -> plot.Figure:
    drawn, (axes, below) = plot.new_panels(4.6 + 0.8 * len(probes), rows=(3, 1), sharex=True)
    sizes = list(line(probes[0], True))
    for probe in probes:
        colour = plot.WORKLOAD_COLOURS[probe.workload]
        for sharing, dashes in ((False, "--"), (True, "-")):
            name = f"{probe.workload}{'' if sharing else ' without sharing'}, batch"
            plot.line(axes, line(probe, sharing), dashes, name, color=colour, markersize=5)
        label_line(axes, probe, colour)
    plot.log_axis(axes.yaxis, "µs per sample", ticks=(1, 2, 5))
    axes.margins(y=0.12)

    left = rows_left(probes[0])
    below.plot(*zip(*left.items(), strict=True), color=plot.INK, linewidth=2.2, marker="o",
               markersize=5)  # fmt: skip
    step = 2 if plot.narrow() else 1  # else they touch
    for size, fraction in list(left.items())[::step]:
        plot.text_on_white(below, size, fraction, f"{100 * fraction:.0f} %", (0, 11), ha="center")
    below.set_ylim(0, 1.35)
    below.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    below.set_ylabel("rows left")
    plot.log2_axis(below, sizes, "batch size")
    room = 0.62 if plot.narrow() else 0.24  # for the names of the lines
    below.set_xlim(
        sizes[0] * (0.5 if plot.narrow() else 0.72), sizes[-1] * (sizes[-1] / sizes[0]) ** room
    )
    notes = (
        f"{probes[0].label}. Solid: documents of a batch share their common prefixes. Dashed: they "
        "do not. Less is better. Rows left: distinct prefixes by positions. "
    )
    return plot.finish(drawn, results, title(probes), notes + plot.whisker_note(drawn))


def label_line(axes: plot.Axes, probe: Probe, colour: str) -> None:
    """Values at batch 1 and 16, and at the ends of both lines."""
    shared, plain = (
        {size: time.value for size, time in line(probe, on).items()} for on in (True, False)
    )
    last = max(shared)
    for size in {1, 16} & set(shared) - {last}:
        plot.text_on_white(axes, size, shared[size], digits(shared[size]), (0, -13),
                            ha="center", fontweight="bold")  # fmt: skip
    ends = [("without sharing", plain[last], "normal"), ("", shared[last], "bold")]
    apart = 7 if plain[last] / shared[last] < 1.5 else 0
    for (words, value, weight), shift in zip(ends, (apart, -apart), strict=True):
        text = f"{probe.workload}{' ' * bool(words)}{words}: {digits(value)}"
        plot.text_on_white(axes, last, value, text, (9, shift), color=colour, fontweight=weight)


def title(probes: list[Probe]) -> str:
    found = {
        (case["batch"], case["sharing"]): Timed.of_case(case, "seconds")
        for case in probes[-1].cases
    }
    first, last = min(batch for batch, _ in found), max(batch for batch, _ in found)
    shared, plain = (found[first, True].over(found[last, on]).value for on in (True, False))
    return (
        f"{probes[-1].workload}: batch {last} is {times(shared)} as fast per sample as batch "
        f"{first}; without sharing prefixes it would be {times(plain)}"
    )
