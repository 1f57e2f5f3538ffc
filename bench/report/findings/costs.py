"""What a row costs beside its time: cycles, so that machines compare, and its start.

A row has paid for its start, compilation included, when it has overtaken the fastest row of its
batch size that was ready sooner and is slower:

    samples = (start - other start) / (other seconds per sample - seconds per sample)
"""

from __future__ import annotations

from bench.report.format import digits
from bench.report.part import Part, Parts
from bench.results import Estimate, Results, Row

WORDS = """\
*Cycles* are the time of a sample times the clock, measured behind each round by a chain of
additions of which each needs the one before: one a cycle. Processors of different clocks compare by
them, and by nothing that a vendor says. *Start* is from the start of a row's process until it has
done its first step: interpreter, libraries, corpus, compilation, and the check of its first
gradients, while as many rows start as there are cores, four at most. Code compiled before, in C++
or Rust, is there already. *Paid for after* so many samples a row has overtaken the fastest one of
its batch size that was ready sooner: below that, and started anew each time, the other is the
better choice."""
HEAD = (
    "implementation", "workload", "cycles per sample", "start", "of it compiling", "paid for after",
    "than which is ready sooner",
)  # fmt: skip


def parts(results: Results) -> Parts:
    lines = [cells(results, row) for row in results.rows if row.ok and row.values]
    if any(cell for _, _, *of_line in lines for cell in of_line):
        yield Part((3, 2), "Cycles and starts", WORDS, tables=[[HEAD, *lines]])


def cells(results: Results, row: Row) -> tuple[str, ...]:
    found, paid = cycles(row), paid_after(results, row)
    return (
        row.title,
        row.workload,
        digits(found.value) if found else "",
        f"{digits(row.cold_start)} s" if row.cold_start else "",
        row.info.get("compilation", ""),
        *((f"{digits(paid[0])} samples", paid[1].label) if paid else ("", "")),
    )


def cycles(row: Row) -> Estimate | None:
    """Per sample; None where the clock is not known of each round, or is not that of a GPU."""
    clocks = [1e9 * r.activity.get("clock_ghz", 0.0) for r in row.rounds]
    if row.on_gpu or not all(clocks):
        return None
    cycles = [value * clock for value, clock in zip(row.values, clocks, strict=True)]
    return row.timed(cycles).estimate


def paid_after(results: Results, row: Row) -> tuple[float, Row] | None:
    """Samples, and the row that it has overtaken then; None where none is ready sooner."""
    sooner = [
        other for other in results.of(row.workload)
        if other.batch == row.batch and not other.variation_of
        and 0 < other.cold_start < row.cold_start and other.microseconds > row.microseconds
    ]  # fmt: skip
    if not sooner:
        return None
    best = min(sooner, key=lambda other: other.microseconds)
    saved = 1e-6 * (best.microseconds - row.microseconds)  # seconds per sample
    return (row.cold_start - best.cold_start) / saved, best
