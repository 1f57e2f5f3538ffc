"""What is left of a sweep for people: a table, results.csv, results.parquet, sweep.png."""

from __future__ import annotations

import csv
import io
import math
import os
import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..storage.files import write_atomically
from .ranking import Standing, pareto_front, ranking
from .space import DEFAULTS, varied
from .trial import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#222222", "#666666", "#dddddd"
BLUE, RED, GREY = "#3f90da", "#bd1f01", "#94a4a2"  # of petroff10, told apart by all eyes
LABEL_WIDTH = 0.16  # of the axes
LABEL_LINES = 5


def write_report(rows: Sequence[Row], out_dir: str | os.PathLike[str]) -> list[Path]:
    """Writes results.csv, with pyarrow results.parquet (curves included), and with matplotlib
    sweep.png; returns the files written. Old ones are replaced, whole."""
    out_dir = Path(out_dir)
    files = {"results.csv": as_csv(rows)}
    for name, encode in (("results.parquet", as_parquet), ("sweep.png", as_png)):
        with suppress(ImportError):  # of pyarrow, matplotlib
            files[name] = encode(rows)
    for name, content in files.items():
        write_atomically(out_dir / name, content)
    return [out_dir / name for name in files]


def flat(row: Row) -> dict[str, Any]:
    """Settings and results beside each other. num_steps and engine are those that it became."""
    results = {k: v for k, v in row.items() if k not in ("settings", "curve")}
    return {"key": row["key"], **row["settings"], **results}


