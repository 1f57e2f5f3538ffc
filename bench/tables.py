"""What the report says in words and tables, whatever it is printed on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from statistics import median

from bench.figures import Drawn
from bench.figures.ladder import rungs
from bench.figures.style import TIMES, WARNING, digits, interval, megabytes, per_cent
from bench.results import Results, Row, over
from bench.statistics import SPREAD_LIMIT, Estimate

Table = list[tuple[str, ...]]  # head first

HEADER = (
    "implementation", "batch", "µs per sample", "interval", f"{TIMES} CPython", "its interval",
    "samples/s", "GFLOP/s", "of peak", "wall time", "loss (steps)", "note",
)  # fmt: skip
METHOD = """\
A *sample* is one document taken through forward, backward and its share of one optimizer update.
Timed is everything from document indices to updated weights, batch assembly included; loading,
shuffling and initialisation are not. Every row ran in a process of its own with one thread. Before
it was timed, its first loss and its gradients were compared with the float64 tape (relative error
at most 1e-9 in float64; 1e-6 for the loss and 1e-5 for each gradient tensor in float32), and the
losses of the first steps of each training (20, or fewer for wide models) while it ran; a row that
fails has no number. Gradients of pure Python are not compared where one step takes seconds; its
losses are.

Rounds of the rows are interleaved, one process at a time, so that a drift of the machine hits all
alike; shown is the median of the rounds. A factor between two rows is formed within each round, and
shown is the median of these ratios, which is close to the ratio of the medians but not the same.
Intervals are 95 % percentile bootstraps over the rounds. Of fewer than six rounds the interval is
their whole range, and the level that this gives stands beside it: a row that takes seconds a step
is known less well, and says so.

Rows are timed over whole trainings of 1,000 steps from initialisation, since a step's cost falls as
hidden units fall silent; going back to the first parameters is not timed. A row of which even one
such training would take too long is timed over its *first* steps, and its note says how many: where
an engine skips zeros, that shows it slower than it is. Pure Python, of which a training takes up to
an hour, goes through one in *slices*: it does the same operations at each step.

Since documents differ in length, and a slow row trains few of them, time per sample is time per
position times the corpus's mean positions per document; over a whole training it is time divided by
documents. The loss is
the mean over the steps in brackets, on training data: the last 50 of a training where a row
finished one, else the last that it did.

*No sparsity* is the same engine multiplying by the zeros that the ReLU leaves, with the same
results to the last bit; *plain* also computes a prefix once for each document that has it. Zeros
are skipped by the engines of the SIMD group, above n_embd 16.

Autograd implementations run batch 1, as published. The others run batch 1 and batch 16: batch 16
also makes 16 times fewer optimizer updates, so these are two different claims. GFLOP/s counts
useful operations: 6 · positions · (12 L C² + V C) plus attention; a prefix that documents of a
batch share counts once per document, as the work asked for. Their share of the peak is that of the
multiply-adds which one core was measured to do, with the widest vectors it has. A speed-up over
CPython holds for this machine and this run.

No setting of the system was changed: clock, scheduler and power management are as they were found.
Stolen time, busy cores and the load average were recorded around each round.
"""
PUBLISHED = f"""\
These times are others' words about another machine, and were not measured here. A factor
*{TIMES} over CPython* divides two times of one run on one machine. Another processor changes both,
but not alike: a higher clock helps both, wider vectors only one of them, a newer interpreter only
the other. So the factor does not travel: compare machines by µs per sample, and engines by the
share of their own machine's peak that they use.
"""


@dataclass
class Part:
    """A section of the report."""

    heading: str
    text: str = ""  # paragraphs; *emphasis* and `code` as in Markdown
    figures: list[Drawn] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what was not measured, and why
    level: int = 2  # of the heading


def table(results: Results, workload: str) -> Table:
    """A workload's rows, under HEADER."""
    lines = [_cells(results, row) for row in results.rows if row.workload == workload]
    for name, microseconds in results.published.get(workload, {}).items():
        note = f"published elsewhere: {results.published_source}"
        lines.append((name, "", f"{microseconds:,}", *[""] * 8, note))
    return [HEADER, *lines]


def _cells(results: Results, row: Row) -> tuple[str, ...]:
    if not row.ok:
        return (row.label, str(row.batch), *[""] * 9, f"{row.status}: {row.reason}")
    time, speedup = row.estimate, results.speedup(row)
    gflops = results.gflops(row)
    peak = results.run.get("peak_gflops")
    return (
        row.label,
        str(row.batch),
        digits(time.value),
        interval(time),
        digits(speedup.value) if speedup else "",
        interval(speedup) if speedup and row is not results.baseline(row.workload) else "",
        digits(1e6 / row.microseconds),
        digits(gflops) if gflops >= 0.01 else f"{gflops:.1g}",
        per_cent(gflops / peak) if peak else "",
        f"{row.wall_seconds:.2f} s",
        f"{row.loss:.3f} ({row.loss_first_step}-{row.loss_last_step})",
        note(results, row),
    )


def note(results: Results, row: Row) -> str:
    doubts = row.estimate.doubts()
    words = [] if doubts and "round" in doubts[0] else [f"{len(row.rounds)} rounds"]
    if extent := extent_of_rounds(results, row):
        words.append(extent)
    return f"{WARNING} {', '.join([*words, *doubts])}" if doubts else ", ".join(words)


