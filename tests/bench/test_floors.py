"""The house of bench: its imports go one way, over few floors, and the report measures nothing."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from imports import imports_of

ROOT = Path(__file__).parents[2]
# From the ground up: what a module imports is on its own floor or below. The way of the data is
# task -> variants -> measure -> results.json -> report; the result file is known to both of its
# ends, and so lies beneath them.
FLOORS = (
    ("bench", "bench.command", "bench.cases", "bench.published", "bench.results"),
    ("bench.task",),
    ("bench.variants",),
    ("bench.measure", "bench.report"),
    ("bench.guard",),
    ("bench.run_all", "bench.__main__"),
)
MOST_FLOORS = 7  # modules on top of each other


IMPORTS = imports_of(ROOT / "bench", relative=False)


def floor(module: str) -> int:
    """That of the longest prefix of its name."""
    found = [
        (len(prefix), index)
        for index, prefixes in enumerate(FLOORS)
        for prefix in prefixes
        if module == prefix or (prefix != "bench" and module.startswith(prefix + "."))
    ]
    assert found, f"{module} is on no floor"
    return max(found)[1]


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def test_no_import_goes_upwards():
    upwards = [
        (module, other)
        for module, others in IMPORTS.items()
        for other in others
        if floor(other) > floor(module)
    ]
    assert upwards == []


def test_the_report_measures_nothing_and_what_measures_draws_nothing():
    for module, others in IMPORTS.items():
        rooms = {room(other) for other in others}
        if room(module) == "bench.report":
            assert not rooms & {"bench.measure", "bench.variants", "bench.guard"}, module
        if room(module) == "bench.measure":
            assert "bench.report" not in rooms, module
        if room(module) == "bench.results":
            assert rooms == set()


def test_floors_are_few_and_there_is_no_circle():
    open_: list[str] = []

    @cache
    def height(module: str) -> int:
        assert module not in open_, f"a circle: {[*open_, module]}"
        open_.append(module)
        found = 1 + max((height(other) for other in IMPORTS[module]), default=0)
        open_.remove(module)
        return found

    heights = {module: height(module) for module in IMPORTS}
    assert max(heights.values()) <= MOST_FLOORS, sorted(heights.items(), key=lambda x: -x[1])[:3]


def test_a_finding_knows_no_other_finding_and_pymicrogpt_no_bench():
    for module, others in IMPORTS.items():
        if module.startswith("bench.report.findings."):
            assert not [other for other in others if other.startswith("bench.report.findings.")]
    for file in (ROOT / "pymicrogpt").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] != "bench"
            elif isinstance(node, ast.Import):
                assert "bench" not in {alias.name.split(".")[0] for alias in node.names}
