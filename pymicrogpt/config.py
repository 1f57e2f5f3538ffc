"""The shape of a model, and the checks of numbers that users give."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INT_MAX = 2**31 - 1  # the engines keep sizes in 32 bits
SEED_MAX = 2**64 - 1
# And numbers in float32: nothing smaller than FLOAT_MIN, whose reciprocal is still a number there.
FLOAT_MIN, FLOAT_MAX, FLOAT_EPS = 2.0**-126, (2.0 - 2.0**-23) * 2.0**127, 2.0**-24


def checked_int(name: str, value: Any, minimum: int = 1, maximum: int = INT_MAX) -> int:
    """`value` as an int. TypeError where it is none (bool counts as none), ValueError outside
    minimum .. maximum."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    number = operator.index(value)
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, not {number}")
    if number > maximum:
        raise ValueError(f"{name} must be at most {maximum}, not {number}")
    return number


def checked_seed(value: Any) -> int:
    """Not negative: of a negative integer random.Random takes the absolute value."""
    return checked_int("seed", value, 0, SEED_MAX)


def checked_float(
    name: str,
    value: Any,
    *,
    below: float = math.inf,
    zero: bool = False,
    engine: bool = False,
) -> float:
    """`value` as a float with 0 < value < below, or 0 <= value with `zero`; for an `engine`, which
    computes in float32, one that is neither 0 nor infinite nor `below` there."""
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, not {value!r}") from None
    except OverflowError:
        number = math.inf
    if not (number < below and (number > 0 or (zero and number == 0))):
        low = "at least 0" if zero else "greater than 0"
        high = "finite" if below == math.inf else f"less than {below:g}"
        raise ValueError(f"{name} must be {low} and {high}, not {value!r}")
    least, most = 0.0 if zero else FLOAT_MIN, min(below - FLOAT_EPS, FLOAT_MAX)
    if engine and not least <= number <= most:
        raise ValueError(
            f"{name} must lie in {least:.2g} .. {most:.9g}, the numbers of float32, not {value!r}"
        )
    return number


@dataclass(frozen=True)
class Config:
    """The shape of a model.

    n_layer: L, the number of layers
    n_embd: C, the width
    n_head: H, the heads of attention, of n_embd / n_head features each
    block_size: T, the longest context in tokens, BOS included. Of a longer document only the first
        T characters are learned, without its end

    TypeError for what is no integer; ValueError for less than 1, and where n_embd is not divisible
    by n_head.
    """

    n_layer: int = 1
    n_embd: int = 16
    n_head: int = 4
    block_size: int = 16

    def __post_init__(self) -> None:
        for field in fields(self):
            number = checked_int(field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, number)
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd must be divisible by n_head: {self.n_embd} is not divisible by "
                f"{self.n_head}"
            )

    @property
    def head_dim(self) -> int:
        """D, the features of a head."""
        return self.n_embd // self.n_head

    def parameter_shapes(self, vocab_size: int) -> dict[str, tuple[int, int]]:
        """Name -> (out, in) of every parameter tensor, in the order in which they are drawn and
        lie in a flat array."""
        C = self.n_embd
        shapes = {"wte": (vocab_size, C), "wpe": (self.block_size, C), "lm_head": (vocab_size, C)}
        for i in range(self.n_layer):
            for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo"):
                shapes[f"layer{i}.{name}"] = (C, C)
            shapes[f"layer{i}.mlp_fc1"] = (4 * C, C)
            shapes[f"layer{i}.mlp_fc2"] = (C, 4 * C)
        return shapes

    def tensors(self, flat: NDArray[np.float64], vocab_size: int) -> dict[str, NDArray[np.float64]]:
        """Views (out, in) by name of a flat array of all parameters."""
        tensors = {}
        start = 0
        for name, shape in self.parameter_shapes(vocab_size).items():
            end = start + shape[0] * shape[1]
            tensors[name] = flat[start:end].reshape(shape)
            start = end
        return tensors

    def num_params(self, vocab_size: int) -> int:
        """Numbers that are trained."""
        return sum(rows * cols for rows, cols in self.parameter_shapes(vocab_size).values())
