"""Whether the run before found the same, on this machine and of this commit."""

from __future__ import annotations

from functools import partial

from bench.cases import RepeatabilityCase
from bench.report import plot
from bench.report.format import digits
from bench.report.part import Drawing, Part, Parts, Table
from bench.results import Results, known

LIMIT = 10.0  # per cent

WORDS = f"""\
The report before this one was of the same machine, corpus and commit. Told is by how much the
speed-up of each row over CPython, or where there is none its time per sample, was another one then.
Those that differ by more than {LIMIT:g} % stand in the table."""


def parts(results: Results) -> Parts:
    if found := [case for _, case in results.cases("repeatability")]:
        drawings = [Drawing("repeatability", partial(figure, results, found))]
        yield Part((7,), "Again the same", WORDS, drawings, [table(found)])


def change(case: RepeatabilityCase) -> float:
    """Per cent, from the run before to this one."""
    return 100 * (case["now"] / case["before"] - 1)


def table(found: list[RepeatabilityCase]) -> Table:
    lines: Table = [("row", "value", "before", "now", "change")]
    for case in sorted(found, key=lambda case: -abs(change(case))):
        if abs(change(case)) > LIMIT:
            values = digits(case["before"]), digits(case["now"])
            lines.append((case["row"], case["what"], *values, f"{change(case):+.1f} %"))
    return lines


def figure(results: Results, found: list[RepeatabilityCase]) -> plot.Figure:
    drawn, axes = plot.new_figure(3.2)
    axes.axhspan(-LIMIT, LIMIT, color="#e8eef6", zorder=0)
    for place, case in enumerate(sorted(found, key=change), 1):
        axes.plot(place, change(case), ".", color=plot.COLOURS[case["group"]][0], markersize=9)
        plot.whisker(axes, place, change(case), known(change(case)), case["row"])
    axes.set_xlim(0, len(found) + 1)
    axes.set_xlabel("rows, by their change")
    axes.set_ylabel("change in %")
    plot.group_legend(axes, [case["group"] for case in found])
    notes = f"The run before: {found[0]['date']}. Shaded: at most {LIMIT:g} % off."
    same = sum(abs(change(case)) <= LIMIT for case in found)
    title = f"{same} of {len(found)} rows were within {LIMIT:g} % of what the run before found"
    return plot.finish(drawn, results, title, notes)
