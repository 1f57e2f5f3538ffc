"""One trial: train on the one part of the corpus, measure the loss of the other."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .._documents import BLOCK
from ..config import Config
from ..corpus import Corpus
from .space import SHAPE, Settings

if TYPE_CHECKING:
    from ..trainer import Trainer

Row = dict[str, Any]
PROBE = 0.05  # share of a time budget that is spent on finding out the speed


class SweepError(RuntimeError):
    """A sweep cannot start or go on; the message says what to do. Rows that are done are kept."""


def no_scheduler(address: str, reason: str) -> SweepError:
    return SweepError(
        f"no Dask scheduler answers at {address}: {reason}; start one with `dask scheduler`"
    )


@dataclass(frozen=True)
class Data:
    """What every trial of a sweep is trained and measured on. TypeError for what is no Corpus,
    ValueError where a held-out document has a character that no other has: see Corpus.split."""

    train: Corpus
    held_out: Corpus
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("train", "held_out"):
            part = getattr(self, name)
            if not isinstance(part, Corpus):
                raise TypeError(f"{name} must be a Corpus, not {type(part).__name__}")
        if unknown := set(self.held_out.alphabet) - set(self.train.alphabet):
            raise ValueError(
                f"held_out has {min(unknown)!r}, which no document to train on has; "
                "Corpus.split takes care of that"
            )
        object.__setattr__(self, "digest", self._digest())

    def _digest(self) -> str:
        """That of [[documents, block_size] of both parts], of which there may be too many for one
        string."""
        sha256 = hashlib.sha256(b"[")
        for part in (self.train, self.held_out):
            sha256.update(b"[[" if part is self.train else b", [[")
            for i in range(0, len(part), BLOCK):
                text = json.dumps(list(part.documents[i : i + BLOCK]))
                sha256.update(b", " * (i > 0) + text[1:-1].encode())
            sha256.update(f"], {json.dumps(part.block_size)}]".encode())
        sha256.update(b"]")
        return sha256.hexdigest()[:16]


def digest(value: Any) -> str:
    """16 hexadecimal digits that stand for `value`, anything that JSON can hold."""
    text = json.dumps(value, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def key(settings: Settings, data_digest: str) -> str:
    return digest([settings, data_digest])


def cost(settings: Settings) -> float:
    """Seconds that a trial takes, very roughly: to begin with the longest, and to say how much is
    left."""
    seconds = settings["seconds"]
    if seconds is None:
        width = settings["n_embd"]
        per_position = width * (12 * settings["n_layer"] * width + 100)
        seconds = settings["num_steps"] * settings["batch_size"] * per_position / 3e9
    return seconds + 0.15  # to shuffle the corpus, and to measure the loss


# By digest: what this process has received. Workers of a cluster may serve several sweeps.
_received: dict[str, Data] = {}


def receive(data: Data) -> None:
    """Keeps the corpus for all trials that this process will run."""
    _received[data.digest] = data


def forget(data_digest: str) -> None:
    _received.pop(data_digest, None)


def run_trial(settings: Settings, data_digest: str) -> Row:
    """Trains one model on one thread. An exception becomes the row's `error`.

    The row: key, settings, data (the digest of the corpus), engine, num_params, num_steps,
    train_seconds (CPU time of training alone, which what else the machine does hardly changes),
    held_out_loss at the end, train_loss (mean of the last interval), curve [[step, seconds,
    held_out_loss], ...], error (None where all went well), worker, and started and ended in
    seconds of the Unix epoch.
    """
    row = empty_row(settings, data_digest)
    row["started"] = time.time()
    row["worker"] = f"{socket.gethostname()}:{os.getpid()}"
    try:
        _train(settings, _received[data_digest], row)
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"
    row["ended"] = time.time()
    return row


def failed_row(settings: Settings, data_digest: str, error: str) -> Row:
    return {**empty_row(settings, data_digest), "error": error}


def empty_row(settings: Settings, data_digest: str) -> Row:
    return {
        "key": key(settings, data_digest),
        "settings": settings,
        "data": data_digest,
        "engine": None,
        "num_params": None,
        "num_steps": settings["num_steps"],
        "train_seconds": None,
        "held_out_loss": None,
        "train_loss": None,
        "curve": [],
        "error": None,
        "worker": None,
        "started": None,
        "ended": None,
    }


def retrain(row: Row, train: Corpus) -> Trainer:
    """The trial of `row` once more, trained to its end: in its engine with the same result to the
    bit, or, where this machine lacks that, in the best that it has."""
    from ..engines import engines

    here = {info.name for info in engines() if info.available}
    engine = row["engine"] if row["engine"] in here else "auto"
    settings = {**row["settings"], "engine": engine, "num_steps": row["num_steps"]}
    trainer = _trainer(settings, train)
    trainer.run()
    return trainer


def _train(settings: Settings, data: Data, row: Row) -> None:
    import numpy as np

    from ..trainer import check_finite

    if settings["seconds"] is not None:
        row["num_steps"] = _steps_within(settings["seconds"], settings, data.train)
    trainer = _trainer({**settings, "num_steps": row["num_steps"]}, data.train)
    row["engine"], row["num_params"] = trainer.engine, trainer.num_params
    evals = max(1, min(settings["evals"], trainer.num_steps))
    seconds = 0.0
    for i in range(1, evals + 1):
        steps = trainer.num_steps * i // evals - trainer.step
        start = time.thread_time()
        losses = trainer.run(steps)
        seconds += time.thread_time() - start
        check_finite(losses, trainer.step - steps + 1, trainer.learning_rate)
        held_out, train = trainer.evaluate(data.held_out), float(losses.mean())
        check_finite(np.array([held_out]), trainer.step, trainer.learning_rate)
        row["train_seconds"], row["held_out_loss"], row["train_loss"] = seconds, held_out, train
        row["curve"].append([trainer.step, seconds, held_out])


def _trainer(settings: Settings, train: Corpus) -> Trainer:
    from ..trainer import Trainer

    names = ("engine", "batch_size", "learning_rate", "beta1", "beta2", "num_steps", "seed")
    return Trainer(
        train,
        Config(**{name: settings[name] for name in SHAPE}),
        **{name: settings[name] for name in names},
    )


def _steps_within(seconds: float, settings: Settings, train: Corpus) -> int:
    """How many steps take about `seconds` here and now."""
    trainer = _trainer({**settings, "num_steps": 10**9}, train)
    steps, taken = 1, 0.0
    while taken < PROBE * seconds:
        start = time.thread_time()
        trainer.run(steps)
        elapsed = time.thread_time() - start
        taken += elapsed
        steps *= 2
    return max(1, round(seconds * steps / 2 / elapsed))
