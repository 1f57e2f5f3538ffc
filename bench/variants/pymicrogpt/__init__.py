"""The engines of pymicrogpt: tapes, derived by hand in C++, and SIMD kernels through intrinsics.

A SIMD engine has two more rows, of which each changes one thing in the row before it: without
skipping zeros, and then without prefix sharing.
"""

from functools import partial
from typing import Any

import pymicrogpt
from bench.task.workload import WORKLOADS
from bench.variants.sessions import EngineSession, engine_available
from bench.variants.variant import Variant

ENGINES = {info.name: info for info in pymicrogpt.engines()}


def row(engine: str, group: str, name: str = "", words: str = "", **settings: Any) -> Variant:
    """`session` among the settings is for the session, the others are for the variant."""
    open_session = partial(EngineSession, engine, **settings.pop("session", {}))
    label, dtype = ENGINES[engine].label + words, ENGINES[engine].dtype
    available = engine_available(engine)
    return Variant(name or engine, label, group, open_session, available, dtype=dtype, **settings)


def simd(engine: str) -> list[Variant]:
    dense, plain = f"{engine}-nosparsity", f"{engine}-plain"
    every = tuple(WORKLOADS)
    return [
        row(engine, "SIMD", workloads=every, skips_zeros=ENGINES[engine].skip_zeros,
            source=f"cpp/isa/{engine}.cpp",
            about="The derivatives by hand in kernels over vectors, written once for every "
            "instruction set; the file has the vectors of this one. Documents that begin alike "
            "share what they begin with, and zeros of the MLP are skipped."),
        row(engine, "SIMD", dense, ", no sparsity", variation_of=engine, workloads=every,
            session={"skip_zeros": False}, source="cpp/kernels/mlp.h",
            about="The same, but it multiplies by the zeros of the MLP as well."),
        row(engine, "SIMD", plain, ", plain", variation_of=dense, batches=(16,), workloads=every,
            session={"skip_zeros": False, "prefix_sharing": False}, source="cpp/batch.h",
            about="The same again, and each document is computed from its first token on."),
    ]  # fmt: skip


VARIANTS = [
    row("tape", "autograd tape", batches=(1,), source="cpp/tape.h",
        about="Scalar autograd as in the original, its graph on one tape: each operation is a "
        "record in an array, and backward walks it in reverse."),
    row("tape32", "autograd tape", batches=(1,), source="cpp/tape.h",
        about="The same tape in single precision."),
    row("scalar", "hand-derived", source="cpp/kernels/plain.h",
        about="Forward and backward derived by hand, in plain C++ loops; the compiler's "
        "vectoriser is off."),
    row("autovec", "hand-derived", source="cpp/kernels/plain.h",
        about="The same source with the vectoriser on, for the instructions of this CPU."),
]  # fmt: skip
for info in reversed(ENGINES.values()):  # the best last
    VARIANTS += simd(info.name) if info.simd else []
