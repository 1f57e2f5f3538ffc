"""What the report says of itself: how it was measured, and what a reader must know before."""

from __future__ import annotations

from statistics import median

from bench.report.format import TIMES, WARNING, row_list
from bench.results import GOOD_PEAK, SPREAD_LIMIT, Probe, Results, Row

METHOD = """\
A *sample* is one document taken through forward, backward and its share of one optimizer update.
Timed is everything from document indices to updated weights, batch assembly included; loading,
shuffling and initialisation are not. Every row ran in a process of its own with one thread. Before
it was timed, its first loss and its gradients were compared with the float64 tape (relative error
at most 1e-9 in float64; 1e-6 for the loss and 1e-5 for each gradient tensor in float32), and the
losses of the first steps of each training (20, or fewer for wide models) while it ran; a row that
fails has no number. Running text, too much for the tape, is compared with the model in NumPy in
float64, and its gradients to 1e-2: of its millions of hidden values a few lie within rounding of
zero. Gradients of pure Python are not compared where one step takes seconds; its
losses are.

Rounds of the rows are interleaved, one process at a time, so that a drift of the machine hits all
alike; shown is the median of the rounds. A factor between two rows is formed within each round, and
shown is the median of these ratios, which is close to the ratio of the medians but not the same.
Intervals are 95 % percentile bootstraps over the rounds. Of fewer than six rounds the interval is
their whole range, and the level that this gives stands beside it: a row that takes seconds a step
is known less well, and says so.

Workloads of running text are nanoGPT's sizes, on verse that a Markov chain draws from the sonnets
of the package, the same on every machine; a sample is a block of block_size characters.

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

A WebAssembly module is the same source, compiled for a sandbox and run there by wasmtime: scalar,
or with vectors of four floats. It cannot flush denormals. What is compiled as a row opens, by
wasmtime, Numba, PyTorch or JAX, is compiled before the first round.

*No sparsity* is the same engine multiplying by the zeros that the ReLU leaves, with the same
results to the last bit; *plain* also computes a prefix once for each document that has it. Zeros
are skipped by the engines of the SIMD group, above n_embd 16.

Autograd implementations run batch 1, as published. The others run batch 1 and batch 16, or the one
batch size of a workload of running text: batch 16
also makes 16 times fewer optimizer updates, so these are two different claims. GFLOP/s counts
useful operations: 6 · positions · (12 L C² + V C) plus attention; a prefix that documents of a
batch share counts once per document, as the work asked for. Their share of the peak is that of the
multiply-adds which one core was measured to do, with the widest vectors it has. A speed-up over
CPython holds for this machine and this run.

No setting of the system was changed: clock, scheduler and power management are as they were found.
Stolen time, busy cores and the load average were recorded around each round, the clock behind it.
Before and after each, one core does multiply-adds for some milliseconds: where that is less than
85 % of the highest of the run, a neighbour was busy (two virtual cores are often one core's
threads), and the round is done again, at most twice and as long as there is time for it; the one
with the highest peaks counts.
"""
PUBLISHED = f"""\
These times are others' words about another machine, and were not measured here. A factor
*{TIMES} over CPython* divides two times of one run on one machine. Another processor changes both,
but not alike: a higher clock helps both, wider vectors only one of them, a newer interpreter only
the other. So the factor does not travel: compare machines by µs per sample, and engines by the
share of their own machine's peak that they use.
"""


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
    repeats = int(sum(r.get("repeats", 0) for r in rounds))
    disturbed = sum(r.disturbed for row in results.rows for r in row.rounds)
    if repeats or disturbed:
        were = "round was" if repeats == 1 else "rounds were"
        words.append(
            f"{repeats} {were} done again, since before or after one core could do less than "
            f"{100 * GOOD_PEAK:.0f} % of its peak, as beside a busy neighbour; {disturbed} of "
            f"{len(rounds)} rounds are of such moments nevertheless."
        )
    if sittings := about.get("resumed"):
        words.append(
            f"The run was interrupted, and went on at {sittings}. Factors within a workload are of "
            "one sitting each; those between workloads may be of two."
        )
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
            f"{len(few)} more rows have too few rounds for an interval of 95 %: {row_list(few)}."
        )
    everything: list[Row | Probe] = [*results.rows, *results.probes]
    for found in everything:
        if found.status == "error":
            what = found.title if isinstance(found, Row) else f"probe {found.name}"
            of = f"{found.workload}, " if found.workload else ""
            words.append(f"Error: {of}{what}: {found.reason}")
    return words
