"""What a finding gives to the report: parts, with figures in two layouts and two formats."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from bench.cases import CASES
from bench.report import findings
from bench.report.plot import Spot, layout, spots
from bench.results import Results, check

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

PICTURE = "share.png"  # of the report, for where people link to it
COLOURS = 28  # of an image, beside those of its areas
AREA = 100  # pixels of a colour that people see, and that does not only smooth an edge
UNSEEN = 12  # of 255: so far may a colour of an area be off
Table = list[tuple[str, ...]]  # head first


@dataclass(frozen=True)
class Drawn:
    """A figure in one layout."""

    figure: Figure

    @property
    def title(self) -> str:
        """The finding."""
        return " ".join(self.figure.get_suptitle().split())

    @property
    def notes(self) -> str:
        """How to read it, and where it comes from."""
        return " ".join(self.figure.get_supxlabel().split())

    @cached_property
    def png(self) -> bytes:
        """The image, in few colours: a third of the bytes of one of all colours."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        buffer = io.BytesIO()
        of_few_colours(np.array(canvas.buffer_rgba())).save(buffer, "PNG", optimize=True)
        return buffer.getvalue()

    @cached_property
    def svg(self) -> str:
        """The drawing with its text as text, and a third of what matplotlib writes."""
        import matplotlib

        buffer = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pymicrogpt"}):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        return short_svg(buffer.getvalue())

    @cached_property
    def spots(self) -> list[Spot]:
        """Values that can be pointed at."""
        assert self.svg  # places are known after drawing
        return spots(self.figure)

    @property
    def pixels(self) -> tuple[float, float]:
        """Width and height, in the units of the spots."""
        return self.figure.bbox.width, self.figure.bbox.height


def of_few_colours(pixels: np.ndarray) -> Image.Image:
    """The image of pixels (height, width, RGBA), each in the nearest of COLOURS colours, and of
    those that fill an area, as the colours of a legend do that stand nowhere else."""
    from PIL import Image

    image = Image.fromarray(pixels).convert("RGB")
    means = image.quantize(COLOURS, kmeans=2, dither=Image.Dither.NONE).getpalette() or []
    palette = np.reshape(means[: 3 * COLOURS], (-1, 3))
    _, first, places, counts = np.unique(pixels.view(np.uint32), True, True, True)
    colours = pixels.reshape(-1, 4)[first, None, :3].astype(int)
    far = np.abs(colours - palette).max(axis=2).min(axis=1) > UNSEEN
    palette = np.concatenate([palette, colours[far & (counts >= AREA), 0]])
    nearest = np.square(colours - palette).sum(axis=2).argmin(axis=1).astype(np.uint8)
    few = Image.fromarray(nearest[places].reshape(pixels.shape[:2]))
    few.putpalette(palette.astype(np.uint8).tobytes())
    return few


def short_svg(text: str) -> str:
    """The same drawing: each style once, short names, groups for clipping alone, no font for each
    text, circles as such, no comments, no paths of a point, and no digits that nobody sees."""

    def short_tag(found: re.Match[str]) -> str:
        tag = re.sub(r" font-family: [^;\"]*;| transform=\"rotate\(-0 [^\"]*\"", "", found[0])
        tag = re.sub(r"(\.\d)\d+", r"\1", re.sub(r"\s+", " ", tag)).replace("xlink:", "")
        tag = re.sub(r"\.0(?!\d)", "", tag)
        tag = tag.replace(": ", ":").replace("; ", ";").replace(' "', '"')
        tag = re.sub(r"(?<=\d) (?=[MLQCz])|(?<=[MLQC]) (?=[-\d])", "", tag)
        tag = re.sub(r"M(\S+) (\S+?)L(\S+) \2L\3 (\S+?)L\1 \4z", r"M\1 \2H\3V\4H\1z", tag)
        tag = re.sub(r'"M(\S+) (\S+?)L\1 ([-\d.]+)"', r'"M\1 \2V\3"', tag)
        tag = re.sub(r'"M(\S+) (\S+?)L([-\d.]+) \2"', r'"M\1 \2H\3"', tag)
        clipped = re.fullmatch(r'<path(.*?)( clip-path="[^"]*")(.*)/>', tag)
        return "<g{1}><path{0}{2}/></g>".format(*clipped.groups()) if clipped else tag

    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<[^>]+>", short_tag, text[text.index("<svg ") :])
    text = re.sub(r'<path d="M[-\d. ]*"[^>]*/>', "", re.sub(r">\s+<", "><", text.strip()))
    text = re.sub(r'<path([^>]*) d="M0 ([\d.]+)C[^"]* 0 \2z"', r'<circle\1 r="\2"', text)
    parts: list[str] = []
    groups: list[str] = []  # open ones
    clip = ""  # of the group that the last part has closed
    for part in filter(None, re.split(r"(<g\b[^>]*>|</g>)", text)):
        if part == "</g>":
            if ended := groups.pop():
                parts.append(part)
                clip = ended
            continue
        if part.startswith("<g"):
            groups.append(part if "clip-path" in part else "")
            if not groups[-1]:
                continue
        if part == clip:
            parts.pop()  # it goes on
        else:
            parts.append(part)
        clip = ""
    text = "".join(parts)
    for index, name in enumerate(dict.fromkeys(re.findall(r' id="([^"]+)"', text))):
        text = text.replace(f'"{name}"', f'"i{index}"').replace(f"#{name}", f"#i{index}")
    rules = "text{white-space:pre;font-family:DejaVu Sans,Verdana,sans-serif}"
    styles = Counter(re.findall(r' style="([^"]*)"', text))
    for index, style in enumerate(style for style, uses in styles.items() if uses > 1):
        text = text.replace(f' style="{style}"', f' class="s{index}"')
        rules += f".s{index}{{{style}}}"
    return text.replace("</style>", f"{rules}</style>", 1)


