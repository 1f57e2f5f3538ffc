"""What can train a model on this machine."""

from __future__ import annotations

import platform
from dataclasses import dataclass


@dataclass(frozen=True)
class EngineInfo:
    name: str  # what Trainer(engine=...) takes
    available: bool
    reason: str  # why it cannot run here; empty when it can
    isa: str
    lanes: int  # values per vector
    dtype: str  # "float32" or "float64"


def reference_engine() -> EngineInfo:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return EngineInfo("reference", True, "", python, 1, "float64")


def engines() -> list[EngineInfo]:
    """Every engine by name: the pure-Python reference, then the compiled ones, best first."""
    from . import _core

    return [reference_engine(), *(EngineInfo(**record) for record in _core.engines())]
