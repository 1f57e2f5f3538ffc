"""The figures, each drawn from a result file alone."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.results import Results

# Of files that a report may have written, and that the next one replaces or removes.
PATTERNS = (
    "speedup_*.png", "ladder_*.png", "scaling.png", "memory.png", "phases_*.png", "batch.png",
    "threads.png", "roofline.png", "density.png", "quality_*.png", "pareto.png",
)  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A figure with the name of its file."""

    name: str
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
        """The image, of 256 colours: half the bytes of one of all colours."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        canvas = FigureCanvasAgg(self.figure)
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        buffer = io.BytesIO()
        image.quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG")
        return buffer.getvalue()


def draw(results: Results, narrow: bool = False) -> list[Drawn]:
    """Every figure for which the results have enough, in a layout for the page or the phone."""
    from bench.figures import (
        batch,
        density,
        ladder,
        memory,
        pareto,
        phases,
        quality,
        roofline,
        scaling,
        speedup,
        threads,
    )

    modules = (
        speedup, ladder, scaling, memory, quality, pareto, phases, batch, threads, density,
        roofline,
    )  # fmt: skip
    with style.layout(narrow):
        return [Drawn(*found) for module in modules for found in module.draw(results)]


def draw_all(results: Results, folder: Path) -> list[Drawn]:
    """Draw every figure into a folder."""
    drawn = draw(results)
    for figure in drawn:
        (folder / figure.name).write_bytes(figure.png)
    return drawn
