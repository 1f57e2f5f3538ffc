"""What sessions in this process share: how steps are timed, and for libraries padded documents.

A batch is a rectangle of (batch, positions) in which the positions after the end of a document
weigh nothing. The rectangle of all documents is made as a corpus is loaded, once; a batch is rows
of it, cut to its longest document.
"""

from __future__ import annotations

import time

import numpy as np

from bench.task.task import Task
from bench.variants.variant import Session
from pymicrogpt import _core


class Documents:
    """All documents, and the first ones again, so that a batch is always consecutive rows.

    tokens: (N + B, T + 1) int64, each document from BOS on, padded with 0
    weights: (N + B, T) float32, of each position in the loss of its batch; 0 in the padding
    longest: (N,) positions of the longest document of the batch that begins with each document
    """

    def __init__(self, task: Task):
        lengths = task.workload.positions(task.offsets)
        self.count, self.batch_size = len(lengths), task.batch_size
        columns = np.arange(task.workload.block_size + 1)
        at = np.minimum(task.offsets[:-1, None] + columns, len(task.tokens) - 1)
        tokens = np.where(columns <= lengths[:, None], task.tokens[at], 0)
        weights = np.where(
            columns[:-1] < lengths[:, None], 1 / (self.batch_size * lengths[:, None]), 0
        )
        wrapped = np.arange(self.count + self.batch_size) % self.count
        self.tokens = tokens.astype(np.int64)[wrapped]
        self.weights = weights.astype(np.float32)[wrapped]
        windows = np.lib.stride_tricks.sliding_window_view(lengths[wrapped], self.batch_size)
        self.longest = windows[: self.count].max(1)

    def first(self, step: int) -> int:
        """The document that a step's batch begins with."""
        return step * self.batch_size % self.count

    def buckets(self, number: int) -> list[int]:
        """At most so many lengths to which batches are padded, each met about equally often."""
        shares = np.linspace(0, 1, number + 1)[1:]
        return np.unique(np.quantile(self.longest, shares, method="higher")).tolist()


def tensor_places(task: Task) -> dict[str, tuple[slice, tuple[int, int]]]:
    """Place in the flat vector, and shape (out, in), of each tensor by name.

    attn_wq, attn_wk and attn_wv of a layer lie side by side: here they are one, attn_wqkv.
    """
    found = {}
    start = 0
    for name, (rows, cols) in task.workload.config.parameter_shapes(task.vocab_size).items():
        layer, _, kind = name.rpartition(".")
        if kind in ("attn_wk", "attn_wv"):
            continue
        if kind == "attn_wq":
            name, rows = f"{layer}.attn_wqkv", 3 * rows
        found[name] = (slice(start, start + rows * cols), (rows, cols))
        start += rows * cols
    return found


class InProcess(Session):
    """A session in float32 that trains in this thread."""

    def __init__(self, task: Task, library: str):
        self.task, self.info = task, {"library": library, "dtype": "float32"}
        self.restart()

    def reset(self, parameters: np.ndarray) -> None:
        """Begin with these parameters, flat in float32, and moments of zero."""
        raise NotImplementedError

    def train(self, steps: int) -> list[float]:
        """Losses of so many steps after the `done` first ones."""
        raise NotImplementedError

    def restart(self) -> None:
        self.done = 0  # steps
        self.reset(self.task.parameters.astype(np.float32))

    def run(self, steps: int) -> tuple[list[float], float]:
        """Denormals flushed, as in the engines: without, a step of NumPy at n_embd 64 takes up to
        twice as long late in a training, when Adam's moments of silent hidden units decay."""
        start = time.perf_counter()
        _core.flush_denormals(True)
        try:
            losses = self.train(steps)
        finally:
            _core.flush_denormals(False)
        seconds = time.perf_counter() - start
        self.done += steps
        return losses, seconds


class PaddedSession(InProcess):
    """A session whose library offers a step at a time."""

    def __init__(self, task: Task, library: str):
        self.documents = Documents(task)
        super().__init__(task, library)

    def step(self, step: int):
        """One training step; its loss as a float, or what float() makes one of."""
        raise NotImplementedError

    def train(self, steps: int) -> list[float]:
        losses = [self.step(self.done + i) for i in range(steps)]
        return [float(loss) for loss in losses]


def rates(task: Task, step: int) -> tuple[float, float]:
    """Adam with moments kept over 1 - beta: m = beta1 m + g, v = beta2 v + g², and then
    parameters -= rate m / (sqrt(v) + eps); returns this rate and this eps."""
    o = task.workload.optimizer
    root = ((1 - o["beta2"]) / (1 - o["beta2"] ** (step + 1))) ** 0.5
    rate = o["learning_rate"] * (1 - step / o["num_steps"])
    rate *= (1 - o["beta1"]) / (1 - o["beta1"] ** (step + 1))
    return rate / root, o["eps"] / root
