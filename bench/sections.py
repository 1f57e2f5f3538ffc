"""The sections of the report in their order, for README.md and for the page."""

from __future__ import annotations

from bench import probe_report, quality_report
from bench.figures import Drawn
from bench.results import Results
from bench.tables import Part, comparison_table, heading, memory_table, no_baseline, table

COMPARISONS = """\
Factors between rows, each the median of the ratios of its rounds. A warning stands where the
interval holds 1 (neither is shown to be faster), where it is wide, or where rounds were few."""
MEMORY = """\
*Process* is the most that the process had in memory at once: interpreter, libraries and corpus
included. *Engine* is what the engine says that it holds: weights, moments, activations, batches."""


def sections(results: Results, figures: list[Drawn]) -> list[Part]:
    """Every figure stands in one of them; what no section asks for stands at the end."""
    named = {figure.name: figure for figure in figures}

    def take(*names: str) -> list[Drawn]:
        return [named.pop(name) for name in names if name in named]

    parts = []
    for workload in results.workloads:
        drawn = take(f"speedup_{workload}.png", f"ladder_{workload}.png")
        lines = table(results, workload)
        words = no_baseline(results, workload)
        parts.append(Part(heading(results, workload), words, drawn, [lines]))
        if compared := comparison_table(results, workload):
            name = f"{workload}: who is faster than whom"
            parts.append(Part(name, COMPARISONS, [], [compared], level=3))
    if drawn := take("scaling.png"):
        parts.append(Part("Size", "", drawn))
    if lines := memory_table(results):
        parts.append(Part("Memory", MEMORY, take("memory.png"), [lines]))
    probed = [*quality_report.parts(results, figures), *probe_report.parts(results, figures)]
    parts += probed
    take(*(figure.name for part in probed for figure in part.figures))
    if named:
        parts.append(Part("Further figures", "", list(named.values())))
    return parts
