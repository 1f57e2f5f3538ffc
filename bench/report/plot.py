"""What the figures share: colours, layouts for page and phone, title, footer and labels."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.report.format import digits, exact, provenance
from bench.results import GROUPS, LEVEL, Estimate, Results, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# petroff10, a palette that colour-blind people can tell apart, shared out among the groups, with
# green for libraries and pink for WebAssembly beside it: the first colour stands for the group, the
# others for its further members.
COLOURS = {
    "pure Python": ("#94a4a2", "#717581"),
    "autograd tape": ("#ffa90e", "#e76300", "#b9ac70"),
    "array libraries": ("#2e8b57", "#8fbc5a", "#1f5f4a", "#5fb89a"),
    "hand-derived": ("#3f90da", "#92dadd", "#1d5f9e"),
    "WebAssembly": ("#d6649f", "#f0a8cb"),
    "SIMD": ("#832db6", "#bd1f01"),
    "other": ("#a96b59",),
}
assert tuple(COLOURS) == GROUPS
WORKLOAD_COLOURS = {
    "d16": "#3f90da", "d32": "#ffa90e", "d64": "#832db6", "d128": "#bd1f01", "d256": "#717581",
    "nanogpt-cpu": "#2e8b57", "shakespeare": "#a96b59",
}  # fmt: skip
INK = "#222222"
QUIET = "#666666"
WIDTH, NARROW_WIDTH = 10.0, 5.6  # inches
DPI = 80
SPOT = 18  # pixels: of a point that can be pointed at

End = tuple[str, float, float, str]  # of a line: its name there, x, y and its colour

_narrow = False


@contextmanager
def layout(narrow: bool) -> Iterator[None]:
    """What is drawn inside is for a phone: half the width, letters of nearly the same size."""
    global _narrow
    before, _narrow = _narrow, narrow
    try:
        yield
    finally:
        _narrow = before


def narrow() -> bool:
    return _narrow


def size(points: float) -> float:
    """Of letters, where the usual layout has `points`."""
    return points if not _narrow else 0.85 * points


def log_axis(axis: Any, label: str, ticks: tuple[int, ...] = (1,)) -> None:
    """A log scale, which the label says too, with ticks at 1, 10, 100, 1k and so on, times each of
    `ticks`."""
    from matplotlib.ticker import LogLocator, NullLocator

    def compact(value: float, _: int) -> str:
        for size, unit in ((1e6, "M"), (1e3, "k")):
            if value >= size:
                return f"{value / size:g}{unit}"
        return f"{value:g}"

    getattr(axis.axes, f"set_{axis.axis_name}scale")("log")
    axis.set_label_text(f"{label} (log scale)")
    axis.set_major_formatter(compact)
    if len(ticks) > 1:
        axis.set_major_locator(LogLocator(subs=ticks))
    axis.set_minor_locator(NullLocator())


def log2_axis(axes: Axes, ticks: Sequence[float], label: str) -> None:
    """Along x, by powers of two."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.minorticks_off()
    axes.set_xlabel(label)


def new_figure(height: float) -> tuple[Figure, Any]:
    """A figure of WIDTH x height inches; finish() makes it higher by what stands below."""
    figure, (axes,) = new_panels(height)
    return figure, axes


def new_panels(
    height: float, rows: tuple[float, ...] = (1,), columns: int = 1, **share: bool
) -> tuple[Figure, list[Any]]:
    """The same with several axes: rows of these relative heights, of `columns` axes each.

    `share` is sharex and sharey of matplotlib.
    """
    from matplotlib.figure import Figure

    width = NARROW_WIDTH if _narrow else WIDTH
    if _narrow and columns > 1:  # one below the other
        height, rows, columns = height * columns, rows * columns, 1
    figure: Any = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    figure.marks = []  # values that the page tells
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=rows, **share)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=size(11), colors=INK)
        axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_size(size(12))
    return figure, list(grid.flat)


def finish(
    figure: Figure, results: Results, title: str, *notes: str, threads: str = "one thread"
) -> Figure:
    """The figure, with the finding above, notes and provenance below."""
    title_columns, note_columns = (46, 76) if _narrow else (70, 118)
    lines = textwrap.wrap(title, title_columns)
    width = 1 + len(title) // len(lines)  # lines of about the same length
    while len(textwrap.wrap(title, width)) > len(lines):
        width += 1
    text = textwrap.fill(title, width)
    figure.suptitle(text, x=0.012, ha="left", fontsize=size(17), fontweight="bold", color=INK)
    below = (*notes, provenance(results, threads))
    lines = [line for note in below for line in textwrap.wrap(note, note_columns)]
    figure.set_figheight(figure.get_figheight() + 0.16 * len(lines))
    figure.supxlabel("\n".join(lines), x=0.012, ha="left", fontsize=size(9.5), color=QUIET)
    return figure


