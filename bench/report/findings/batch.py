"""Time per sample against the batch size, with and without prefix sharing, and rows left."""

from __future__ import annotations

from functools import partial

from bench.report import plot
from bench.report.format import digits, per_cent, times, with_interval
from bench.report.part import Drawing, Part, Parts, Table, not_measured
from bench.results import Estimate, Probe, Results, Timed

WORDS = """\
Time per sample against the batch size. A larger batch updates the weights less often, and its
documents have more prefixes in common: the model computes each distinct prefix once. *Rows left* is
what remains of the positions. Another batch size is another training, not only a faster one."""


def parts(results: Results) -> Parts:
    probes = results.probed("batch")
    drawings = [Drawing("batch", partial(figure, results, probes))] if probes else []
    tables = [table(probes)] if probes else []
    missing = not_measured(results, "batch")
    yield Part((6, 4), "Batch size", WORDS, drawings, tables, missing, level=3)


def table(probes: list[Probe]) -> Table:
    left = rows_left(probes[0])
    head = ["batch", "rows left"]
    columns = [tuple(map(str, left)), tuple(map(per_cent, left.values()))]
    for probe in probes:
        for sharing, words in ((True, ""), (False, ", no sharing")):
            head += [f"{probe.workload}{words}, µs per sample", "interval"]
            columns += zip(*map(with_interval, line(probe, sharing).values()), strict=True)
    return [tuple(head), *zip(*columns, strict=True)]


def timed(probe: Probe, sharing: bool) -> dict[int, Timed]:
    """By batch size."""
    cases = (case for case in probe.cases if case["sharing"] == sharing)
    return {case["batch"]: Timed.of_case(case, case["seconds"]) for case in cases}


def line(probe: Probe, sharing: bool) -> dict[int, Estimate]:
    """Microseconds per sample by batch size."""
    return {batch: time.estimate * 1e6 for batch, time in timed(probe, sharing).items()}


def rows_left(probe: Probe) -> dict[int, float]:
    return {case["batch"]: case["rows_left"] for case in probe.cases if "rows_left" in case}


def figure(results: Results, probes: list[Probe]) -> plot.Figure:
    drawn, (axes, below) = plot.new_panels(4.6 + 0.8 * len(probes), rows=(3, 1), sharex=True)
    sizes = list(line(probes[0], True))
    for probe in probes:
        colour = plot.WORKLOAD_COLOURS[probe.workload]
        for sharing, dashes in ((False, "--"), (True, "-")):
            name = f"{probe.workload}{'' if sharing else ' without sharing'}"
            plot.line(axes, line(probe, sharing), dashes, colour, name, "batch")
        label_line(axes, probe, colour)
    plot.log_axis(axes.yaxis, "µs per sample", ticks=(1, 2, 5))
    axes.margins(y=0.12)

    left = rows_left(probes[0])
    below.plot(list(left), list(left.values()), "o-", color=plot.INK, linewidth=2.2, markersize=5)
    step = 2 if plot.narrow() else 1  # else they touch
    for size, fraction in list(left.items())[::step]:
        plot.text_on_white(below, size, fraction, f"{100 * fraction:.0f} %", (0, 11), ha="center")
    below.set_ylim(0, 1.35)
    below.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    below.set_ylabel("rows left")
    plot.log2_axis(below, sizes, "batch size")
    before, behind = (0.5, 0.62) if plot.narrow() else (0.72, 0.24)  # room for names of the lines
    below.set_xlim(sizes[0] * before, sizes[-1] * (sizes[-1] / sizes[0]) ** behind)
    notes = (
        f"{probes[0].label}. Solid: documents of a batch share their common prefixes. Dashed: they "
        "do not. Less is better. Rows left: distinct prefixes by positions. "
    )
    return plot.finish(drawn, results, title(probes[-1]), notes + plot.whisker_note(drawn))


def label_line(axes: plot.Axes, probe: Probe, colour: str) -> None:
    """Values at batch 1 and 16, and at the ends of both lines."""
    shared, plain = line(probe, True), line(probe, False)
    last = max(shared)
    for size in {1, 16} & set(shared) - {last}:
        value = shared[size].value
        plot.text_on_white(axes, size, value, digits(value), (0, -13), ha="center",
                           fontweight="bold")  # fmt: skip
    high, low = plain[last].value, shared[last].value
    apart = 7 if high / low < 1.5 else 0
    for words, value, weight, shift in (
        (" without sharing", high, "normal", apart), ("", low, "bold", -apart)
    ):  # fmt: skip
        text = f"{probe.workload}{words}: {digits(value)}"
        plot.text_on_white(axes, last, value, text, (9, shift), color=colour, fontweight=weight)


def title(probe: Probe) -> str:
    shared, plain = timed(probe, True), timed(probe, False)
    first, last = min(shared), max(shared)
    gains = [times(shared[first].over(line[last]).value) for line in (shared, plain)]
    return (
        f"{probe.workload}: batch {last} is {gains[0]} as fast per sample as batch {first}; "
        f"without sharing prefixes it would be {gains[1]}"
    )