def as_csv(rows: Sequence[Row]) -> bytes:
    table = [flat(row) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]) if table else ["key"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()


def as_parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    point = ("step", "seconds", "held_out_loss")
    table = pyarrow.Table.from_pylist(
        [
            {**flat(row), "curve": [dict(zip(point, p, strict=True)) for p in row["curve"]]}
            for row in rows
        ]
    )
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue()


def table(rows: Sequence[Row], top: int = 10) -> tuple[list[str], list[list[str]]]:
    """Header and lines of the best combinations of settings."""
    names = [name for name in varied([row["settings"] for row in rows]) if name != "seed"]
    seeds = len({row["settings"]["seed"] for row in rows})
    header = ["", "held-out loss", *(["±"] if seeds > 1 else []), "seconds", "parameters", *names]
    if seeds > 1:
        header.append("seeds")
    lines = []
    for place, standing in enumerate(ranking(rows)[:top], 1):
        lines.append(
            [
                str(place),
                f"{standing.loss:#.4g}",
                *([f"{standing.deviation:.4f}"] if seeds > 1 else []),
                f"{standing.seconds:.3g}",
                f"{standing.rows[0]['num_params']:,}",
                *(value(standing.settings[name]) for name in names),
                *([_seeds(standing)] if seeds > 1 else []),
            ]
        )
    return header, lines


def _seeds(standing: Standing) -> str:
    good = len(standing.rows)
    return f"{good} of {good + standing.failed}" if standing.failed else str(good)


def as_label(text: str) -> str:
    """For a picture, where dollars would begin a formula."""
    return text.replace("$", r"\$")


def value(setting: Any) -> str:
    return f"{setting:.4g}" if isinstance(setting, float) else str(setting)


def as_png(rows: Sequence[Row]) -> bytes:
    png = io.BytesIO()
    draw(rows).savefig(png, format="png")
    return png.getvalue()


def draw(rows: Sequence[Row]) -> Figure:
    """Held-out loss against training time with the Pareto front, and against each setting that was
    varied."""
    from matplotlib.figure import Figure

    good = [row for row in rows if not row["error"]]
    names = [name for name in varied([row["settings"] for row in rows]) if name != "seed"]
    columns = {0: 1, 1: 1, 2: 2, 4: 2}.get(len(names), 3)
    lines = math.ceil(len(names) / columns)
    figure = Figure(figsize=(10, 5.5 + 3.2 * lines), dpi=150)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)
    grid = figure.add_gridspec(1 + lines, columns, height_ratios=[5.5] + [3.2] * lines)
    axes = figure.add_subplot(grid[0, :])
    limits = _limits([point[2] for row in good for point in row["curve"]])
    _draw_curves(axes, good, names, limits)
    limits = _limits([row["held_out_loss"] for row in good])
    for i, name in enumerate(names):
        _draw_setting(figure.add_subplot(grid[1 + i // columns, i % columns]), good, name, limits)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=10, colors=INK)
        axes.grid(True, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
    _write_around(figure, rows, names)
    return figure


def _draw_curves(
    axes: Axes, rows: list[Row], names: list[str], limits: tuple[float, float]
) -> None:
    way, end = "a trial, on its way", "its end"
    for row in rows:
        _, seconds, losses = zip(*row["curve"], strict=True)
        axes.plot(seconds, losses, color=GREY, linewidth=0.8, alpha=0.5, label=way)
        axes.plot(seconds[-1], losses[-1], "o", color=BLUE, markersize=4, alpha=0.7, label=end)
        way = end = ""  # once in the legend
    low, high = limits
    axes.set_ylim(low - 0.3 * (high - low), high)  # room for labels
    axes.set_xscale("log")
    axes.set_xlabel("seconds of training, one core (log scale)", fontsize=11)
    axes.set_ylabel("held-out loss", fontsize=11)
    front = pareto_front(rows)
    if front:
        times, losses, _ = zip(*front, strict=True)
        label = "Pareto front: the least loss for the time"
        axes.plot(times, losses, color=RED, linewidth=2, drawstyle="steps-post", label=label)
        _label_ends(axes, front, names)
        axes.legend(loc="upper right", fontsize=10, edgecolor="none")


def _label_ends(axes: Axes, front: list[tuple[float, float, Row]], names: list[str]) -> None:
    """The settings of the trials that end on the front, from the best, where there is room."""
    if not names or len(names) > LABEL_LINES:
        return
    left, right = map(math.log, axes.get_xlim())
    free = right
    for seconds, loss, row in reversed(front):
        place = math.log(max(seconds, 1e-9))  # a coarse clock may say 0
        if seconds == row["train_seconds"] and place <= free:
            free = place - LABEL_WIDTH * (right - left)
            axes.annotate(
                as_label("\n".join(f"{name} {value(row['settings'][name])}" for name in names)),
                (seconds, loss),
                xytext=(-6, -8),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize=9,
                color=INK,
            )


def _draw_setting(axes: Axes, rows: list[Row], name: str, limits: tuple[float, float]) -> None:
    """The loss of each trial against one setting, and the line of the lowest."""
    points = [(row["settings"][name], row["held_out_loss"]) for row in rows]
    values = sorted({x for x, _ in points})
    if values and isinstance(values[0], str):
        places = {x: float(i) for i, x in enumerate(values)}
        axes.set_xticks(list(places.values()), list(map(as_label, values)))
    else:
        places = {x: x for x in values}
        if values and values[0] > 0 and values[-1] >= 4 * values[0]:
            axes.set_xscale("log")
        if len(values) <= 6:
            axes.set_xticks(values, [value(x) for x in values])
            axes.minorticks_off()
    axes.plot(
        [places[x] for x, _ in points],
        [loss for _, loss in points],
        "o",
        color=BLUE,
        markersize=4,
        alpha=0.6,
    )
    if len(values) < min(len(points), 13):
        lowest = [min(loss for x, loss in points if x == v) for v in values]
        axes.plot([places[v] for v in values], lowest, color=RED, linewidth=1.5)
    axes.set_ylim(*limits)
    axes.set_xlabel(name, fontsize=11)
    axes.set_ylabel("held-out loss", fontsize=11)


def _limits(losses: list[float]) -> tuple[float, float]:
    """Of the axis: trials that went badly must not flatten the others."""
    if not losses:
        return 0.0, 1.0
    low, high = min(losses), max(losses)
    if len(losses) > 8:
        quartiles = statistics.quantiles(losses, n=4)
        high = min(high, quartiles[2] + 1.5 * (quartiles[2] - quartiles[0]))
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin


def _write_around(figure: Figure, rows: Sequence[Row], names: list[str]) -> None:
    standings = ranking(rows)
    title = "No trial succeeded"
    if standings:
        best = standings[0]
        settings = ", ".join(f"{name} {value(best.settings[name])}" for name in names)
        over = f", mean of {len(best.rows)} seeds" if len(best.rows) > 1 else ""
        title = f"Best: held-out loss {best.loss:.3f} after {best.seconds:.2g} s of training{over}"
        title += f"\n{settings}" if settings else ""
    figure.suptitle(as_label(title), x=0.012, ha="left", fontsize=14, fontweight="bold", color=INK)
    failed = sum(1 for row in rows if row["error"])
    constant = {
        name: rows[0]["settings"][name]
        for name in DEFAULTS
        if name not in (*names, "seed", "evals") and rows and rows[0]["settings"][name] is not None
    }
    notes = [
        f"{len(rows)} trials, {failed} of them failed. Losses above the axes are not shown. "
        "Red against a setting: the lowest at each value.",
        "Everywhere: " + ", ".join(f"{name} {value(x)}" for name, x in constant.items()),
    ]
    figure.supxlabel(as_label("\n".join(notes)), x=0.012, ha="left", fontsize=9, color=QUIET)
