"""How fast each implementation trains a workload, and how many times as fast as CPython."""

from __future__ import annotations

from functools import partial
from textwrap import shorten

from bench.report import plot
from bench.report.format import (
    TIMES,
    WARNED,
    WARNING,
    digits,
    exact,
    heading,
    micro,
    per_cent,
    times,
    warned,
    with_interval,
)
from bench.report.part import Drawing, Part, Parts, Table
from bench.results import BASELINE, Results, Row, over

HEADER = (
    "implementation", "batch", "µs per sample", "interval", f"{TIMES} CPython", "its interval",
    "samples/s", "GFLOP/s", "of peak", "wall time", "loss (steps)", "note",
)  # fmt: skip


def parts(results: Results) -> Parts:
    for index, workload in enumerate(results.workloads):
        drawing = Drawing(f"speedup_{workload}", partial(bars, results, workload))
        drawings = [drawing] if results.of(workload) and drawn(results, workload) else []
        words, lines = no_baseline(results, workload), table(results, workload)
        absent = not_here(results, workload)
        yield Part((1, index), heading(results, workload), words, drawings, [lines], absent)


def drawn(results: Results, workload: str) -> bool:
    """A workload on which CPython is too slow has a line of the figure of sizes, where there is
    a workload on which it is not."""
    return not any(map(results.baseline, results.workloads)) or bool(results.baseline(workload))


def no_baseline(results: Results, workload: str) -> str:
    measured = results.baseline(workload)
    return "" if measured else "No speed-up: CPython was not measured in this run."


def table(results: Results, workload: str) -> Table:
    """A workload's rows, those with a wrong result too, and what others published of it."""
    lines: Table = [HEADER]
    for row in results.of(workload, "ok", "error"):
        name, reason = (row.label, str(row.batch)), f"{row.status}: {row.reason}"
        lines.append((*name, *(cells(results, row) if row.ok else (*[""] * 9, reason))))
    for label, microseconds in results.published.get(workload, {}).items():
        source = f"published elsewhere: {results.published_source}"
        lines.append((label, "", f"{microseconds:,}", *[""] * 8, source))
    return lines


def cells(results: Results, row: Row) -> tuple[str, ...]:
    factor, its_interval = with_interval(results.speedup(row))
    gflops, peak = results.gflops(row), results.run.get("peak_gflops")
    return (
        *with_interval(row.estimate),
        factor,
        its_interval if row is not results.baseline(row.workload) else "",
        digits(1e6 / row.microseconds),
        digits(gflops),
        per_cent(gflops / peak) if peak and not row.on_gpu else "",
        f"{row.wall_seconds:.2f} s",
        f"{row.loss:.3f} ({row.loss_first_step}-{row.loss_last_step})",
        note(results, row),
    )


def note(results: Results, row: Row) -> str:
    """How many rounds of what, and why not to lean on them."""
    doubts, steps = row.estimate.doubts(), results.workloads[row.workload]["num_steps"]
    words = [] if doubts and "round" in doubts[0] else [f"{row.estimate.rounds} rounds"]
    if row.steady:
        words.append("slices")
    elif row.coverage < 1:
        words.append(f"first {row.coverage * steps:,.0f} of {steps:,} steps")
    if "compilation" in row.info:
        words.append(f"compiled before in {row.info['compilation']}")
    return f"{WARNING} {', '.join([*words, *doubts])}" if doubts else ", ".join(words)


def bars(results: Results, workload: str) -> plot.Figure:
    rows = sorted(results.of(workload), key=lambda row: -row.microseconds)
    base = results.baseline(workload) or rows[0]
    factors = [over(row, base) for row in rows]
    figure, axes = plot.bar_figure(len(rows), above=2.1)

    left = 0.8 * min(1.0, *(factor.low for factor in factors))
    highest = max(factor.high for factor in factors)
    right = highest * (highest / left) ** (0.45 if plot.narrow() else 0.37)  # room for the labels
    for y, (row, factor) in enumerate(zip(rows, factors, strict=True)):
        full = plot.COLOURS[row.group][0]
        colour = plot.paler(full) if row.batch == 1 else full
        text = f"{times(factor.value)}   {micro(row.microseconds)}"
        text = warned(text, row.estimate.doubts() + factor.doubts())
        time = f"; {exact(row.estimate)} µs per sample"
        plot.bar(axes, y, factor, colour, text, left, time)
    plot.log_axis(axes.xaxis, f"{TIMES} over {base.title}")
    axes.set_xlabel(f"{axes.get_xlabel()}, and µs per sample")
    axes.set_xlim(left, right)
    plot.name_bars(axes, [row.title for row in rows])
    plot.group_legend(axes, [row.group for row in rows])
    notes = [f"Pale bars: batch 1. {plot.whisker_note(figure)} {WARNED}."]
    for row in results.of(workload, "error"):
        notes.append(f"{row.title}: error: {shorten(row.reason, 100, placeholder=' ...')}")
    found = title(workload, results.fastest(workload) or base, base)
    return plot.finish(figure, results, found, *notes)


def title(workload: str, best: Row, base: Row) -> str:
    speed = micro(best.microseconds)
    if best is base:
        return f"{workload}: {best.prose} takes {speed} per sample"
    factor = times(over(best, base).value)
    against = "CPython" if base.variant == BASELINE else base.prose
    return f"{workload}: {best.prose} is {factor} as fast as {against}: {speed} per sample"


def not_here(results: Results, workload: str) -> list[str]:
    """What was not measured, and why: the rows of each reason, without a batch size where all of a
    label are among them. Of "2.4 ms a sample: what takes over ..." each row has its own number."""
    partly = {row.label for row in results.of(workload, "ok", "error")}
    reasons: dict[str, dict[str, str]] = {}
    for row in results.of(workload, "unavailable", "skipped"):
        number, _, rule = row.reason.rpartition(": ") if row.status == "skipped" else ("", "", "")
        name = row.title if row.label in partly else row.label
        named = f"{name} ({number})" if number else name
        reasons.setdefault(f"{row.status}: {rule or row.reason}", {}).setdefault(name, named)
    return [
        f"Not measured: {reason}: {'; '.join(names.values())}" for reason, names in reasons.items()
    ]
