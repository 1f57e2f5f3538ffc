"""JAX: one jitted loop over the steps, with all documents on the device.

What was tried, microseconds per sample on one core of a Zen 4 (a shared machine: within 10 %), at
n_embd 16 with batch 1 and 16, then at n_embd 64:

    all batches padded to block_size, gradients of one flat vector   70  22   850  98
    tensors on their own, embeddings as products with one-hot rows   45  20   125  74
    tensors on their own, embeddings by index                        36  17   122  71
    and batches padded to one of eleven lengths                      32  14    94  51

Three lengths (kept) are between the last two lines, and compiled in a quarter of the time. The
flags for wider vectors, fast maths, XNNPACK, the fusion emitters and the scheduler changed nothing.
Compiling is not timed.
"""

from bench.task.workload import WORKLOADS
from bench.variants.sessions import library

SESSION = "bench.variants.jax.model:JaxSession"
VARIANTS = [
    library("jax", "JAX, jit of the whole loop", SESSION, "jax", slow_on=tuple(WORKLOADS),
            timeout=600.0, source="bench/variants/jax/model.py",
            about="JAX's autograd, and one compiled loop over the steps, on one core.")
]  # fmt: skip
