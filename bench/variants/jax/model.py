"""The model in JAX: jax.value_and_grad and Adam, any number of steps in one compiled call."""

from __future__ import annotations

import os
import time
from functools import partial

os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # several rows share the memory of a GPU

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from bench.task.task import Task
from bench.variants.gpu import launch_floor
from bench.variants.padded import Documents, tensor_places
from bench.variants.variant import Session

BUCKETS = 3  # each is compiled on its own, some seconds


def on_one_core() -> None:
    """As it starts, XLA makes a thread for each processor that it may run on. Its flags for one
    thread (xla_cpu_multi_thread_eigen, intra_op_parallelism_threads) left it at up to 1.35
    processors."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def rms(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-5)


class JaxSession(Session):
    """All batches are on the device before the first step, and a call runs them in one loop.

    The loop is lax.fori_loop, whose number of steps is an argument, so that nothing is compiled
    again for another one; its body is that of a lax.scan.
    """

    platform = "cpu"
    lengths = BUCKETS

    def __init__(self, task: Task):
        jax.config.update("jax_platforms", self.platform)  # also where there is another one
        if self.platform == "cpu":
            on_one_core()
        self.task = task
        self.info = {"library": f"jax {jax.__version__}", "dtype": "float32"}
        self.places = tensor_places(task)
        documents = Documents(task)
        self.count = documents.count
        self.buckets = documents.buckets(self.lengths)
        bucket = np.searchsorted(self.buckets, documents.longest)
        self.host = (documents.tokens.astype(np.int32), documents.weights, bucket.astype(np.int32))
        self.load()
        self.train = jax.jit(self.steps, donate_argnums=0)
        self.restart()
        self.run(0)  # compiles

    def load(self) -> None:
        """All documents, to the device."""
        self.documents = jax.device_put(self.host)

    def restart(self) -> None:
        flat = self.task.parameters.astype(np.float32)
        w = {name: jnp.array(flat[at].reshape(shape)) for name, (at, shape) in self.places.items()}
        moments = [jax.tree.map(jnp.zeros_like, w) for _ in range(2)]
        self.done = 0  # steps
        self.state = (w, *moments, jnp.zeros(self.task.workload.num_steps))

    def parameters(self) -> np.ndarray:
        return self.flat(self.state[0])

    def flat(self, tensors: dict[str, Array]) -> np.ndarray:
        return np.concatenate([np.asarray(tensors[name], float).ravel() for name in self.places])

    def loss(self, w: dict[str, Array], tokens: Array, weights: Array) -> Array:
        (B, T), C, H = weights.shape, self.task.workload.n_embd, self.task.workload.n_head
        x = rms(w["wte"][tokens[:, :T]] + w["wpe"][:T])
        causal = jnp.tril(jnp.ones((T, T), bool))
        for i in range(self.task.workload.n_layer):
            qkv = (rms(x) @ w[f"layer{i}.attn_wqkv"].T).reshape(B, T, 3, H, C // H)
            q, k, v = (qkv[:, :, part] for part in range(3))
            scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (C // H) ** -0.5
            attention = jax.nn.softmax(jnp.where(causal, scores, -jnp.inf))
            mixed = jnp.einsum("bhqk,bkhd->bqhd", attention, v).reshape(B, T, C)
            x = x + mixed @ w[f"layer{i}.attn_wo"].T
            hidden = jax.nn.relu(rms(x) @ w[f"layer{i}.mlp_fc1"].T)
            x = x + hidden @ w[f"layer{i}.mlp_fc2"].T
        log_p = jax.nn.log_softmax(x @ w["lm_head"].T)
        correct = jnp.take_along_axis(log_p, tokens[:, 1:, None], -1)[..., 0]
        return -jnp.sum(weights * correct)

    def loss_and_gradient(self, T: int, w: dict[str, Array], documents: tuple, first: Array):
        """Of the batch that begins with document `first`, padded to T positions."""
        B = self.task.batch_size
        tokens = jax.lax.dynamic_slice(documents[0], (first, 0), (B, T + 1))
        weights = jax.lax.dynamic_slice(documents[1], (first, 0), (B, T))
        return jax.value_and_grad(self.loss)(w, tokens, weights)

    def verify(self) -> tuple[float, np.ndarray]:
        first = self.done * self.task.batch_size % self.count
        function = partial(self.loss_and_gradient, self.buckets[int(self.host[2][first])])
        loss, gradient = jax.jit(function)(self.state[0], self.documents, jnp.int32(first))
        return float(loss), self.flat(gradient)

    def one_step(self, documents: tuple, step: Array, state: tuple) -> tuple:
        w, m, v, losses = state
        o = self.task.workload.optimizer
        first = step * self.task.batch_size % self.count
        branches = [partial(self.loss_and_gradient, T) for T in self.buckets]
        loss, gradient = jax.lax.switch(documents[2][first], branches, w, documents, first)
        rate = o["learning_rate"] * (1 - step / o["num_steps"]) / (1 - o["beta1"] ** (step + 1.0))
        unbias = 1 / (1 - o["beta2"] ** (step + 1.0))

        def adam(w, m, v, g):
            m = o["beta1"] * m + (1 - o["beta1"]) * g
            v = o["beta2"] * v + (1 - o["beta2"]) * g * g
            return w - rate * m / (jnp.sqrt(v * unbias) + o["eps"]), m, v

        updated = {name: adam(w[name], m[name], v[name], gradient[name]) for name in w}
        w, m, v = ({name: parts[i] for name, parts in updated.items()} for i in range(3))
        return w, m, v, losses.at[step].set(loss)

    def steps(self, state: tuple, documents: tuple, begin: Array, end: Array) -> tuple:
        return jax.lax.fori_loop(begin, end, partial(self.one_step, documents), state)

    def run(self, steps: int) -> tuple[list[float], float]:
        start = time.perf_counter()
        end = self.done + steps
        between = jnp.int32(self.done), jnp.int32(end)
        self.state = self.train(self.state, self.documents, *between)
        losses = np.asarray(self.state[-1])[self.done : end].tolist()  # waits
        seconds = time.perf_counter() - start
        self.done = end
        return losses, seconds


class GpuSession(JaxSession):
    """The documents go to the GPU as a run begins and its losses back as it ends. One length, since
    a choice among several would be the host's, at each step."""

    platform = "cuda"
    lengths = 1

    def __init__(self, task: Task):
        jax.config.update("jax_default_matmul_precision", "highest")  # no TF32
        super().__init__(task)
        self.info["gpu"] = jax.devices()[0].device_kind
        add, one = jax.jit(lambda x: x + 1), jnp.zeros(1)
        self.launch_floor = launch_floor(lambda: add(one).block_until_ready())

    def run(self, steps: int) -> tuple[list[float], float]:
        start = time.perf_counter()
        self.load()
        loading = time.perf_counter() - start  # until then; the loop waits for the rest
        losses, seconds = super().run(steps)
        return losses, loading + seconds
