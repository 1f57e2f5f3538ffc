"""The state of random.Random as the engines take it, who go on with the same stream."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def words_of(rng: random.Random) -> NDArray[np.uint32]:
    """624 words and an index: (625,)."""
    import numpy as np

    return np.array(rng.getstate()[1], np.uint32)


def set_words(rng: random.Random, words: NDArray[np.uint32], waiting: float | None) -> None:
    """waiting: the second number of a pair that gauss() has drawn"""
    rng.setstate((rng.getstate()[0], tuple(words.tolist()), waiting))
