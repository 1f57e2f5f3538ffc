"""PyTorch with autograd: eager, and through torch.compile, there also on a GPU.

What was tried, microseconds per sample at n_embd 16 and 64, batch 16, on one core of a Zen 4 (a
shared machine: within 10 %):

    eager, attention by softmax and two products, index of rows by document   83   126
    the same, torch.optim.Adam(fused=True) on one flat parameter              85   135
    the same, F.rms_norm instead of three operations                          88   131
    the same, embeddings as products with one-hot rows                        88   129
    F.scaled_dot_product_attention                                            78   125
    and batches as slices of padded documents (kept)                          68   109
    compiled, all batches padded to block_size                                44    91
    compiled, mode="max-autotune-no-cudagraphs"                               34     -
    compiled, batches padded to one of a few lengths                          34     -

Of a compiled step at batch 1 most is Python around it: the C++ wrapper (kept) took it from 280 to
160 microseconds at n_embd 16. Compiling is not timed.

On a GPU (docs/benchmark.md has a run; nothing was tried) a step is a CUDA graph, in f32 without
TF32. The time has in it that all documents go to the GPU as a run of steps begins, and all losses
back as it ends.
"""

from functools import partial

from bench.task.workload import WORKLOADS
from bench.variants.gpu import on_gpu
from bench.variants.sessions import library

MODEL = "bench.variants.torch.model"
PIP = "torch --index-url https://download.pytorch.org/whl/cpu"  # without a GPU's libraries

row = partial(library, package="torch", pip=PIP, source="bench/variants/torch/model.py")
VARIANTS = [
    row("torch-eager", "PyTorch, eager", f"{MODEL}:EagerSession",
        about="PyTorch with its autograd, one call an operation, on one core."),
    row("torch-compile", "PyTorch, compiled", f"{MODEL}:CompiledSession",
        slow_on=tuple(WORKLOADS), timeout=600.0,
        about="The same model through torch.compile: loss, gradient and update in one function."),
    on_gpu(
        row("torch-gpu", "PyTorch, GPU", f"{MODEL}:GpuSession", group="other",
            slow_on=tuple(WORKLOADS), timeout=600.0,
            about="The compiled model on a GPU, the transfer of the documents included."),
        "import torch; assert torch.cuda.is_available()",
        "PyTorch sees no GPU; pip install --force-reinstall torch has the build for one",
    ),
]  # fmt: skip
