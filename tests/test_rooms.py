"""The house of pymicrogpt: its imports go one way, and what prints is the command alone."""

from __future__ import annotations

import ast

from conftest import REPO
from imports import imports_of

PACKAGE = REPO / "pymicrogpt"
# From the ground up: what a module imports is on its own floor or below, whatever is not named here
# on that of the room around it.
FLOORS = [
    set(modules.split())
    for modules in (
        "_core _words _stream _pareto _signals config engines engine_info reference storage",
        "_documents _text _names corpus tokenizer _init _reference_engine",
        "storage.weights storage.checkpoint",
        "model trainer recipes",
        "pymicrogpt sweep",
        "cli __main__",
    )
]
IMPORTS = imports_of(PACKAGE, relative=True)


def floor(module: str) -> int:
    parts = module.split(".")[1:] or ["pymicrogpt"]
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    found = [level for name in names for level, modules in enumerate(FLOORS) if name in modules]
    assert found, f"{module} is on no floor"
    return found[0]


def test_no_import_goes_upwards():
    upwards = [
        (module, other)
        for module, others in IMPORTS.items()
        for other in others
        if floor(other) > floor(module)
    ]
    assert upwards == []


def test_a_command_knows_no_other_command():
    commands = {f"pymicrogpt.cli.{name}" for name in ("train", "sweep", "info", "web")}
    for module, others in IMPORTS.items():
        if module != "pymicrogpt.cli._main":
            assert not commands & others, module


def test_only_the_command_prints():
    for file in PACKAGE.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        prints = any(isinstance(node, ast.Name) and node.id == "print" for node in ast.walk(tree))
        assert not prints or file.parent.name == "cli" or file.name == "reference.py", file
