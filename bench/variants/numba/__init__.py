"""Numba: the derivatives by hand in loops of Python, which LLVM compiles as a session opens.

Sums keep their order (fastmath is off), so that LLVM may vectorise no dot product. Every product
therefore adds rows to rows, four at a time, its innermost loop over the outputs, which lie side by
side: weights are kept transposed as well.
"""

from bench.task.workload import WORKLOADS
from bench.variants.sessions import packages_available, session_of
from bench.variants.variant import Variant

VARIANTS = [
    Variant(
        "numba",
        "Numba, derived by hand",
        "hand-derived",
        session_of("bench.variants.numba.model:NumbaSession"),
        packages_available("numba"),
        workloads=tuple(WORKLOADS),
        slow_on=tuple(WORKLOADS),  # to compile
        timeout=300.0,
    )
]
