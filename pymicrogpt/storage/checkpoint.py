"""The state of a training on disk: one file, checkpoint.safetensors."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._documents import Documents
from ..config import Config, checked_int
from ..tokenizer import Tokenizer
from .weights import (
    DTYPES,
    Tensors,
    WeightsError,
    describe_config,
    open_tensors,
    read_config,
    write_tensors,
)

CHECKPOINT_FILE = "checkpoint.safetensors"
SLOTS = ("parameter", "first_moment", "second_moment")
SETTINGS = {
    "batch_size": (int,),
    "learning_rate": (float,),
    "num_steps": (int,),
    "seed": (int,),
    "threads": (int, str),
    "beta1": (float,),
    "beta2": (float,),
    "eps": (float,),
    "prefix_sharing": (bool,),
    "skip_zeros": (bool,),
}
FACTS = (
    "engine",
    "settings",
    "step",
    "next_document",
    "num_documents",
    "documents_sha256",
    "source",
    "random_state",
)
ADDED = {"skip_zeros": True}  # settings that older checkpoints lack, as these were trained


@dataclass(frozen=True)
class Checkpoint:
    """What a trainer needs to go on to the bit."""

    config: Config
    tokenizer: Tokenizer
    engine: str
    settings: dict[str, Any]  # the other arguments of Trainer: SETTINGS
    step: int  # steps done
    next_document: int  # of those in training order: the first of the next batch
    num_documents: int
    documents_sha256: str  # of the documents in training order
    source: str  # of the corpus
    random_state: list[Any]  # what random.Random.getstate() gives
    notes: dict[str, Any]  # the caller's
    slots: dict[str, NDArray[np.float64]]  # flat (num_params,) by slot

    def save(self, directory: str | os.PathLike[str], dtype: str) -> None:
        """dtype: of the engine's parameters, "float32" or "float64". The moments are float64 in any
        case: the SIMD engines keep them in float32 multiplied by a factor, and only a wider number
        leads back to the same float32."""
        tensors: Tensors = {}
        shapes = self.config.parameter_shapes(self.tokenizer.vocab_size)
        for slot, flat in self.slots.items():
            values = flat.astype(dtype) if slot == "parameter" else flat
            start = 0
            for name, (rows, cols) in shapes.items():
                end = start + rows * cols
                tensors[_key(slot, name)] = values[start:end].reshape(rows, cols)
                start = end
        description = {
            "config": describe_config(self.config, self.tokenizer),
            "training": {
                "engine": self.engine,
                "settings": self.settings,
                "step": self.step,
                "next_document": self.next_document,
                "num_documents": self.num_documents,
                "documents_sha256": self.documents_sha256,
                "source": self.source,
                "random_state": self.random_state,
            },
            "notes": self.notes,
        }
        write_tensors(Path(directory) / CHECKPOINT_FILE, tensors, description)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> Checkpoint:
        """WeightsError, which names the file, for anything that save() did not write."""
        path = Path(directory) / CHECKPOINT_FILE
        with open_tensors(path) as file:
            if file.description is None:
                raise WeightsError(f"{path} holds tensors and no state of a training")
            config, tokenizer = read_config(file.description.get("config"), path, file)
            shapes = config.parameter_shapes(tokenizer.vocab_size)
            tensors = file.read(
                {_key(slot, name): shape for slot in SLOTS for name, shape in shapes.items()},
                set(DTYPES),
            )
            slots = {
                slot: np.concatenate(
                    [tensors[_key(slot, name)].ravel() for name in shapes], dtype=np.float64
                )
                for slot in SLOTS
            }
            try:
                training = dict(file.description["training"])
                training["settings"] = {**ADDED, **training["settings"]}
                if missing := [name for name in FACTS if name not in training]:
                    raise LookupError(missing[0])
                checkpoint = cls(
                    config=config,
                    tokenizer=tokenizer,
                    notes=file.description["notes"],
                    slots=slots,
                    **training,
                )
                checkpoint._check()
            except LookupError as error:
                raise WeightsError(
                    f"{path} holds no state of a training: it does not say {error.args[0]}"
                ) from None
            except (
                TypeError,
                ValueError,
                ArithmeticError,
                AttributeError,
            ) as error:
                raise WeightsError(f"{path} holds no state of a training: {error}") from None
        return checkpoint

    def _check(self) -> None:
        if self.settings.keys() != SETTINGS.keys():
            raise ValueError(f"settings must be {', '.join(SETTINGS)}")
        for name, types in SETTINGS.items():
            if type(self.settings[name]) not in types:
                raise TypeError(f"{name} is {self.settings[name]!r}")
        if isinstance(self.settings["threads"], str) and self.settings["threads"] != "auto":
            raise ValueError(f"threads is {self.settings['threads']!r}")
        if not (isinstance(self.engine, str) and isinstance(self.notes, dict)):
            raise TypeError("engine must be a name, and notes a JSON object")
        checked_int("step", self.step, 0, self.settings["num_steps"])
        if self.next_document != self.step * self.settings["batch_size"] % self.num_documents:
            raise ValueError(f"next_document {self.next_document} is not the one of {self.step}")
        self.restore_random(random.Random())

    def restore_random(self, rng: random.Random) -> None:
        version, numbers, gauss_next = self.random_state
        rng.setstate((version, tuple(numbers), gauss_next))


def digest_of(documents: Sequence[str]) -> str:
    """SHA-256 of the documents in this order."""
    sha256 = hashlib.sha256()
    if isinstance(documents, Documents):
        for data in documents.framed():
            sha256.update(data)
        return sha256.hexdigest()
    for document in documents:
        data = document.encode("utf-8", "surrogatepass")
        sha256.update(len(data).to_bytes(8, "little") + data)
    return sha256.hexdigest()


def _key(slot: str, name: str) -> str:
    return name if slot == "parameter" else f"{slot}.{name}"
