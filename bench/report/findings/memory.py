"""What training takes in memory: a bar for each implementation, its engine's own in it."""

from __future__ import annotations

from functools import partial

from bench.report import plot
from bench.report.format import megabytes
from bench.report.part import Drawing, Part, Parts, Table
from bench.results import Results, Row, known

WORDS = """\
*Process* is the most that the process had in memory at once: interpreter, libraries and corpus
included. *Engine* is what the engine says that it holds: weights, moments, activations, batches.
Rows on a GPU are left out: theirs is elsewhere."""


def parts(results: Results) -> Parts:
    if rows := collect(results):
        drawings = [Drawing("memory", partial(bars, results, rows))]
        yield Part((3,), "Memory", WORDS, drawings, [table(results)])


def table(results: Results) -> Table:
    lines: Table = [("implementation", "workload", "engine", "process")]
    for row in results.rows:
        if row.ok and row.peak_memory and not row.on_gpu:
            engine = megabytes(row.engine_memory) if row.engine_memory else ""
            lines.append((row.title, row.workload, engine, megabytes(row.peak_memory)))
    return lines


def collect(results: Results) -> list[Row]:
    """The rows whose memory is known, by size: of each implementation that of the largest batch, of
    the workload that has the most of them, or the widest of these."""
    found: dict[str, dict[str, Row]] = {name: {} for name in results.workloads}
    for row in sorted(results.rows, key=lambda row: row.batch):
        if row.ok and row.peak_memory and not (row.on_gpu or row.variation_of):
            found[row.workload][row.variant] = row
    widths = {name: workload["n_embd"] for name, workload in results.workloads.items()}
    most = max(found, key=lambda name: (len(found[name]), widths[name]), default=None)
    return sorted(found[most].values(), key=lambda row: -row.peak_memory) if most else []


def bars(results: Results, rows: list[Row]) -> plot.Figure:
    figure, axes = plot.bar_figure(len(rows))
    engines = [row.engine_memory for row in rows if row.engine_memory]
    left = 0.5e-6 * min([*engines, rows[-1].peak_memory])
    right = 1e-6 * rows[0].peak_memory
    for y, row in enumerate(rows):
        colour, text = plot.COLOURS[row.group][0], megabytes(row.peak_memory)
        if row.engine_memory:
            text += f", engine {megabytes(row.engine_memory)}"
        peak = known(1e-6 * row.peak_memory)
        plot.bar(axes, y, peak, plot.paler(colour), text, left, " in the process")
        if row.engine_memory:
            held = known(1e-6 * row.engine_memory)
            plot.bar(axes, y, held, colour, "", left, " held by the engine")
    plot.log_axis(axes.xaxis, "MB")
    axes.set_xlim(left, right * (right / left) ** (0.9 if plot.narrow() else 0.5))
    plot.name_bars(axes, [row.title for row in rows])
    plot.group_legend(axes, [row.group for row in rows])
    notes = (
        "Pale: the most that the process had in memory, its interpreter, its libraries and the "
        "corpus among them. Full: what the engine says that it holds for weights, moments, "
        "activations and batches."
    )
    return plot.finish(figure, results, title(rows), notes)


def title(rows: list[Row]) -> str:
    most, best = rows[0], min(rows, key=lambda row: row.microseconds)
    text = f"{most.workload}: {best.prose} trains in "
    if best.engine_memory:
        text += f"{megabytes(best.engine_memory)} of its own, in a process of "
    text += megabytes(best.peak_memory)
    return text if most is best else f"{text}; {most.prose} takes {megabytes(most.peak_memory)}"
