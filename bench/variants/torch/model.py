"""The model in PyTorch: autograd, and Adam on one flat vector, eager, compiled, or on a GPU."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.task.task import Task
from bench.variants.gpu import launch_floor
from bench.variants.padded import PaddedSession, rates, tensor_places

BUCKETS = 3  # each is compiled on its own, for many seconds


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


class EagerSession(PaddedSession):
    device = "cpu"

    def __init__(self, task: Task):
        torch.set_num_threads(1)
        count = len(task.parameters)
        self.flat = torch.zeros(count, device=self.device, requires_grad=True)
        self.moment1 = torch.zeros(count, device=self.device)  # both over 1 - beta
        self.moment2 = torch.zeros(count, device=self.device)
        places = tensor_places(task)
        self.names = list(places)
        self.shapes = [shape for _, shape in places.values()]
        self.sizes = [rows * cols for rows, cols in self.shapes]
        super().__init__(task, f"torch {torch.__version__}")
        self.load()

    def load(self) -> None:
        """All documents, to the device."""
        self.tokens = torch.from_numpy(self.documents.tokens).to(self.device)
        self.weights = torch.from_numpy(self.documents.weights).to(self.device)

    def reset(self, parameters: np.ndarray) -> None:
        with torch.no_grad():
            self.flat.copy_(torch.from_numpy(parameters))
            self.moment1.zero_()
            self.moment2.zero_()

    def parameters(self) -> np.ndarray:
        return self.flat.detach().cpu().numpy().astype(float)

    def batch(self, first: int) -> tuple[Tensor, Tensor]:
        """Tokens (B, T + 1) and weights (B, T) of the batch that begins with document `first`."""
        rows, T = slice(first, first + self.task.batch_size), self.documents.longest[first]
        return self.tokens[rows, : T + 1], self.weights[rows, :T]

    def loss(self, flat: Tensor, tokens: Tensor, weights: Tensor) -> Tensor:
        parts = zip(flat.split(self.sizes), self.shapes, strict=True)
        w = dict(zip(self.names, (part.view(shape) for part, shape in parts), strict=True))
        (B, T), C, H = weights.shape, self.task.workload.n_embd, self.task.workload.n_head
        x = rms(F.embedding(tokens[:, :T], w["wte"]) + w["wpe"][:T])
        for i in range(self.task.workload.n_layer):
            qkv = F.linear(rms(x), w[f"layer{i}.attn_wqkv"]).view(B, T, 3, H, C // H)
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            mixed = mixed.transpose(1, 2).reshape(B, T, C)
            x = x + F.linear(mixed, w[f"layer{i}.attn_wo"])
            hidden = F.relu(F.linear(rms(x), w[f"layer{i}.mlp_fc1"]))
            x = x + F.linear(hidden, w[f"layer{i}.mlp_fc2"])
        logits = F.linear(x, w["lm_head"]).view(B * T, -1)
        each = F.cross_entropy(logits, tokens[:, 1:].reshape(B * T), reduction="none")
        return torch.dot(each, weights.reshape(B * T))

    def verify(self) -> tuple[float, np.ndarray]:
        loss = self.loss(self.flat, *self.batch(self.documents.first(self.done)))
        (gradient,) = torch.autograd.grad(loss, self.flat)
        return loss.item(), gradient.cpu().numpy().astype(float)

    def step(self, step: int) -> Tensor:
        loss = self.loss(self.flat, *self.batch(self.documents.first(step)))
        (gradient,) = torch.autograd.grad(loss, self.flat)
        rate, eps = rates(self.task, step)
        with torch.no_grad():
            self.moment1.mul_(self.task.workload.beta1).add_(gradient)
            self.moment2.mul_(self.task.workload.beta2).addcmul_(gradient, gradient)
            self.flat.addcdiv_(self.moment1, self.moment2.sqrt().add_(eps), value=-rate)
        return loss.detach()


class CompiledSession(EagerSession):
    """Loss, gradient and update in one compiled function, for each of a few lengths of batches."""

    lengths = BUCKETS

    def __init__(self, task: Task):
        # Away with the task: what another run compiled would be a start that is not cold.
        cache = tempfile.mkdtemp(prefix="inductor-", dir=task.file.parent)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        super().__init__(task)
        self.flat = self.flat.detach()
        self.compiled = self.compile(self.update)
        buckets = np.array(self.documents.buckets(self.lengths))
        self.documents.longest = buckets[np.searchsorted(buckets, self.documents.longest)]
        for length in buckets:
            first = int(np.argmax(self.documents.longest == length))
            self.update_with(first, torch.tensor((0.0, 1.0), device=self.device))
        self.restart()

    def compile(self, function: Callable) -> Callable:
        return torch.compile(function, dynamic=False, fullgraph=True, options={"cpp_wrapper": True})

    def gradient(self, flat: Tensor, tokens: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.grad_and_value(self.loss)(flat, tokens, weights)

    def update(self, flat, moment1, moment2, tokens, weights, rates: Tensor) -> Tensor:
        gradient, loss = self.gradient(flat, tokens, weights)
        moment1.mul_(self.task.workload.beta1).add_(gradient)
        moment2.mul_(self.task.workload.beta2).add_(gradient * gradient)
        flat.sub_(rates[0] * moment1 / (moment2.sqrt() + rates[1]))
        return loss

    def update_with(self, first: int, rates: Tensor) -> Tensor:
        state = (self.flat, self.moment1, self.moment2)
        return self.compiled(*state, *self.batch(first), rates)

    def verify(self) -> tuple[float, np.ndarray]:
        first = self.documents.first(self.done)
        gradient, loss = self.compile(self.gradient)(self.flat, *self.batch(first))
        return loss.item(), gradient.cpu().numpy().astype(float)

    def step(self, step: int) -> Tensor:
        return self.update_with(self.documents.first(step), torch.tensor(rates(self.task, step)))


class GpuSession(CompiledSession):
    """A step as one CUDA graph. The documents go to the GPU as a run begins and its losses back as
    it ends; between, nothing waits. One length: a launch takes as long for a shorter batch."""

    device = "cuda"
    lengths = 1

    def __init__(self, task: Task):
        torch.set_float32_matmul_precision("highest")  # no TF32
        for fused in ("flash", "mem_efficient", "cudnn"):  # of which f32 is made up of TF32
            getattr(torch.backends.cuda, f"enable_{fused}_sdp")(False)
        every = [rates(task, step) for step in range(task.workload.num_steps)]
        self.rates = torch.tensor(every, device=self.device)
        super().__init__(task)
        gpu = torch.cuda.get_device_name() if self.device == "cuda" else self.device
        self.info["gpu"] = gpu
        one = torch.zeros(1, device=self.device)
        wait = torch.get_device_module(self.device).synchronize
        self.launch_floor = launch_floor(lambda: (one.add_(1), wait()))

    def compile(self, function: Callable) -> Callable:
        for kept in (self.flat, self.moment1, self.moment2):  # else a graph may not change them
            torch._dynamo.mark_static_address(kept)
        return torch.compile(function, dynamic=False, fullgraph=True, mode="reduce-overhead")

    def step(self, step: int) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        loss = self.update_with(self.documents.first(step), self.rates[step])
        return loss.clone()  # the graph's own is overwritten by the next step

    def train(self, steps: int) -> list[float]:
        self.load()
        losses = [self.step(self.done + i) for i in range(steps)]
        return torch.stack(losses).tolist()  # waits
