"""What a training draws at its beginning: the order of the documents and the first parameters."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ._documents import Documents
from ._stream import set_words, words_of
from .config import Config

STD = 0.08


def shuffled(documents: Sequence[str], rng: random.Random) -> Sequence[str]:
    """The documents in the order of rng.shuffle."""
    if not isinstance(documents, Documents):
        mixed = list(documents)
        rng.shuffle(mixed)
        return tuple(mixed)
    from . import _core

    words = words_of(rng)
    order = _core.shuffled(words, len(documents))
    set_words(rng, words, rng.getstate()[2])
    return documents.take(order)


def init_parameters(
    config: Config, vocab_size: int, rng: random.Random
) -> dict[str, NDArray[np.float64]]:
    """Tensors (out, in) by name, from N(0, 0.08^2), drawn by rng.gauss element by element in the
    order of config.parameter_shapes(). They are views of one flat array."""
    from . import _core

    words = words_of(rng)
    flat, waiting = _core.gauss(words, rng.getstate()[2], STD, config.num_params(vocab_size))
    set_words(rng, words, waiting)
    return config.tensors(flat, vocab_size)
