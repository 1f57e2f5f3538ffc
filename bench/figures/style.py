"""What the figures share: colours, number formats, title and footer."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.statistics import LEVEL, SPREAD_LIMIT
from bench.variant import GROUPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from bench.results import Results
    from bench.statistics import Estimate

# petroff10, a palette that colour-blind people can tell apart, shared out among the groups: the
# first colour stands for the group, the others for its further members.
COLOURS = {
    "pure Python": ("#94a4a2", "#717581"),
    "autograd tape": ("#ffa90e", "#e76300", "#b9ac70"),
    "array libraries": ("#2e8b57", "#8fbc5a", "#1f5f4a", "#5fb89a"),
    "hand-derived": ("#3f90da", "#92dadd"),
    "SIMD": ("#832db6", "#bd1f01"),
    "other": ("#a96b59",),
}
assert tuple(COLOURS) == GROUPS
WORKLOAD_COLOURS = {
    "d16": "#3f90da", "d32": "#ffa90e", "d64": "#832db6", "d128": "#bd1f01", "d256": "#717581",
}  # fmt: skip
TIMES = "\N{MULTIPLICATION SIGN}"
INK = "#222222"
QUIET = "#666666"
WARNING = "\N{WARNING SIGN}"  # beside a value that is known too badly
WIDTH, NARROW_WIDTH = 10.0, 5.6  # inches
DPI = 200  # twice what a screen needs

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


def log_ticks(axis: Axis) -> None:
    """1, 10, 100, 1k and so on."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    def compact(value: float, _: int) -> str:
        for size, unit in ((1e6, "M"), (1e3, "k")):
            if value >= size:
                return f"{value / size:g}{unit}"
        return f"{value:g}"

    axis.set_major_formatter(FuncFormatter(compact))
    axis.set_minor_locator(NullLocator())


def new_figure(height: float) -> tuple[Figure, Axes]:
    """A figure of WIDTH x height inches; finish() makes it higher by what stands below."""
    figure, (axes,) = new_panels(height)
    return figure, axes


def new_panels(height: float, rows: tuple[float, ...] = (1,), columns: int = 1, **share: bool):
    """The same with several axes: rows of these relative heights, of `columns` axes each.

    `share` is sharex and sharey of matplotlib.
    """
    from matplotlib.figure import Figure

    width = NARROW_WIDTH if _narrow else WIDTH
    if _narrow and columns > 1:  # one below the other
        height, rows, columns = height * columns, rows * columns, 1
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=rows, **share)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=size(11), colors=INK)
        axes.grid(True, which="major", color="#dddddd", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, list(grid.flat)


def finish(
    figure: Figure,
    results: Results,
    title: str,
    notes: list[str] | None = None,
    threads: str = "one thread",
) -> None:
    """The finding above, notes and provenance below."""
    title_columns, note_columns = (46, 76) if _narrow else (70, 118)
    lines = textwrap.wrap(title, title_columns)
    width = 1 + len(title) // len(lines)  # lines of about the same length
    while len(textwrap.wrap(title, width)) > len(lines):
        width += 1
    text = textwrap.fill(title, width)
    figure.suptitle(text, x=0.012, ha="left", fontsize=size(17), fontweight="bold", color=INK)
    lines = [line for note in notes or [] for line in textwrap.wrap(note, note_columns)]
    lines += textwrap.wrap(provenance(results, threads), note_columns)
    figure.set_figheight(figure.get_figheight() + 0.16 * len(lines))
    figure.supxlabel("\n".join(lines), x=0.012, ha="left", fontsize=size(9.5), color=QUIET)


def bar_figure(count: int, above: float = 1.6) -> tuple[Figure, Axes]:
    """A figure for `count` horizontal bars; `above` inches are for all else."""
    return new_figure(above + (0.47 if _narrow else 0.36) * count)


def bar_height() -> float:
    return 0.46 if _narrow else 0.74


def name_bars(axes: Axes, names: list[str]) -> None:
    """Names of horizontal bars at 0, 1, ...: left of them, or where it is narrow above them."""
    axes.grid(visible=False, axis="y")
    names = [textwrap.shorten(name, 48, placeholder=" ...") for name in names]
    if not _narrow:
        axes.set_yticks(range(len(names)), names, fontsize=12)
        axes.set_ylim(len(names) - 0.4, -0.6)
        return
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.6, -0.9)
    for y, name in enumerate(names):
        axes.annotate(
            name,
            (0, y - 0.45),
            xycoords=axes.get_yaxis_transform(),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            fontsize=size(12),
            color=INK,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def whisker(axes: Axes, x: float, y: float, found: Estimate, along: str) -> None:
    """The interval of a value that is drawn at (x, y), along "x" or "y"; none of one round."""
    if found.rounds > 1:
        ends = [[found.value - found.low], [found.high - found.value]]
        axes.errorbar(x, y, **{f"{along}err": ends}, color=INK, linewidth=1.4, capsize=3, zorder=3)


def group_legend(axes: Axes, groups: list[str], loc: str = "") -> None:
    """Inside of the axes at `loc`, or above them."""
    from matplotlib.patches import Patch

    handles = [
        Patch(color=colours[0], label=group)
        for group, colours in COLOURS.items()
        if group in groups
    ]
    place = {"loc": loc}
    if not loc:
        columns = 2 if _narrow else 4
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "ncols": columns}
    axes.legend(handles=handles, **place, fontsize=size(11), framealpha=0.9, edgecolor="none")