def extent_of_rounds(results: Results, row: Row) -> str:
    """What a round of a row has where that is not whole trainings."""
    if row.steady:
        return "slices"
    steps = results.workloads[row.workload]["num_steps"]
    return f"first {row.coverage * steps:,.0f} of {steps:,} steps" if row.coverage < 1 else ""


def used_columns(lines: Table) -> list[int]:
    """Columns in which something stands below the head."""
    return [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]


def number_columns(lines: Table) -> set[int]:
    """Columns of nothing but numbers, with or without a unit, to be set flush right."""
    columns = set()
    for i in range(1, len(lines[0])):
        cells = [line[i] for line in lines[1:] if line[i] and line[i] != "none"]
        if cells and all(cell.lstrip("< ")[:1].isdigit() for cell in cells):
            columns.add(i)
    return columns


def heading(results: Results, workload: str) -> str:
    w = results.workloads[workload]
    return (
        f"{workload}: n_embd {w['n_embd']}, n_layer {w['n_layer']}, n_head {w['n_head']}, "
        f"block_size {w['block_size']}, {w['num_params']:,} parameters"
    )


def no_baseline(results: Results, workload: str) -> str:
    if results.baseline(workload):
        return ""
    return "No speed-up: CPython was not measured in this run."


@dataclass(frozen=True)
class Comparison:
    """Two rows of the same rounds."""

    what: str
    row: Row
    other: Row

    @property
    def estimate(self) -> Estimate:
        """How many times as fast the row is as the other."""
        return over(self.row, self.other)


def comparisons(results: Results, workload: str) -> list[Comparison]:
    """The steps of the ladder, then the fastest row of each batch size over the fastest of every
    other group."""
    steps = rungs(results, workload)
    found = [
        Comparison(" ".join(rung.tick.split()), rung.row, before.row)
        for before, rung in itertools.pairwise(steps)
    ]
    rows = results.ranked(workload)
    for batch in sorted({row.batch for row in rows}):
        group_best: dict[str, Row] = {}
        for row in rows:
            if row.batch == batch:
                group_best.setdefault(row.group, row)
        best, *others = group_best.values()
        known = [(c.row, c.other) for c in found]
        found += [
            Comparison(f"{best.group} over {row.group}, batch {batch}", best, row)
            for row in others
            if (best, row) not in known
        ]
    return found


def verdict(factor: Estimate) -> str:
    doubts = factor.doubts_as_ratio()
    return f"{WARNING} {', '.join(doubts)}" if doubts else "holds"


def comparison_table(results: Results, workload: str) -> Table:
    lines: Table = [("what", "of", "over", "factor", "interval", "verdict")]
    for found in comparisons(results, workload):
        factor = found.estimate
        names = (found.what, found.row.title, found.other.title)
        value = digits(factor.value) + TIMES
        lines.append((*names, value, interval(factor), verdict(factor)))
    return lines if len(lines) > 1 else []


def memory_table(results: Results) -> Table:
    lines: Table = [("implementation", "workload", "engine", "process")]
    for row in results.rows:
        if row.ok and row.peak_memory:
            engine = megabytes(row.engine_memory) if row.engine_memory else ""
            lines.append((row.title, row.workload, engine, megabytes(row.peak_memory)))
    return lines if len(lines) > 1 else []


def warnings(results: Results) -> list[str]:
    """What a reader must know before the numbers; empty after a quiet run without a fault."""
    words = []
    about = results.run
    rounds = [r.activity for row in results.rows for r in row.rounds]
    busy = [r["busy_cores"] for r in rounds if "busy_cores" in r]
    if busy and median(busy) > 1.2:
        words.append(
            f"Other programs kept {median(busy) - 1:.1f} cores busy while rows were timed "
            "(median of the rounds)."
        )
    if not busy and about.get("load_avg_1min", 0) > 1:  # a minute behind: the lesser witness
        words.append(
            f"The load average was {about['load_avg_1min']} when the run began: the machine was "
            "not idle."
        )
    if about.get("steal_percent", 0) > 1:
        words.append(f"{about['steal_percent']} % of the processor time went to other guests.")
    measured = [row for row in results.rows if row.ok]
    wide = [row for row in measured if row.estimate.spread > SPREAD_LIMIT]
    if wide:
        worst = max(wide, key=lambda row: row.estimate.spread)
        words.append(
            f"{len(wide)} of {len(measured)} rows are known no better than "
            f"±{100 * SPREAD_LIMIT:.0f} %, marked {WARNING}; the widest is {worst.workload}, "
            f"{worst.title}, ±{100 * worst.estimate.spread:.0f} %."
        )
    few = [row for row in measured if row.estimate.doubts() and row not in wide]
    if few:
        words.append(
            f"{len(few)} more rows have too few rounds for an interval of 95 %: "
            + "; ".join(f"{row.workload}, {row.title}" for row in few[:3])
            + (" and others." if len(few) > 3 else ".")
        )
    for found in (*results.rows, *results.probes):
        if found.status == "error":
            what = found.title if isinstance(found, Row) else f"probe {found.name}"
            of = f"{found.workload}, " if found.workload else ""
            words.append(f"Error: {of}{what}: {found.reason}")
    return words
