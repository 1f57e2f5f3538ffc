"""The first values of the parameters."""

from __future__ import annotations

import random

import numpy as np
from numpy.typing import NDArray

from .config import Config

STD = 0.08


def init_parameters(
    config: Config, vocab_size: int, rng: random.Random
) -> dict[str, NDArray[np.float64]]:
    """Tensors (out, in) by name, from N(0, 0.08^2), drawn from `rng` element by element in the
    order of config.parameter_shapes()."""
    return {
        name: np.array([rng.gauss(0, STD) for _ in range(rows * cols)]).reshape(rows, cols)
        for name, (rows, cols) in config.parameter_shapes(vocab_size).items()
    }
