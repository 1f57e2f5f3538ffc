"""pymicrogpt.reference as one engine of a Trainer among the others."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ._signals import signals_held
from .engines import reference_engine
from .reference import Reference, Value
from .tokenizer import Tokenizer

Array = NDArray[np.float64]


class Encoded(Sequence[list[int]]):
    """Token ids of documents, made when they are asked for."""

    def __init__(self, tokenizer: Tokenizer, documents: Sequence[str]) -> None:
        self._tokenizer, self._documents = tokenizer, documents

    def __len__(self) -> int:
        return len(self._documents)

    @overload
    def __getitem__(self, i: int) -> list[int]: ...
    @overload
    def __getitem__(self, i: slice) -> list[list[int]]: ...
    def __getitem__(self, i: int | slice) -> list[int] | list[list[int]]:
        found = self._documents[i]
        if isinstance(found, str):
            return self._tokenizer.encode(found)
        return [self._tokenizer.encode(document) for document in found]


class ReferenceEngine:
    """pymicrogpt.reference behind the interface of pymicrogpt._core.Trainer."""

    def __init__(
        self,
        documents: Sequence[list[int]],
        tensors: dict[str, list[list[float]]],
        **settings: Any,
    ) -> None:
        self._model = Reference(documents, tensors, **settings)
        info = reference_engine()
        self.engine, self.isa, self.dtype, self.threads = info.name, info.isa, info.dtype, 1

    @property
    def step(self) -> int:
        return self._model.steps_done

    @step.setter
    def step(self, step: int) -> None:
        self._model.steps_done = step

    @property
    def nbytes(self) -> int:
        # Each parameter is a Value with two floats; its moments are two floats in two lists.
        number = sys.getsizeof(0.0)
        return len(self._model.params) * (sys.getsizeof(Value(0.0)) + 4 * number + 3 * 8)

    def run(self, k: int) -> Array:
        losses = np.empty(k)
        for i in range(k):
            losses[i] = self._gradient()  # interrupted, it is only repeated
            with signals_held():
                self._update()
        return losses

    # Where Python's math raises everything becomes NaN, as in the other engines.

    def _gradient(self) -> float:
        try:
            return self._model.gradient()
        except (ArithmeticError, ValueError):
            for p in self._model.params:
                p.grad = math.nan
            return math.nan

    def _update(self) -> None:
        try:
            self._model.update()
        except ArithmeticError:
            for p in self._model.params:
                p.grad = math.nan
            self._model.update()

    def gradients(self) -> tuple[float, Array]:
        loss = self._gradient()
        return loss, np.array([p.grad for p in self._model.params])

    def loss(self, tokens: NDArray[np.int32], offsets: NDArray[np.int64]) -> float:
        documents = np.split(tokens, offsets[1:-1])
        try:
            return sum(self._model.loss(d.tolist()).data for d in documents) / len(documents)
        except (ArithmeticError, ValueError):
            return math.nan

    def get(self, slot: str) -> Array:
        moments = {"first_moment": self._model.m, "second_moment": self._model.v}
        return np.array(moments.get(slot) or [p.data for p in self._model.params])

    def set(self, slot: str, values: Array) -> None:
        if slot == "parameter":
            for p, value in zip(self._model.params, values.tolist(), strict=True):
                p.data = value
        else:
            moments = {"first_moment": self._model.m, "second_moment": self._model.v}
            moments[slot][:] = values.tolist()
