"""The workloads: the one place that says which models are timed, and how much work a step is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pymicrogpt import Config


@dataclass(frozen=True)
class Workload:
    """One model shape, trained as the original: 1,000 steps, then again from the start."""

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

    @property
    def config(self) -> Config:
        from pymicrogpt import Config

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


WORKLOADS = {f"d{n_embd}": Workload(f"d{n_embd}", n_embd) for n_embd in (16, 32, 64, 128, 256)}

# Of the corpus, for the quality of trainings: in none of them, drawn by Corpus.split.
HELD_OUT = 0.05
SPLIT_SEED = 42
