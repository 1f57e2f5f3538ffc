"""Scalar autograd on a tape in C++: the original's algorithm, compiled."""

from functools import partial

from bench.session import EngineSession, engine_available
from bench.variant import Variant


def tape(name: str, label: str, dtype: str) -> Variant:
    return Variant(
        name,
        label,
        "autograd tape",
        partial(EngineSession, name),
        engine_available(name),
        batches=(1,),
        dtype=dtype,
    )


VARIANTS = [
    tape("tape", "C++ tape, f64", "float64"),
    tape("tape32", "C++ tape, f32", "float32"),
]
