"""How many tokens per second are drawn from a trained model."""

from __future__ import annotations

from functools import partial

from bench.cases import GenerationCase
from bench.report import plot
from bench.report.format import digits, times, with_interval
from bench.report.part import Drawing, Part, Parts, Table, not_measured
from bench.results import Estimate, Probe, Results, Timed, per_time

WORDS = """\
Tokens that one thread draws in a second from the model of a whole training, the ends of documents
among them: engines thousands of documents at a time, beside them `GPT.sample`, which draws one at a
time in NumPy. Before it was timed, the first characters of an engine's documents were as frequent
as the model's probabilities say."""


def parts(results: Results) -> Parts:
    found = results.probed("generation")
    drawings = [Drawing("generation", partial(figure, results, found))] if found else []
    missing = not_measured(results, "generation")
    yield Part((5, 1), "Generation", WORDS, drawings, [table(found)], missing)


def table(found: list[Probe]) -> Table:
    lines: Table = [("engine", "workload", "thousand tokens/s", "interval", "over NumPy")]
    for probe in found:
        for case in probe.cases:
            over = seconds(probe.cases[0]).over(seconds(case))
            told = times(over.value) if case["engine"] else ""
            lines.append((case["label"], probe.workload, *with_interval(thousands(case)), told))
    return lines


def thousands(case: GenerationCase) -> Estimate:
    """Of tokens per second."""
    return per_time(1e-3, seconds(case).estimate)


def seconds(case: GenerationCase) -> Timed:
    """Per token."""
    return Timed.of_case(case, [1 / rate for rate in case["rates"]])


def figure(results: Results, found: list[Probe]) -> plot.Figure:
    bars = [(probe.workload, case["label"], thousands(case))
            for probe in found for case in probe.cases]  # fmt: skip
    drawn, axes = plot.bar_figure(len(bars))
    left = 0.5 * min(rate.low for *_, rate in bars)
    right = max(rate.high for *_, rate in bars)
    for y, (workload, _, rate) in enumerate(bars):
        plot.bar(axes, y, rate, plot.WORKLOAD_COLOURS[workload], digits(rate.value), left)
    plot.log_axis(axes.xaxis, "thousand tokens per second")
    axes.set_xlim(left, right * (right / left) ** 0.15)
    plot.name_bars(axes, [f"{label}, {workload}" for workload, label, _ in bars])
    workload, label, rate = max(bars, key=lambda bar: bar[2].value)
    title = (
        f"{workload}: {label} draws {digits(1e-3 * rate.value)} million tokens per second with one "
        "thread"
    )
    return plot.finish(drawn, results, title, plot.whisker_note(drawn))
