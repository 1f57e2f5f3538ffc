"""The engines of pymicrogpt: tapes, derived by hand in C++, and SIMD kernels through intrinsics.

A SIMD engine has two more rows, of which each changes one thing in the row before it: without
skipping zeros, and then without prefix sharing.
"""

from functools import partial
from typing import Any

from bench.task.workload import WORKLOADS
from bench.variants.sessions import EngineSession, engine_available
from bench.variants.variant import Variant


def row(engine: str, label: str, group: str, name: str = "", **settings: Any) -> Variant:
    """`session` among the settings is for the session, the others are for the variant."""
    open_session = partial(EngineSession, engine, **settings.pop("session", {}))
    return Variant(name or engine, label, group, open_session, engine_available(engine), **settings)


def simd(engine: str, label: str) -> list[Variant]:
    dense, plain = f"{engine}-nosparsity", f"{engine}-plain"
    every = tuple(WORKLOADS)
    return [
        row(engine, label, "SIMD", workloads=every),
        row(engine, f"{label}, no sparsity", "SIMD", dense, variation_of=engine, workloads=every,
            session={"skip_zeros": False}),
        row(engine, f"{label}, plain", "SIMD", plain, variation_of=dense, batches=(16,),
            workloads=every, session={"skip_zeros": False, "prefix_sharing": False}),
    ]  # fmt: skip


VARIANTS = [
    row("tape", "C++ tape, f64", "autograd tape", batches=(1,), dtype="float64"),
    row("tape32", "C++ tape, f32", "autograd tape", batches=(1,)),
    row("scalar", "C++ scalar", "hand-derived"),
    row("autovec", "C++ auto-vectorised", "hand-derived"),
    *simd("neon", "NEON"),
    *simd("avx2", "AVX2"),
    *simd("avx512", "AVX-512"),
]
