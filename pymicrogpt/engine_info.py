"""What engines() tells of an engine."""

from __future__ import annotations

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
