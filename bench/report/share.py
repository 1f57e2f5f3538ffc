"""The report in one picture, shown where people link to it: the finding, a bar for each group.

It is as large as such pictures are: 1200 x 630.
"""

from __future__ import annotations

from typing import Any

from bench.report import plot
from bench.report.format import TIMES, digits, duration, provenance, times
from bench.report.part import Drawn
from bench.results import Results, grouped, over

WIDTH, HEIGHT, DPI = 1200, 630, 100


def picture(results: Results) -> bytes | None:
    """A PNG; None where nothing was measured against CPython."""
    found = results.largest_speedup()
    if not found:
        return None
    from matplotlib.figure import Figure

    base, best = found
    most = over(best, base).value
    figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)
    how: dict[str, Any] = {"ha": "left", "va": "top", "color": plot.INK}
    headline = f"{digits(most)}{TIMES} as fast as CPython"
    figure.text(0.04, 0.94, headline, fontsize=38, fontweight="bold", **how)
    width = results.workloads[best.workload]["n_embd"]
    words = (
        f"{best.prose} trains microgpt, n_embd {width}, at {duration(best.microseconds)} a sample"
    )
    figure.text(0.04, 0.815, words, fontsize=20, **how)
    axes: Any = figure.add_axes((0.36, 0.13, 0.6, 0.58))
    axes.set_frame_on(False)
    axes.set_xscale("log")
    axes.set_xlim(0.8, most * 40_000)  # room for the texts
    groups = grouped(results.ranked(best.workload), lambda row: row.group)
    slowest_first = [of[0] for of in reversed(groups.values()) if of[0] is not base]
    rows = [base, *slowest_first]
    for y, row in enumerate(rows):
        factor = over(row, base).value
        axes.barh(y, factor - 0.8, left=0.8, height=0.7, color=plot.COLOURS[row.group][0])
        text = f"{times(factor)}  {duration(row.microseconds)}, batch {row.batch}"
        axes.annotate(text, (factor, y), xytext=(8, 0), textcoords="offset points", va="center",
                      fontsize=17, color=plot.INK)  # fmt: skip
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=17, color=plot.INK)
    axes.set_xticks([])
    axes.minorticks_off()
    axes.tick_params(length=0)
    how["color"] = plot.QUIET
    figure.text(0.04, 0.065, f"{provenance(results)}. Log scale.", fontsize=12, **how)
    return Drawn(figure).png
