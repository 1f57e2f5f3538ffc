"""The figures, each drawn from a result file alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.results import Results


def draw_all(results: Results, folder: Path) -> list[str]:
    """Draw every figure for which the results have enough; returns the names of the files."""
    from bench.figures import batch, ladder, phases, roofline, scaling, speedup, threads

    names = []
    for module in (speedup, ladder, scaling, phases, batch, threads, roofline):
        for name, figure in module.draw(results):
            figure.savefig(folder / name)
            names.append(name)
    return names
