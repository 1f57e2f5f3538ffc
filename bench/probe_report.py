"""The sections of the report on the probes: how close the best engine comes to the machine."""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatch
from statistics import median

from bench.figures import Drawn, batch, density, roofline, threads
from bench.figures.style import TIMES, digits, interval, per_cent
from bench.results import Probe, Results
from bench.statistics import estimate
from bench.tables import Part, Table, verdict

PHASES = """\
Time of each phase of a training step, by batch: the phases of a column add up to the step. It is
the mean over ten slices spread evenly over a whole training, since a step's cost falls as hidden
units fall silent; so are all times of this section. Weights are updated once a step, inside the
phases that compute their gradients: at batch 1 that is for the rows of one document, at batch 16
for those of sixteen."""
ROOFLINE = """\
The roofs are what one core was measured to do: multiply-adds in registers, and reads from its L1
and L2 cache. A point is a whole training step, from the table of its workload. Under a slanted roof
a step would wait for memory, far under the flat one it waits for something else: latencies, square
roots and divisions of Adam, work that is not a multiply-add. Bytes are a model (each weight in both
layouts and both moments once a step, each activation written and read once); FLOPs count a shared
prefix once for each of its documents and products with zeros, so that a point can lie above the
roof. The bar below a point is at the FLOPs *executed*: times the rows left by prefix sharing, and
with five of the MLP's six products (the first, forward, makes the zeros) times the mean share of
hidden values that are not zero; up to n_embd 16 no zeros are skipped."""
DENSITY = """\
Behind the ReLU a hidden value that is not positive is exactly zero, and above n_embd 16 the engine
skips it. *Values* are those not zero among all of a batch, *units* those active in at least one row
of it, *at rest* those that no longer move: no gradient, and no step of Adam that counts. With a
smaller learning rate fewer fall silent, so that the same engine takes longer. The mean is that of
all steps of the training."""
BATCH = """\
Time per sample against the batch size. A larger batch updates the weights less often, and its
documents have more prefixes in common: the model computes each distinct prefix once. *Rows left* is
what remains of the positions. Another batch size is another training, not only a faster one."""
THREADS = """\
Speed-up of two threads over one: the median of the ratios of rounds in turns, and its interval.
Below 1 two threads are slower: small steps are over before a second core has helped. Each round
held the losses of both against each other, to the last bit."""
SHAPES = """\
Shapes other than the workloads' at batch 16, on one thread: GFLOP/s of useful work, and what share
of the FMA peak that is. Nothing is tuned to a width. Widths that are not a multiple of 16 are
padded inside; the padding does not count as work. Documents of one alphabet share prefixes, random
ones hardly do. The corpus's documents are joined where a context of 16 would hold one."""


def parts(results: Results, figures: list[Drawn]) -> list[Part]:
    """Empty where nothing was probed."""
    of_engine = [probe for probe in results.probes if probe.name not in ("quality", "pareto")]
    if not of_engine:
        return []
    found = [Part(f"How close {of_engine[0].label} comes to the machine")]
    wanted: tuple[tuple[str, str, str, Callable[[Results], Table] | None], ...] = (
        ("Phases of a step", PHASES, "phases", None),
        ("Zeros in the MLP", DENSITY, "density", density_table),
        ("Roofline", ROOFLINE, "roofline", roofline_table),
        ("Batch size", BATCH, "batch", batch_table),
        ("Two threads", THREADS, "threads", threads_table),
        ("Other shapes", SHAPES, "shapes", shapes_table),
    )
    for heading, words, name, table in wanted:
        missing = [
            f"Not measured: {f'{p.workload}: ' if p.workload else ''}{p.status}: {p.reason}"
            for p in results.probes
            if p.name == name and p.status != "ok"
        ]
        lines = table(results) if table else []
        drawn = [figure for figure in figures if fnmatch(figure.name, f"{name}*.png")]
        found.append(Part(heading, words, drawn, [lines] if lines else [], missing, level=3))
    return found


def roofline_table(results: Results) -> Table:
    rows = roofline.collect(results)
    if not rows:
        return []
    peak = results.peak(rows[0].variant)
    head = ("step", "FLOPs per byte", "GFLOP/s", "of the FMA peak")
    lines = [(*head, "executed GFLOP/s", "executed, of the FMA peak")]
    for row in rows:
        rate = results.gflops(row)
        near = digits(roofline.intensity(results, row))
        share = roofline.executed_share(results, row)
        done = (digits(rate * share), per_cent(rate * share / peak)) if share else ("", "")
        name = f"{row.workload}, batch {row.batch}"
        lines.append((name, near, digits(rate), per_cent(rate / peak), *done))
    return lines


def density_table(results: Results) -> Table:
    cases = density.collect(results)
    if not cases:
        return []
    last = cases[0]["steps"][-1]
    stops = [1, 100, 500, last]
    head = ("n_embd", "batch", "learning rate", *(f"values, step {stop:,}" for stop in stops))
    lines = [(*head, "mean", f"units, step {last:,}", "at rest")]
    for case in cases:
        shape = (str(case["n_embd"]), str(case["batch"]), f"{case['learning_rate']:g}")
        shares = [density.at(case, stop) for stop in stops]
        shares += [density.mean(case), case["units"][-1], case["resting"][-1]]
        lines.append((*shape, *map(per_cent, shares)))
    return lines


def batch_table(results: Results) -> Table:
    probes = results.probed("batch")
    if not probes:
        return []
    left = batch.rows_left(probes[0])
    head = ["batch", "rows left"]
    columns = [list(map(str, left)), list(map(per_cent, left.values()))]
    for probe in probes:
        for sharing, words in ((True, ""), (False, ", no sharing")):
            head += [f"{probe.workload}{words}, µs per sample", "interval"]
            times = batch.line(probe, sharing).values()
            columns += [[digits(time.value) for time in times], [interval(time) for time in times]]
    return [tuple(head), *zip(*columns, strict=True)]


def threads_table(results: Results) -> Table:
    lines: Table = [("step", "one thread, µs per sample", "two", "speed-up", "interval", "verdict")]
    for workload, case in threads.collect(results):
        factor = threads.speedup(case)
        lines.append(
            (
                f"{workload}, batch {case['batch']}",
                *(digits(1e6 * median(case[count])) for count in ("one", "two")),
                f"{factor.value:.2f}{TIMES}",
                interval(factor),
                verdict(factor),
            )
        )
    return lines if len(lines) > 1 else []


def shapes_table(results: Results) -> Table:
    probes: list[Probe] = results.probed("shapes")
    if not probes:
        return []
    peak = results.peak(probes[0].engine)
    keys = ("n_layer", "n_embd", "block_size", "vocab_size")
    head = ("documents", *keys, "µs per sample", "interval", "GFLOP/s")
    lines = [(*head, "of peak") if peak else head]
    for case in probes[0].cases:
        time = estimate(case["seconds"]) * 1e6
        rate = case["flops_per_sample"] / time.value * 1e-3
        shape = (str(case[key]) for key in keys)
        cells = (case["documents"], *shape, digits(time.value), interval(time), digits(rate))
        lines.append((*cells, per_cent(rate / peak)) if peak else cells)
    return lines
