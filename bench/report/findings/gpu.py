"""Rows on a GPU against the batch size, with what a launch takes, and one core beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from bench.report import plot
from bench.report.format import duration, micro, times, with_interval
from bench.report.part import Drawing, Part, Parts, Table
from bench.results import Estimate, Results, Row, Timed, grouped, over

WORDS = """\
Libraries on a GPU, in f32 without TF32, verified as all others. The time has in it that all
documents go to the GPU as a run of steps begins, and all losses back as it ends. *Launch floor* is
the emptiest step, one addition to one number that is launched and waited for, shared out among the
documents of a batch: a step that waits for the GPU takes no less, whatever it computes. Rows need
not wait at each step. *Over one core* holds the row against the fastest of its batch size without a
GPU."""


def parts(results: Results) -> Parts:
    if rows := [row for row in results.rows if row.ok and row.on_gpu]:
        lines = collect(results, rows)
        drawings = [Drawing("gpu", partial(figure, results, lines))] if lines else []
        yield Part((3, 3), "GPU", WORDS, drawings, [table(results, rows)])


def table(results: Results, rows: list[Row]) -> Table:
    head = ("implementation", "workload", "GPU", "µs per sample", "interval", "launch floor")
    lines: Table = [(*head, "of it a sample's", "over one core", "its interval", "which is")]
    for row in rows:
        floor = 1e6 * row.launch_floor
        floors = (duration(floor), f"{floor / row.batch:.2g} µs") if floor else ("", "")
        # The fastest without a GPU.
        core = next((r for r in results.ranked(row.workload) if r.batch == row.batch), None)
        factor = with_interval(over(row, core) if core else None, times)
        lines.append(
            (row.title, row.workload, row.info["gpu"], *with_interval(row.estimate), *floors,
             *factor, core.label if core else "")
        )  # fmt: skip
    return lines


CORE = ":"  # the line of one core


@dataclass(frozen=True)
class Line:
    workload: str
    label: str
    dashes: str
    found: dict[int, Estimate]  # microseconds per sample by batch size


def collect(results: Results, rows: list[Row]) -> list[Line]:
    """Of each workload, the variants on a GPU at several batch sizes, and the probe of the best
    engine, on one core."""
    lines = []
    for workload in results.workloads:
        here = [row for row in rows if row.workload == workload]
        several = [of for of in grouped(here, lambda row: row.label).values() if len(of) > 1]
        for dashes, of in zip(("-", "--", "-."), several, strict=False):
            found = {row.batch: row.estimate for row in of}
            lines.append(Line(workload, of[0].label, dashes, found))
        core = {
            case["batch"]: Timed.of_case(case, case["seconds"]).estimate * 1e6
            for name, case in results.cases("batch")
            if name == workload and case["sharing"]
        }
        if several and core:
            lines.append(Line(workload, "one core", CORE, core))
    return lines


def figure(results: Results, lines: list[Line]) -> plot.Figure:
    drawn, axes = plot.new_figure(max(5.0, 1.8 + 0.3 * len(lines)))
    ends = []
    for line in lines:
        colour, name = plot.WORKLOAD_COLOURS[line.workload], f"{line.workload}, {line.label}"
        ends.append(plot.line(axes, line.found, line.dashes, colour, name, "batch"))
    sizes = sorted({size for line in lines if line.dashes != CORE for size in line.found})
    plot.log2_axis(axes, sizes, "batch size")
    plot.log_axis(axes.yaxis, "µs per sample")
    plot.label_ends(axes, ends)
    notes = (
        "Colours: workloads. Solid and dashed: libraries on a GPU. Dotted: the best engine, one "
        "thread. Less is better. "
    )
    return plot.finish(drawn, results, title(lines), notes + plot.whisker_note(drawn))


def title(lines: list[Line]) -> str:
    """Of the last workload, the line that ends lowest, against one core."""
    here = [line for line in lines if line.workload == lines[-1].workload]
    best = min(
        (line for line in here if line.dashes != CORE),
        key=lambda line: line.found[max(line.found)].value,
    )
    last = max(best.found)
    end = f"at batch {last} it takes {micro(best.found[last].value)} per sample"
    core = next((line.found for line in here if line.dashes == CORE), {})
    sizes = core.keys() & best.found
    slower = [size for size in sizes if best.found[size].value >= core[size].value]
    faster = [size for size in sizes if size > max(slower, default=0)]
    if faster:
        return f"{best.workload}: {best.label} beats one core from batch {min(faster)} on; {end}"
    if slower:
        return f"{best.workload}: {best.label} is behind one core at batch {max(slower)}; {end}"
    return f"{best.workload}: {best.label}: {end}"
