"""The same kernels through intrinsics, with and without sharing common prefixes of a batch."""

from functools import partial

from bench.session import EngineSession, engine_available
from bench.variant import Variant


def rows(engine: str, label: str) -> list[Variant]:
    return [
        Variant(
            engine,
            label,
            "SIMD",
            partial(EngineSession, engine),
            engine_available(engine),
        ),
        Variant(
            f"{engine}-nosharing",
            f"{label}, no prefix sharing",
            "SIMD",
            partial(EngineSession, engine, prefix_sharing=False),
            engine_available(engine),
            batches=(16,),
            variation_of=engine,
        ),
    ]


VARIANTS = [*rows("neon", "NEON"), *rows("avx2", "AVX2"), *rows("avx512", "AVX-512")]
