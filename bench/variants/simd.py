"""The same kernels through intrinsics; without skipping zeros, and then without prefix sharing."""

from functools import partial

from bench.session import EngineSession, engine_available
from bench.variant import Variant


def rows(engine: str, label: str) -> list[Variant]:
    """Each changes one thing in the row before it."""
    kind, here = "SIMD", engine_available(engine)
    dense = partial(EngineSession, engine, skip_zeros=False)
    plain = partial(EngineSession, engine, skip_zeros=False, prefix_sharing=False)
    no_sparsity = f"{engine}-nosparsity"
    return [
        Variant(engine, label, kind, partial(EngineSession, engine), here),
        Variant(no_sparsity, f"{label}, no sparsity", kind, dense, here, variation_of=engine),
        Variant(
            f"{engine}-plain",
            f"{label}, plain",
            kind,
            plain,
            here,
            batches=(16,),
            variation_of=no_sparsity,
        ),
    ]


VARIANTS = [*rows("neon", "NEON"), *rows("avx2", "AVX2"), *rows("avx512", "AVX-512")]
