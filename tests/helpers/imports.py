"""Which module of a package imports which."""

from __future__ import annotations

import ast
from pathlib import Path


def imports_of(package: Path, *, relative: bool) -> dict[str, set[str]]:
    """By module, the modules of the same package that it imports anywhere, also for types alone.
    relative: whether `from . import` is its style, or an error"""

    def name_of(file: Path) -> str:
        parts = file.relative_to(package.parent).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    files = {
        name_of(file): file for file in package.rglob("*.py*") if file.suffix in (".py", ".pyi")
    }
    found: dict[str, set[str]] = {}
    for name, file in files.items():
        found[name] = set()
        # The packages around it, from its own on: `.`, `..` and so on.
        around = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert relative or not node.level, f"{name}: a relative import"
                home = around[: len(around) + 1 - node.level] if node.level else []
                module = ".".join([*home, *([node.module] if node.module else [])])
                inner = [f"{module}.{alias.name}" for alias in node.names]
                names = [inside if inside in files else module for inside in inner]
            found[name] |= set(names) & set(files)
    return found
