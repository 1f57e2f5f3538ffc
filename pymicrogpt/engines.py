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
    lanes: values per vector; 0 where it is not part of this build
    dtype: of its parameters, "float32" or "float64"
    label: its name in reports
    arch: the kind of CPU that it is for, "x86_64" or "aarch64"; empty for any
    supported: whether this CPU has what it takes, be it part of this build or not
    simd: whether it is written over vectors, through intrinsics
    prefix_sharing: whether it computes what documents begin with once
    skip_zeros: whether it leaves out hidden values that are zero, and counts them
    threads: whether several can share a step
    generates: whether GPT.generate takes it
    phases: whether it can tell how long each phase of a step takes
    """

    name: str
    available: bool
    reason: str
    isa: str
    lanes: int
    dtype: str
    label: str = ""
    arch: str = ""
    supported: bool = True
    simd: bool = False
    prefix_sharing: bool = False
    skip_zeros: bool = False
    threads: bool = False
    generates: bool = False
    phases: bool = False


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reference_engine() -> EngineInfo:
    import platform  # here, as everything that imports the package pays for what is above

    implementation = platform.python_implementation()
    isa = f"{implementation} {platform.python_version()}"
    return EngineInfo("reference", True, "", isa, 1, "float64", implementation)


def engines() -> list[EngineInfo]:
    """Every engine by name: the pure-Python reference, then the compiled ones, best first."""
    from . import _core

    return [reference_engine(), *(EngineInfo(**record) for record in _core.engines())]