def provenance(results: Results, threads: str = "one thread") -> str:
    about = results.run
    version = f"pymicrogpt {about['pymicrogpt_version']}"
    if about.get("commit"):
        version += f" ({about['commit']})"
    return (
        f"{about['cpu_model_name']}, {threads} | {version} | {about['date'][:10]} | "
        f"{about['corpus']}"
    )


def digits(value: float) -> str:
    """Three significant digits, thousands separated: 0.85, 12.3, 1,230."""
    if value >= 99.95:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def times(factor: float) -> str:
    return f"{digits(factor)}{TIMES}"


def micro(microseconds: float) -> str:
    return f"{digits(microseconds)} µs"


def duration(microseconds: float) -> str:
    """In the unit that keeps it short."""
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            return f"{digits(microseconds / size)} {unit}"
    return micro(microseconds)


def per_cent(fraction: float) -> str:
    if fraction < 0.001:
        return "< 0.1 %"
    return f"{100 * fraction:.1f} %" if fraction < 0.0995 else f"{100 * fraction:.0f} %"


def warned(text: str, doubts: list[str]) -> str:
    """With a mark behind it where there are doubts."""
    return f"{text} {WARNING}" if doubts else text


def whisker_note(found: Iterable[Estimate]) -> str:
    """What the whiskers of a figure are worth."""
    fewest = min(found, key=lambda estimate: estimate.rounds)
    if fewest.level == LEVEL:
        return f"Whiskers: {100 * LEVEL:.0f} % intervals."
    if fewest.rounds == 1:
        return "Whiskers: intervals; none where there was one round."
    return (
        f"Whiskers: {100 * LEVEL:.0f} % intervals, but of fewer than six rounds their range, worth "
        f"{100 * fewest.level:.0f} % for {fewest.rounds}."
    )


def warning_note() -> str:
    return (
        f"{WARNING}: known no better than \N{PLUS-MINUS SIGN}{100 * SPREAD_LIMIT:.0f} %, or of few "
        "rounds."
    )


def interval(found: Estimate) -> str:
    """Its ends, and the level where that is not the usual one."""
    if found.rounds == 1:
        return "none"
    ends = f"{digits(found.low)} to {digits(found.high)}"
    return ends if found.level == LEVEL else f"{ends} ({100 * found.level:.0f} %)"


def megabytes(count: float) -> str:
    return f"{digits(count / 1e6)} MB"


def text_on_white(axes: Axes, x: float, y: float, text: str, offset: tuple[float, float], **how):
    """A value label `offset` points away from (x, y), above the grid and below what is drawn."""
    axes.annotate(
        text,
        (x, y),
        xytext=offset,
        textcoords="offset points",
        **{"fontsize": size(11), "color": INK, "va": "center", "zorder": 1.5, **how},
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def paler(colour: str) -> tuple[float, ...]:
    """Half way to white."""
    from matplotlib.colors import to_rgb

    return tuple((1 + part) / 2 for part in to_rgb(colour))
