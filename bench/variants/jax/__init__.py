"""JAX: one jitted loop over the steps, with all documents on the device: the CPU, or a GPU.

What was tried, microseconds per sample on one core of a Zen 4 (a shared machine: within 10 %), at
n_embd 16 with batch 1 and 16, then at n_embd 64:

    all batches padded to block_size, gradients of one flat vector   70  22   850  98
    tensors on their own, embeddings as products with one-hot rows   45  20   125  74
    tensors on their own, embeddings by index                        36  17   122  71
    and batches padded to one of eleven lengths                      32  14    94  51

Three lengths (kept) are between the last two lines, and compiled in a quarter of the time. The
flags for wider vectors, fast maths, XNNPACK, the fusion emitters and the scheduler changed nothing.
Compiling is not timed.

On a GPU (docs/benchmark.md has a run; nothing was tried) products are in f32 without TF32. The time
has in it that all documents go to the GPU as a run of steps begins, and all losses back as it ends.
"""

from bench.task.workload import WORKLOADS
from bench.variants.gpu import on_gpu
from bench.variants.sessions import library

MODEL, SOURCE = "bench.variants.jax.model", "bench/variants/jax/model.py"
VARIANTS = [
    library("jax", "JAX, jit of the whole loop", f"{MODEL}:JaxSession", "jax",
            slow_on=tuple(WORKLOADS), timeout=600.0, source=SOURCE,
            about="JAX's autograd, and one compiled loop over the steps, on one core."),
    on_gpu(
        library("jax-gpu", "JAX, GPU", f"{MODEL}:GpuSession", "jax", group="other",
                slow_on=tuple(WORKLOADS), timeout=600.0, source=SOURCE,
                about="The same loop on a GPU, the transfer of the documents included."),
        "import jax; jax.config.update('jax_platforms', 'cuda'); jax.devices()",
        "JAX sees no GPU; pip install 'jax[cuda12]' has what it needs for one",
    ),
]  # fmt: skip
