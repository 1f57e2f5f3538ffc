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
