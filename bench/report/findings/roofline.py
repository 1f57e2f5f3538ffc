"""Measured roofs of one core, and where a whole training step of each workload stands under them.

The model of the traffic, in bytes of a step of batch B with R = B * mean positions:

    16 P                 each parameter's stored weight, transposed weight and two moments, once
    8 R (11 C L + 2 C + V)   activations in float32, each written once and read once: per layer the
                         norm (C), q, k and v (3 C), attention (C), residual (C), norm (C), hidden
                         (4 C); the embedding and the final row (2 C); logits (V)

FLOPs are the useful ones of bench/task/workload.py. The executed ones are a model too: with the
share of rows left after prefix sharing and the mean share d of hidden values that are not zero,
both measured,

    rows left * (useful - 5 (1 - d) * 8 C^2 L per position)

The MLP has six products (two matrices; forward, gradients of inputs and of weights) of 8 C^2 FLOPs
a position and layer; hidden values or their gradients go into five. Not counted are products with
zeros that the engine does after all: where so much is active that skipping would not pay, and in
sums of four rows at a time over the units that are active in some of them.
"""

from __future__ import annotations

import math
from functools import partial

from bench.report import plot
from bench.report.format import digits, per_cent
from bench.report.part import Drawing, Part, Parts, Table
from bench.results import Results, Row, mean_share, per_time

WORDS = """\
The roofs are what one core was measured to do: multiply-adds in registers, and reads from its L1
and L2 cache. A point is a whole training step, from the table of its workload. Under a slanted roof
a step would wait for memory, far under the flat one it waits for something else: latencies, square
roots and divisions of Adam, work that is not a multiply-add. Bytes are a model (each weight in both
layouts and both moments once a step, each activation written and read once); FLOPs count a shared
prefix once for each of its documents and products with zeros, so that a point can lie above the
roof. The bar below a point is at the FLOPs *executed*: times the rows left by prefix sharing, and
with five of the MLP's six products (the first, forward, makes the zeros) times the mean share of
hidden values that are not zero; up to n_embd 16 as if none were skipped. Zeros that the engine
multiplies by after all, in sums of four rows at a time, are not counted."""
DENSE_WIDTH = 16  # up to this n_embd zeros count as multiplied; at batch 1 some are not


def parts(results: Results) -> Parts:
    if rows := collect(results):
        drawings = [Drawing("roofline", partial(figure, results, rows))]
        yield Part((6, 3), "Roofline", WORDS, drawings, [table(results, rows)], level=3)


def table(results: Results, rows: list[Row]) -> Table:
    peak = results.peak(rows[0].variant) or math.nan
    head = ("step", "FLOPs per byte", "GFLOP/s", "of the FMA peak")
    lines: Table = [(*head, "executed GFLOP/s", "executed, of the FMA peak")]
    for row in rows:
        rate, share = results.gflops(row), executed_share(results, row)
        rates = [rate, rate * share] if share else [rate]
        told = [text for each in rates for text in (digits(each), per_cent(each / peak))]
        name = f"{row.workload}, batch {row.batch}"
        lines.append((name, digits(intensity(results, row)), *told, *[""] * (4 - len(told))))
    return lines


def collect(results: Results) -> list[Row]:
    """The rows of the engine that was probed, on the workloads that were; none where its roofs were
    not measured."""
    probed = {(probe.engine, probe.workload) for probe in results.probed("phases")}
    rows = [row for row in results.rows if row.ok and (row.variant, row.workload) in probed]
    return [row for row in rows if results.peak(row.variant)]


def intensity(results: Results, row: Row) -> float:
    """FLOPs per byte, after the model above."""
    w = results.workloads[row.workload]
    c, layers, v, rows = w["n_embd"], w["n_layer"], w["vocab_size"], row.batch * w["mean_positions"]
    traffic: float = 16 * w["num_params"] + 8 * rows * (11 * c * layers + 2 * c + v)
    return row.batch * w["flops_per_sample"] / traffic


def executed_share(results: Results, row: Row) -> float | None:
    """Executed FLOPs by useful ones, after the model above; None where a part was not measured."""
    workload = results.workloads[row.workload]
    left = [
        case["rows_left"]
        for of, case in results.cases("batch")
        if (of, case["batch"]) == (row.workload, row.batch) and case["sharing"]
    ]
    shape = (workload["n_embd"], row.batch, workload["learning_rate"])
    found = [
        mean_share(case["steps"], case["values"])
        for _, case in results.cases("density")
        if (case["n_embd"], case["batch"], case["learning_rate"]) == shape
    ]
    if not left or not found:
        return None
    zeros = 1 - found[0] if workload["n_embd"] > DENSE_WIDTH else 0.0
    products = 8 * workload["n_layer"] * workload["n_embd"] ** 2 * workload["mean_positions"]
    return left[0] * (1 - 5 * zeros * products / workload["flops_per_sample"])


