"""The workloads: the one place that says which models are timed, and how much work a step is."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pymicrogpt import Config


@dataclass(frozen=True)
class Workload:
    """One model shape, trained as the original: 1,000 steps, then again from the start. Documents
    are those of the corpus, or blocks of running text (bench/task/text.py)."""

    name: str
    n_embd: int
    n_layer: int = 1
    n_head: int = 4
    block_size: int = 16
    num_steps: int = 1000
    seed: int = 42
    learning_rate: float = 0.01
    beta1: float = 0.85
    beta2: float = 0.99
    eps: float = 1e-8
    running_text: bool = False
    batch_size: int = 0  # 0: those of each variant

    @property
    def config(self) -> Config:
        return Config(self.n_layer, self.n_embd, self.n_head, self.block_size)

    @property
    def optimizer(self) -> dict[str, Any]:
        names = ("learning_rate", "beta1", "beta2", "eps", "num_steps")
        return {name: getattr(self, name) for name in names}

    def positions(self, offsets: np.ndarray) -> np.ndarray:
        """Trained positions of each document: offsets (N + 1,) -> (N,)."""
        return np.minimum(np.diff(offsets) - 1, self.block_size)

    def flops(self, offsets: np.ndarray, vocab_size: int) -> float:
        """Useful floating-point operations of a training step per document, the corpus's mean.

        A multiply and an add each count; forward, input gradients and weight gradients cost the
        same. Position t attends to t keys: 2 C t for the scores and as much for the values.
        """
        n = self.positions(offsets).astype(float)
        matrices = 12 * self.n_layer * self.n_embd**2 + vocab_size * self.n_embd
        attention = 4 * self.n_layer * self.n_embd * (n * (n + 1) / 2)
        return float((6 * n * matrices + 3 * attention).mean())

    def describe(self) -> dict[str, float | int | str]:
        return asdict(self)


WIDTHS = {f"d{n_embd}": Workload(f"d{n_embd}", n_embd) for n_embd in (16, 32, 64, 128, 256)}
# Sizes of nanoGPT's recipes for a million characters of Shakespeare, on a CPU and, with a batch of
# one, on a GPU. Adam is that of the others.
RUNNING_TEXT = {
    "nanogpt-cpu": Workload(
        "nanogpt-cpu", 128, n_layer=4, n_head=4, block_size=64, num_steps=2000,
        learning_rate=0.003, running_text=True, batch_size=12,
    ),
    "shakespeare": Workload(
        "shakespeare", 384, n_layer=6, n_head=6, block_size=256, num_steps=5000,
        learning_rate=0.003, running_text=True, batch_size=1,
    ),
}  # fmt: skip
WORKLOADS = {**WIDTHS, **RUNNING_TEXT}

# Of the corpus, for the quality of trainings: in none of them, drawn by Corpus.split.
HELD_OUT = 0.05
SPLIT_SEED = 42
