"""Shapes other than the workloads': a table of what the engine makes of them."""

from __future__ import annotations

from bench.cases import ShapeCase
from bench.report.format import digits, per_cent, with_interval
from bench.report.part import Part, Parts, Table, not_measured
from bench.results import Results, Timed

WORDS = """\
Shapes other than the workloads' at batch 16, on one thread: GFLOP/s of useful work, and what share
of the FMA peak that is. Nothing is tuned to a width. Widths that are not a multiple of 16 are
padded inside; the padding does not count as work. Documents of one alphabet share prefixes, random
ones hardly do. The corpus's documents are joined where a context of 16 would hold one."""


def parts(results: Results) -> Parts:
    tables = [table(probe.cases, results.peak(probe.engine)) for probe in results.probed("shapes")]
    missing = not_measured(results, "shapes")
    yield Part((6, 6), "Other shapes", WORDS, [], tables, missing, level=3)


def table(cases: list[ShapeCase], peak: float | None) -> Table:
    shape = ("n_layer", "n_embd", "block_size", "vocab_size")
    lines: Table = [("documents", *shape, "µs per sample", "interval", "GFLOP/s", "of peak")]
    for case in cases:
        time = Timed.of_case(case, case["seconds"]).estimate * 1e6
        rate = case["flops_per_sample"] / time.value * 1e-3
        sizes = (case["n_layer"], case["n_embd"], case["block_size"], case["vocab_size"])
        rates = digits(rate), per_cent(rate / peak) if peak else ""
        lines.append((case["documents"], *map(str, sizes), *with_interval(time), *rates))
    return lines
