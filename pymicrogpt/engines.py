"""What can train a model on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class EngineInfo:
    """An engine, as engines() lists it.

    name: what Trainer(engine=...) takes
    available: whether it runs here
    reason: why it cannot; empty where it can
    isa: what it was compiled for, in words
    lanes: values per vector
    dtype: of its parameters, "float32" or "float64"
    """

    name: str
    available: bool
    reason: str
    isa: str
    lanes: int
    dtype: str


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reference_engine() -> EngineInfo:
    import platform  # here, as everything that imports the package pays for what is above

    python = f"{platform.python_implementation()} {platform.python_version()}"
    return EngineInfo("reference", True, "", python, 1, "float64")


def engines() -> list[EngineInfo]:
    """Every engine by name: the pure-Python reference, then the compiled ones, best first."""
    from . import _core

    return [reference_engine(), *(EngineInfo(**record) for record in _core.engines())]
