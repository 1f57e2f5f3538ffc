"""What training takes in memory: a bar for each implementation, a panel for each batch size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from bench.figures import style
from bench.results import Results, Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(results: Results) -> Iterator[tuple[str, Figure]]:
    rows = collect(results)
    if rows:
        yield "memory.png", bars(results, rows)


def collect(results: Results) -> list[Row]:
    """Of the widest workload that has any, the rows whose memory is known, by size."""
    for workload in sorted(results.workloads, key=lambda name: -results.workloads[name]["n_embd"]):
        rows = [row for row in results.of(workload) if row.peak_memory]
        if rows:
            return sorted(rows, key=lambda row: -row.peak_memory)
    return []


def bars(results: Results, rows: list[Row]) -> Figure:
    figure, axes = style.bar_figure(len(rows))
    engines = [row.engine_memory for row in rows if row.engine_memory]
    left = 0.5e-6 * min([*engines, rows[-1].peak_memory])
    right = 1e-6 * rows[0].peak_memory
    for y, row in enumerate(rows):
        colour = style.COLOURS[row.group][0]
        height = style.bar_height()
        process, engine = 1e-6 * row.peak_memory, 1e-6 * row.engine_memory
        axes.barh(y, process - left, left=left, height=height, color=style.paler(colour))
        text = style.megabytes(row.peak_memory)
        if engine:
            axes.barh(y, engine - left, left=left, height=height, color=colour)
            text += f", engine {style.megabytes(row.engine_memory)}"
        style.text_on_white(axes, process, y, text, (6, 0), fontsize=style.size(12))
    axes.set_xscale("log")
    axes.set_xlim(left, right * (right / left) ** (0.9 if style.narrow() else 0.5))
    style.name_bars(axes, [row.title for row in rows])
    style.log_ticks(axes.xaxis)
    axes.set_xlabel("MB (log scale)", fontsize=style.size(12))
    style.group_legend(axes, [row.group for row in rows])
    notes = [
        "Pale: the most that the process had in memory, its interpreter, its libraries and the "
        "corpus among them. Full: what the engine says that it holds for weights, moments, "
        "activations and batches."
    ]
    style.finish(figure, results, title(rows), notes)
    return figure


def title(rows: list[Row]) -> str:
    workload, most = rows[0].workload, rows[0]
    best = min(rows, key=lambda row: row.microseconds)
    text = f"{workload}: {best.prose} trains in "
    if best.engine_memory:
        text += f"{style.megabytes(best.engine_memory)} of its own, in a process of "
    text += style.megabytes(best.peak_memory)
    if most is not best:
        text += f"; {most.prose} takes {style.megabytes(most.peak_memory)}"
    return text
