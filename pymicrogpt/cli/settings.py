"""What makes a run of `pymicrogpt train`, and what its checkpoint remembers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .._words import escaped
from ..config import Config
from ..corpus import Corpus
from .arguments import CommandError
from .terminal import waiting

# Settings that do not make another run, and those that a resumed run may change.
INCIDENTAL = {"corpus", "log_interval"}
CHANGEABLE = {"corpus", "log_interval", "engine", "patience"}
NOTHING_HELD_OUT = (
    "--patience and --val-fraction need --eval-interval: without it nothing is held out"
)


@dataclass(frozen=True)
class Settings:
    """What makes a run; the defaults are the original microgpt."""

    corpus: str | None = None  # path; None is what Corpus.load() finds
    mode: str = "lines"
    n_layer: int = 1
    n_embd: int = 16
    n_head: int = 4
    block_size: int = 16
    batch_size: int = 1
    learning_rate: float = 0.01
    max_steps: int = 1000
    seed: int = 42
    eval_interval: int = 0  # steps; with 0 nothing is held out
    val_fraction: float = 0.1
    patience: int = 0  # evaluations in a row without a new best before it stops; 0 never stops
    engine: str = "auto"
    log_interval: int = 0  # steps between two lines of progress; 0 chooses

    def __post_init__(self) -> None:
        if not self.eval_interval and (self.patience or self.val_fraction != 0.1):
            raise CommandError(NOTHING_HELD_OUT)

    @property
    def config(self) -> Config:
        return Config(self.n_layer, self.n_embd, self.n_head, self.block_size)

    def load_corpus(self) -> tuple[Corpus, Corpus | None]:
        """What to train on, and what is held out."""
        with waiting(f"reading {escaped(self.corpus or 'names.txt')}"):
            if self.corpus == "-":
                corpus = Corpus.from_stdin(self.mode, self.block_size)
            elif self.corpus is not None:
                corpus = Corpus.from_file(self.corpus, self.mode, self.block_size)
                corpus = replace(corpus, source=utf8_name(self.corpus))
            elif self.mode == "stream":
                raise CommandError("--mode stream needs a text file: pymicrogpt train FILE")
            else:
                corpus = usual_corpus()
            if not self.eval_interval:
                return corpus, None
            return corpus.split(self.val_fraction, seed=self.seed)


@dataclass
class State:
    """What a checkpoint knows of a run beside the trainer's own state: its notes."""

    settings: dict[str, Any]
    ended: str = ""  # "finished" or "patience"
    seconds: float = 0.0  # of training and evaluation
    budget: float = 0.0  # seconds for which the number of steps was picked; 0: it was given
    best_step: int | None = None
    best_val_loss: float | None = None
    evals_since_best: int = 0
    # Of each line of progress: step, mean training loss since the one before, held-out loss.
    history: list[tuple[int, float | None, float | None]] = field(default_factory=list)
    loss_sum: float = 0.0  # of the steps since the last line of progress
    loss_count: int = 0


def usual_corpus() -> Corpus:
    """Where none is given. Where it lies is nothing for the card of the model."""
    corpus = Corpus.load()
    if path := os.environ.get("PYMICROGPT_CORPUS"):
        return replace(corpus, source=utf8_name(path))
    return replace(corpus, source=corpus.source.replace(os.path.expanduser("~"), "~"))


def utf8_name(path: str) -> str:
    """Of a file without its folder, in UTF-8 whatever the locale made of it."""
    return os.fsencode(Path(path).name).decode("utf-8", "backslashreplace")