@dataclass(frozen=True)
class Drawing:
    """A figure by the name of its file, drawn when it is asked for."""

    name: str  # that of its finding, and what follows "_" where that has several
    plot: Callable[[], Figure]

    @cached_property
    def wide(self) -> Drawn:
        with layout(narrow=False):
            return Drawn(self.plot())

    @cached_property
    def narrow(self) -> Drawn:
        with layout(narrow=True):
            return Drawn(self.plot())

    @property
    def file(self) -> str:
        return f"{self.name}.png"


@dataclass(frozen=True)
class Part:
    """A section of the report; without a figure, a table and a reason it is a heading alone."""

    place: tuple[int, ...]  # in the report, as (4, 2) comes behind (4,) and (4, 1)
    heading: str
    text: str = ""  # paragraphs; *emphasis* and `code` as in Markdown
    drawings: list[Drawing] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # what was not measured, and why
    level: int = 2  # of the heading

    @property
    def empty(self) -> bool:
        return not (self.drawings or any(len(table) > 1 for table in self.tables) or self.missing)


Parts = Iterator[Part]  # what a finding has to say


def modules() -> list[ModuleType]:
    """The findings: one for each file in their folder."""
    return [import_module(f"{findings.__name__}.{m.name}") for m in iter_modules(findings.__path__)]


def all_parts(results: Results) -> list[Part]:
    """What every finding has to say of these results, in the order of the report. ValueError where
    the cases of a probe are not what their finding reads."""
    for index, probe in enumerate(results.probes):
        if kind := CASES.get(probe.name):
            check(probe.cases, list[kind], f"the cases of probe {index}")  # type: ignore[valid-type]
    found = [part for module in modules() for part in module.parts(results)]
    found = [part for part in found if not (part.empty and part.text)]
    return sorted(found, key=lambda part: part.place)


def not_measured(results: Results, name: str) -> list[str]:
    """Of a probe, why it has no values where it has none."""
    return [
        f"Not measured: {f'{p.workload}: ' if p.workload else ''}{p.status}: {p.reason}"
        for p in results.probes
        if p.name == name and p.status != "ok"
    ]


def used_columns(lines: Table) -> list[int]:
    """Columns in which something stands below the head."""
    return [i for i in range(len(lines[0])) if any(line[i] for line in lines[1:])]


def number_columns(lines: Table) -> set[int]:
    """Columns of nothing but numbers, with or without a unit, to be set flush right."""
    columns = set()
    for i in range(1, len(lines[0])):
        cells = [line[i] for line in lines[1:] if line[i] and line[i] != "none"]
        if cells and all(cell.lstrip("< ")[:1].isdigit() for cell in cells):
            columns.add(i)
    return columns


def text_of(lines: Table) -> str:
    """For a terminal."""
    columns, right = used_columns(lines), number_columns(lines)
    widths = {i: max(len(line[i]) for line in lines) for i in columns}
    return "\n".join(
        "  ".join(
            line[i].rjust(widths[i]) if i in right else line[i].ljust(widths[i]) for i in columns
        ).rstrip()
        for line in lines
    )
