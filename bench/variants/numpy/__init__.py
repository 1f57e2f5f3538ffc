"""NumPy, the derivatives by hand: each operation of a whole batch is one call.

q, k and v are one product, and products write weight gradients into their place in one flat vector.
Rows of padding exist in attention alone. A step is some ninety calls, whatever the size of the
batch. What was tried, microseconds of processor time per sample on one core of a Zen 4, at n_embd
16 with batch 1 and 16, then at n_embd 64:

    all batches padded to block_size               150  29  283  98
    cut to their longest document                  150  22  253  62
    the same, embedding gradients by np.add.at     149  23  271  72
    the same, attention by np.einsum               165  36  283  84
    no padding outside of attention (kept)         145  21  253  54
"""

from bench.variants.sessions import library

SESSION = "bench.variants.numpy.model:NumpySession"
VARIANTS = [
    library(
        "numpy",
        "NumPy, derived by hand",
        SESSION,
        "threadpoolctl",
        about="The derivatives by hand, each operation of a whole batch in one call of NumPy.",
        source="bench/variants/numpy/model.py",
    )
]