def figure(results: Results, rows: list[Row]) -> plot.Figure:
    engine = rows[0].variant
    peak = results.peak(engine) or math.nan
    first, second = (results.run[f"peak_{engine}_g{cache}_bytes"] for cache in ("l1", "l2"))
    points = [(row, intensity(results, row), results.gflops(row)) for row in rows]
    left = (0.16 if plot.narrow() else 0.35) * peak / first  # room for the names
    right = (60 if plot.narrow() else 9) * max(x for _, x, _ in points)
    executed = [
        (row, x, y, y * share)
        for row, x, y in points
        if (share := executed_share(results, row)) is not None
    ]
    heights = [y for *_, y in points] + [done for *_, done in executed]
    drawn, axes = plot.new_figure(5.6)
    axes.set_xscale("log", base=2)
    plot.log_axis(axes.yaxis, "GFLOP/s", ticks=(1, 2, 5))
    axes.set_xlim(left, right)
    axes.set_ylim(0.7 * min(left * second, *heights), 1.5 * max(peak, *heights))
    axes.hlines(peak, peak / first, right, plot.INK, linewidth=2)
    text = f"FMA peak: {digits(peak)} GFLOP/s"
    plot.text_on_white(axes, right, peak, text, (-4, 10), ha="right", fontsize=plot.size(12))
    for name, rate, align in (("L1", first, "right"), ("L2", second, "left")):
        end = peak / rate  # FLOPs per byte at which a bandwidth meets the peak
        axes.plot([left, end], [left * rate, peak], color=plot.QUIET, linewidth=1.6)
        text = f"{name}: {digits(rate)} GB/s"
        plot.text_on_white(axes, end, peak, text, (0, 10), ha=align, fontsize=plot.size(12))
    ceiling = peak
    for batch in sorted({row.batch for row in rows}, reverse=True):
        group = [point for point in points if point[0].batch == batch]
        label_points(axes, group, peak, 0.86 * ceiling)
        ceiling = min(ceiling, *(y for *_, y in group))  # clear of what lies to the right
    for row, x, y, done in executed:
        colour = plot.WORKLOAD_COLOURS[row.workload]
        axes.plot([x, x], [done, y], color=colour, linewidth=1.4, zorder=1.2)
        axes.plot(x, done, "_", markersize=11, markeredgewidth=2.4, color=colour)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("useful FLOPs per byte of weights, moments and activations")
    notes = (
        f"{rows[0].label}; roofs measured on one core. Bytes of a step, a model: weights in both "
        "layouts and both moments once, activations written and read once. FLOPs: a prefix that "
        "documents share counts once for each, and products with zeros count, so that points may "
        "lie above the roof. Bars below points: FLOPs executed, shared rows once and without zeros "
        "(a model, of measured shares). "
        f"Hollow: batch 1, full: batch 16. {plot.whisker_note(drawn)}"
    )
    return plot.finish(drawn, results, title(points, peak), notes)


def label_points(
    axes: plot.Axes, points: list[tuple[Row, float, float]], peak: float, ceiling: float
) -> None:
    """Points of one batch size, and their names in a column to the right, moved apart and below
    `ceiling`."""
    points = sorted(points, key=lambda point: point[2])
    column = 1.3 * max(x for _, x, _ in points)
    low, high = map(math.log, axes.get_ylim())
    wanted = [math.log(min(y, ceiling)) for *_, y in points]
    heights = plot.spread(wanted, 0.05 * (high - low), low, max(wanted))
    for (row, x, y), height in zip(points, heights, strict=True):
        plot.point(axes, x, per_time(y * row.microseconds, row.estimate), row, 11)
        name = row.workload if plot.narrow() else f"{row.workload}, batch {row.batch}"
        text = f"{name}: {digits(y)}, {per_cent(y / peak)}"
        leader = plot.leader(plot.WORKLOAD_COLOURS[row.workload])
        plot.text_on_white(axes, x, y, text, (column, math.exp(height)), textcoords="data",
                           arrowprops=leader)  # fmt: skip


def title(points: list[tuple[Row, float, float]], peak: float) -> str:
    best, _, most = max(points, key=lambda point: point[2])
    worst, _, least = min(points, key=lambda point: point[2])
    return (
        f"{best.workload} at batch {best.batch} does the useful work of "
        f"{per_cent(most / peak)} of the FMA peak, {worst.workload} at batch {worst.batch} "
        f"{per_cent(least / peak)}"
    )
