"""What the figures share: colours, number formats, title and footer."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from bench.variant import GROUPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from bench.results import Results

# petroff10, a palette that colour-blind people can tell apart, shared out among the groups: the
# first colour stands for the group, the others for its further members.
COLOURS = {
    "pure Python": ("#94a4a2", "#717581"),
    "autograd tape": ("#ffa90e", "#e76300", "#b9ac70"),
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
WIDTH = 10.0  # inches
DPI = 200  # twice what a screen needs


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

    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=rows, **share)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=11, colors=INK)
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
    lines = textwrap.wrap(title, 70)
    width = 1 + len(title) // len(lines)  # lines of about the same length
    while len(textwrap.wrap(title, width)) > len(lines):
        width += 1
    text = textwrap.fill(title, width)
    figure.suptitle(text, x=0.012, ha="left", fontsize=17, fontweight="bold", color=INK)
    lines = [line for note in notes or [] for line in textwrap.wrap(note, 118)]
    lines += textwrap.wrap(provenance(results, threads), 118)
    figure.set_figheight(figure.get_figheight() + 0.16 * len(lines))
    figure.supxlabel("\n".join(lines), x=0.012, ha="left", fontsize=9.5, color=QUIET)


def group_legend(axes: Axes, groups: list[str], loc: str) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(color=colours[0], label=group)
        for group, colours in COLOURS.items()
        if group in groups
    ]
    axes.legend(handles=handles, loc=loc, fontsize=11, framealpha=0.9, edgecolor="none")


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


def text_on_white(axes: Axes, x: float, y: float, text: str, offset: tuple[float, float], **how):
    """A value label `offset` points away from (x, y), above the grid and below what is drawn."""
    axes.annotate(
        text,
        (x, y),
        xytext=offset,
        textcoords="offset points",
        **{"fontsize": 11, "color": INK, "va": "center", "zorder": 1.5, **how},
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
    )


def paler(colour: str) -> tuple[float, ...]:
    """Half way to white."""
    from matplotlib.colors import to_rgb

    return tuple((1 + part) / 2 for part in to_rgb(colour))