def bars_high(count: int, above: float = 1.6) -> float:
    """Inches for `count` horizontal bars; `above` are for all else."""
    return above + (0.47 if _narrow else 0.36) * count


def bar_figure(count: int, above: float = 1.6) -> tuple[Figure, Any]:
    return new_figure(bars_high(count, above))


def name_bars(axes: Axes, names: list[str]) -> None:
    """Names of horizontal bars at 0, 1, ...: left of them, or where it is narrow above them."""
    axes.grid(visible=False, axis="y")
    names = [textwrap.shorten(name, 48, placeholder=" ...") for name in names]
    vars(axes)["bar_names"] = names
    if not _narrow:
        axes.set_yticks(range(len(names)), names, fontsize=12)
        axes.set_ylim(len(names) - 0.4, -0.6)
        return
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.6, -0.9)
    for y, name in enumerate(names):
        text_on_white(axes, 0, y - 0.45, name, (3, 0), fontsize=size(12), zorder=3,
                      xycoords=axes.get_yaxis_transform())  # fmt: skip


def bar(axes: Axes, y: int, found: Estimate, colour: Any, text: str, left: float = 0.0,
        more: str = "", **how: Any) -> None:  # fmt: skip
    """A horizontal bar from `left` on, with its interval, and a text behind both; `more` is told
    where it is pointed at."""
    height = 0.46 if _narrow else 0.74
    axes.barh(y, found.value - left, left=left, height=height, color=colour)
    whisker(axes, found.value, y, found, "", more)
    text_on_white(axes, max(left, found.high), y, text, (6, 0), fontsize=size(12), **how)


@dataclass(frozen=True)
class _Mark:
    axes: Axes
    x: float
    y: float
    found: Estimate
    name: str  # "": of the bar
    more: str


def whisker(axes: Axes, x: float, y: float, found: Estimate, name: str, more: str = "") -> None:
    """The interval of a value at (x, y), where it has one: along y, or where it has no name of its
    own along the bar. The page tells the value, and what is more, where it is pointed at."""
    vars(axes.figure)["marks"].append(_Mark(axes, x, y, found, name, more))
    if found.low < found.high:
        ends = [[found.value - found.low], [found.high - found.value]]
        along: dict[str, Any] = {"yerr" if name else "xerr": ends}
        axes.errorbar(x, y, **along, color=INK, linewidth=1.4, capsize=3, zorder=3)


def whisker_note(figure: Figure) -> str:
    """What the whiskers that were drawn are worth."""
    marks: list[_Mark] = vars(figure)["marks"]
    fewest = min((m.found for m in marks if m.found.rounds), key=lambda found: found.rounds)
    usual = f"Whiskers: {100 * LEVEL:.0f} % intervals"
    if fewest.level == LEVEL:
        return f"{usual}."
    if fewest.rounds == 1:
        return "Whiskers: intervals; none where one round counts."
    return (
        f"{usual}, but of fewer than six rounds their range, worth {100 * fewest.level:.0f} % for "
        f"{fewest.rounds}."
    )


def line(axes: Axes, found: dict[int, Estimate], dashes: str, colour: str, name: str,
         what: str, markersize: float = 5) -> End:  # fmt: skip
    """Values by x, each with its interval, called `name` and what x is; its end, with the value."""
    values = [time.value for time in found.values()]
    axes.plot(list(found), values, dashes, linewidth=2.2, marker="o", color=colour,
              markersize=markersize)  # fmt: skip
    for x, time in found.items():
        whisker(axes, x, time.value, time, f"{name}, {what} {x}")
    last = max(found)
    return f"{name}: {digits(found[last].value)}", last, found[last].value, colour


def point(axes: Axes, x: float, found: Estimate, row: Row, markersize: float) -> None:
    """Of a row, in the colour of its workload; hollow at batch 1."""
    colour = WORKLOAD_COLOURS[row.workload]
    axes.plot(x, found.value, "o", markersize=markersize, markeredgewidth=2, color=colour,
              markerfacecolor="white" if row.batch == 1 else colour)  # fmt: skip
    whisker(axes, x, found.value, found, f"{row.workload}, {row.title}")


