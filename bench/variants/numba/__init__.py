"""Numba: the derivatives by hand in loops of Python, which LLVM compiles as a session opens.

Sums keep their order (fastmath is off), so that LLVM may vectorise no dot product. Every product
therefore adds rows to rows, four at a time, its innermost loop over the outputs, which lie side by
side: weights are kept transposed as well.
"""

from bench.task.workload import WORKLOADS
from bench.variants.sessions import library

SESSION = "bench.variants.numba.model:NumbaSession"
VARIANTS = [
    library("numba", "Numba, derived by hand", SESSION, "numba", group="hand-derived",
            slow_on=tuple(WORKLOADS),  # to compile
            timeout=300.0, source="bench/variants/numba/model.py",
            about="The derivatives by hand as loops in Python, which LLVM compiles before the "
            "first step.")
]  # fmt: skip
