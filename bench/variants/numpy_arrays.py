"""NumPy, the derivatives by hand: each operation of a whole batch is one call.

Kept because it was fastest: q, k and v in one product, weight gradients written by the product into
their place in one flat vector, embedding gradients as a product with one-hot rows, batches cut to
their longest document. A step at n_embd 16 is some eighty calls, whatever the size of the batch.
"""

from bench.session import packages_available
from bench.task import Task
from bench.variant import Session, Variant


def open_session(task: Task) -> Session:
    from bench.arrays.numpy_model import NumpySession

    return NumpySession(task)


VARIANTS = [
    Variant(
        "numpy",
        "NumPy, derived by hand",
        "array libraries",
        open_session,
        packages_available("threadpoolctl"),
    )
]