@dataclass(frozen=True)
class Spot:
    """Where a value of a figure is pointed at, in pixels from its top left corner, and its text."""

    name: str
    text: str
    x: float
    y: float
    width: float
    height: float


def spots(figure: Figure) -> list[Spot]:
    """Of a figure that has been drawn: the rows of its bars, and the points of its lines."""
    found = []
    marks: list[_Mark] = vars(figure)["marks"]
    for mark in marks:
        axes = mark.axes
        x, y = axes.transData.transform((mark.x, mark.y))
        left, right, low, high = x - SPOT / 2, x + SPOT / 2, y - SPOT / 2, y + SPOT / 2
        name, unit = mark.name, axes.get_ylabel()
        if not name:
            name, unit = vars(axes)["bar_names"][int(mark.y)], axes.get_xlabel()
            left, right = axes.bbox.x0, axes.bbox.x1
            ends = axes.transData.transform([(mark.x, mark.y + d / 2) for d in (-0.9, 0.9)])
            low, high = sorted(float(end[1]) for end in ends)
        text = f"{name}: {exact(mark.found)} {unit.partition(' (log scale)')[0]}{mark.more}"
        found.append(Spot(name, text, left, figure.bbox.height - high, right - left, high - low))
    return found


def group_legend(axes: Axes, groups: list[str], loc: str = "") -> None:
    """Inside of the axes at `loc`, or above them."""
    from matplotlib.patches import Patch

    handles = [Patch(color=COLOURS[group][0], label=group) for group in GROUPS if group in groups]
    place: dict[str, Any] = {"loc": loc}
    if not loc:
        columns = 2 if _narrow else 3
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns}
    legend(axes, **place, handles=handles)


def legend(axes: Axes, points: float = 11, **place: Any) -> None:
    axes.legend(**place, fontsize=size(points), framealpha=0.9, edgecolor="none")


def text_on_white(
    axes: Axes, x: float, y: float, text: str, offset: tuple[float, float], **how: Any
) -> None:
    """A value label `offset` points away from (x, y), above the grid and below what is drawn."""
    axes.annotate(
        text,
        (x, y),
        xytext=offset,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        **{"textcoords": "offset points", "fontsize": size(11), "color": INK, "va": "center",
           "zorder": 1.5, **how},
    )  # fmt: skip


def paler(colour: str) -> Any:
    """Half way to white."""
    from matplotlib.colors import to_rgb

    return tuple((1 + part) / 2 for part in to_rgb(colour))


def variant_colours(members: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Of (variant, group): a colour for each variant, of those of its group."""
    colours: dict[str, str] = {}
    used = dict.fromkeys(GROUPS, 0)
    for variant, group in members:
        if variant not in colours:
            palette = COLOURS[group]
            colours[variant] = palette[used[group] % len(palette)]
            used[group] += 1
    return colours


def label_ends(axes: Any, ends: Iterable[End], lines: int = 1) -> None:
    """Names of lines, of so many text lines each, at the right of the axes, moved apart where the
    lines end close together."""
    scaled = math.log if axes.get_yscale() == "log" else float
    low, high = map(scaled, axes.get_ylim())
    ends = sorted(ends, key=lambda end: end[2])
    gap = (high - low) * (0.28 if lines == 1 else 0.5) / axes.figure.get_figheight()
    places = spread([scaled(y) for _, _, y, _ in ends], gap, low, high)
    for (name, x, y, colour), place in zip(ends, places, strict=True):
        beside = (1.06, (place - low) / (high - low))
        axes.annotate(name, (x, y), xytext=beside, textcoords="axes fraction", va="center",
                      fontsize=size(11), color=INK, arrowprops=leader(colour),
                      annotation_clip=False)  # fmt: skip


def leader(colour: str) -> dict[str, Any]:
    """The line from a label to its point."""
    return {"arrowstyle": "-", "color": colour, "linewidth": 1.2, "relpos": (0, 0.5)}


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The ascending positions nearest to `wanted` of which no two are closer than `gap`.

    Pool adjacent violators: labels that collide form a block, which moves to its mean.
    """
    blocks: list[list[float]] = []  # [sum of (wanted - i * gap), count]
    for i, y in enumerate(wanted):
        blocks.append([y - i * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    placed = [total / count for total, count in blocks for _ in range(int(count))]
    last = len(placed) - 1
    return [
        min(max(y + i * gap, low + i * gap), high - (last - i) * gap) for i, y in enumerate(placed)
    ]
