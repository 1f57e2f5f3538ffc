"""One training in a directory, from the first step to the kept model, over interruptions.

The directory holds
    model.safetensors, config.json, README.md   the model: the best by held-out loss where that is
                                                measured, else the last
    checkpoint.safetensors                      the last step, and as its notes the State

The model is written before the checkpoint: after a kill at any moment, the best model that a
checkpoint speaks of is there, or a better one from a step that will be done again.
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .checkpoint import CHECKPOINT_FILE, Checkpoint, digest_of
from .config import Config
from .corpus import Corpus
from .display import Display, Event
from .model import GPT
from .trainer import Trainer
from .weights import CONFIG_FILE, WEIGHTS_FILE, WeightsError

SAVE_SECONDS = 10.0  # of training that a kill may cost
CHUNK_SECONDS = 0.1  # of steps between two looks at the clock
MOST_HISTORY = 20_000  # records; a longer history is thinned out


# Settings that do not make another run, and those that a resumed run may change.
INCIDENTAL = {"corpus", "log_interval"}
CHANGEABLE = {"corpus", "log_interval", "engine", "patience"}


class RunError(ValueError):
    """What is asked does not go together, or not with what the directory holds."""


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
            raise RunError(
                "--patience and --val-fraction need --eval-interval: without it nothing is held out"
            )

    def load_corpus(self) -> tuple[Corpus, Corpus | None]:
        """What to train on, and what is held out."""
        if self.mode == "stream":
            if self.corpus is None:
                raise RunError("--mode stream needs a text file: pymicrogpt train FILE")
            corpus = Corpus.from_file(self.corpus, mode="stream", block_size=self.block_size)
        else:
            corpus = Corpus.load(self.corpus)
        if self.corpus is not None:  # where it lies is nothing for the card of the model
            corpus = replace(corpus, source=Path(self.corpus).name)
        if not self.eval_interval:
            return corpus, None
        return corpus.split(self.val_fraction, seed=self.seed)


@dataclass
class State:
    """What a checkpoint knows of a run beside the trainer's own state: its notes."""

    settings: dict[str, Any]
    ended: str = ""  # "finished" or "patience"
    seconds: float = 0.0  # of training and evaluation
    best_step: int | None = None
    best_val_loss: float | None = None
    evals_since_best: int = 0
    # Of each line of progress: step, mean training loss since the one before, held-out loss.
    history: list[tuple[int, float | None, float | None]] = field(default_factory=list)


class Run:
    """A training and its directory, made by start() or resume()."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        state: State,
        trainer: Trainer,
        held_out: Corpus | None,
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.state = state
        self.trainer = trainer
        self.held_out = held_out
        self.best: GPT | None = None
        if state.best_step is not None:
            self.best = GPT.load(directory)
            self.best.rng = trainer.model.rng
        self._best_is_saved = True

    @classmethod
    def start(
        cls,
        directory: Path,
        settings: Settings,
        *,
        threads: int | str = 1,
        overwrite: bool = False,
    ) -> Run:
        """Begins at step 0. RunError where the directory holds something else, unless `overwrite`;
        ValueError for bad settings, OSError where it cannot be written."""
        corpus, held_out = settings.load_corpus()
        trainer = Trainer(
            corpus,
            Config(settings.n_layer, settings.n_embd, settings.n_head, settings.block_size),
            engine=settings.engine,
            batch_size=settings.batch_size,
            learning_rate=settings.learning_rate,
            num_steps=settings.max_steps,
            seed=settings.seed,
            threads=threads,
        )
        if not overwrite:
            check_free(directory, settings, trainer)
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()  # now, not after the training
        for name in (CHECKPOINT_FILE, WEIGHTS_FILE, CONFIG_FILE):
            (directory / name).unlink(missing_ok=True)
        return cls(directory, settings, State(asdict(settings)), trainer, held_out)

    @classmethod
    def resume(
        cls, directory: Path, given: Mapping[str, Any], *, threads: int | str | None = None
    ) -> Run:
        """Goes on from the checkpoint. RunError where there is none, and for a `given` setting
        that is not the run's and not in CHANGEABLE; the text of `corpus` must be the same."""
        if not (directory / CHECKPOINT_FILE).exists():
            raise RunError(f"{directory} holds nothing to resume: there is no {CHECKPOINT_FILE}")
        checkpoint = Checkpoint.load(directory)
        state = state_of(checkpoint)
        if state is None:
            raise RunError(
                f"{directory / CHECKPOINT_FILE} was not written by this command; Trainer.resume "
                "in Python goes on from it"
            )
        if state.ended:
            raise RunError(
                f"{directory} is complete at step {checkpoint.step}; for a longer training begin "
                "another run with more --max-steps: they determine the learning rate of every step"
            )
        for name, value in given.items():
            before = state.settings[name]
            if value != before and name not in CHANGEABLE:
                raise RunError(
                    f"{directory} was begun with {option(name)} {before}, and keeps it; another "
                    "value is another run, in another --out-dir"
                )
        state.settings |= given
        settings = Settings(**state.settings)
        corpus, held_out = settings.load_corpus()
        trainer = Trainer.resume(directory, corpus, engine=given.get("engine"), threads=threads)
        return cls(directory, settings, state, trainer, held_out)

    @property
    def model(self) -> GPT:
        """The model that is kept."""
        return self.best if self.best is not None else self.trainer.model

    def start_event(self) -> Event:
        return {
            "event": "start",
            "corpus": self.trainer.corpus.source,
            "documents": len(self.trainer.documents),
            "held_out": len(self.held_out) if self.held_out else 0,
            "vocab_size": self.trainer.tokenizer.vocab_size,
            "num_params": self.trainer.num_params,
            "engine": self.trainer.engine,
            "threads": self.trainer.threads,
            "step": self.trainer.step,
            "settings": self.state.settings,
        }

    def train(self, display: Display) -> int:
        """Trains to the end, to the end of patience, or until Ctrl-C, SIGTERM or SIGHUP, and
        saves. Returns the number of the signal, or 0. RunError where the loss is no longer a
        number."""
        display.show(self.start_event())
        with Signals() as signals:
            try:
                self.state.ended = self._steps(display, signals)
            except KeyboardInterrupt:
                self.state.ended = ""
            finally:
                display.close()
            self.save()
        activity = self.trainer.activity
        display.show(
            {
                "event": "end",
                "reason": self.state.ended or "interrupted",
                "step": self.trainer.step,
                "seconds": self.state.seconds,
                "best_step": self.state.best_step,
                "best_val_loss": self.state.best_val_loss,
                "activity": asdict(activity) if activity else None,
                "out_dir": str(self.directory),
            }
        )
        return 0 if self.state.ended else signals.received or signal.SIGINT

    def save(self) -> None:
        """Writes the model and the checkpoint as they are now."""
        if self.best is None or not self._best_is_saved:
            self.model.save(self.directory)
            self._best_is_saved = True
        self.trainer.notes = asdict(self.state)
        self.trainer.save(self.directory)

    def _steps(self, display: Display, signals: Signals) -> str:
        """Why it ended: "finished", "patience", or "" for a signal."""
        settings, state, trainer = self.settings, self.state, self.trainer
        log_interval = settings.log_interval or settings.eval_interval or settings.max_steps // 10
        intervals = [n for n in (log_interval, settings.eval_interval, settings.max_steps) if n]
        pace = Pace(trainer.step, settings.max_steps, settings.batch_size)
        seconds_before = state.seconds
        saved = time.perf_counter()
        total, count = 0.0, 0  # of the losses since the last line of progress
        chunk = 1
        while True:
            step = trainer.step
            at_end = step == settings.max_steps
            told = step == (state.history[-1][0] if state.history else 0)
            due = not told and any(step % n == 0 for n in intervals)
            val_loss = None
            if due and self.held_out is not None and (at_end or step % settings.eval_interval == 0):
                with signals.at_once():
                    val_loss = trainer.evaluate(self.held_out)
                check_finite(np.array([val_loss]), step, settings)
            state.seconds = seconds_before + pace.seconds
            event: Event = {
                "event": "progress",
                "step": step,
                "max_steps": settings.max_steps,
                "loss": total / count if count else None,
                "val_loss": val_loss,
                "best": val_loss is not None and self._count(step, val_loss),
                "seconds": state.seconds,
                **pace.of(step),
            }
            if due:
                state.history.append((step, event["loss"], val_loss))
                if len(state.history) > MOST_HISTORY:
                    del state.history[:-1:2]
                total, count = 0.0, 0
                display.show(event)
            display.live(event)
            if at_end:
                return "finished"
            if settings.patience and state.evals_since_best >= settings.patience:
                return "patience"
            if signals.received:
                return ""
            if time.perf_counter() - saved > SAVE_SECONDS:
                self.save()
                saved = time.perf_counter()
            next_stop = min((step // n + 1) * n for n in intervals)
            with signals.at_once(), pace.stepping():
                losses = trainer.run(min(chunk, next_stop - step))
            check_finite(losses, step + 1, settings)
            total, count = total + float(losses.sum()), count + len(losses)
            if pace.last < CHUNK_SECONDS / 2 and len(losses) == chunk:
                chunk *= 2
            elif pace.last > CHUNK_SECONDS:
                chunk = max(1, chunk // 2)

    def _count(self, step: int, val_loss: float) -> bool:
        """Whether it is the best held-out loss, which makes the model of this step the one that is
        kept."""
        state = self.state
        if state.best_val_loss is not None and val_loss >= state.best_val_loss:
            state.evals_since_best += 1
            return False
        state.best_step, state.best_val_loss, state.evals_since_best = step, val_loss, 0
        self.best = self.trainer.model
        self.best.training["held_out_loss"] = val_loss
        self._best_is_saved = False
        return True


class Pace:
    """How fast the steps of this process go."""

    def __init__(self, first_step: int, max_steps: int, batch_size: int) -> None:
        self._first_step = first_step
        self._max_steps = max_steps
        self._batch_size = batch_size
        self._began = time.perf_counter()
        self._in_steps = 0.0  # seconds, evaluation not counted
        self.last = 0.0  # seconds of the last stepping() block

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._began

    @contextmanager
    def stepping(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.last = time.perf_counter() - began
        self._in_steps += self.last

    def of(self, step: int) -> dict[str, float | None]:
        done = step - self._first_step
        if not done:
            return {"samples_per_second": None, "seconds_left": None}
        return {
            "samples_per_second": done * self._batch_size / self._in_steps,
            "seconds_left": (self._max_steps - step) * self.seconds / done,
        }


class Signals:
    """While entered, Ctrl-C, SIGTERM and SIGHUP set `received`. In an at_once() block they also
    raise KeyboardInterrupt, as a second one does anywhere. One that the process was started to
    ignore stays ignored, and outside the main thread there are none."""

    def __init__(self) -> None:
        self.received = 0
        self._at_once = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                number = getattr(signal, name, None)
                if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        again = self.received != 0
        self.received = number
        if self._at_once or again:
            raise KeyboardInterrupt


def check_free(directory: Path, settings: Settings, trainer: Trainer) -> None:
    """RunError unless the directory is free for this run: it holds no model and no checkpoint, or
    this same run, complete."""
    if directory.exists() and not directory.is_dir():
        raise RunError(f"--out-dir {directory} is not a directory")
    present = [n for n in (CHECKPOINT_FILE, WEIGHTS_FILE, CONFIG_FILE) if (directory / n).exists()]
    if not present:
        return
    consent = "choose another --out-dir, or replace it with --overwrite"
    try:
        checkpoint = Checkpoint.load(directory) if CHECKPOINT_FILE in present else None
    except WeightsError as error:
        raise RunError(f"{error}; {consent}") from None
    state = state_of(checkpoint) if checkpoint else None
    if checkpoint is None or state is None:
        raise RunError(f"{directory} holds a {present[0]} that is not from this command: {consent}")
    for name, value in asdict(settings).items():
        before = state.settings[name]
        if value != before and name not in INCIDENTAL:
            raise RunError(
                f"{directory} holds a run with {option(name)} {before}, not {value}: {consent}"
            )
    if checkpoint.documents_sha256 != digest_of(trainer.documents):
        raise RunError(f"{directory} holds a run on another text: {consent}")
    if not state.ended:
        raise RunError(
            f"{directory} holds this run, interrupted at step {checkpoint.step}: go on with "
            "--resume, or begin again with --overwrite"
        )


def state_of(checkpoint: Checkpoint) -> State | None:
    """None where the checkpoint is from another program, or another version of this one."""
    try:
        state = State(**checkpoint.notes)
        known = state.settings.keys() == asdict(Settings()).keys()
    except (TypeError, AttributeError):
        return None
    return state if known else None


def check_finite(losses: NDArray[np.float64], first_step: int, settings: Settings) -> None:
    """RunError for one that is no number; the first is of `first_step`."""
    finite = np.isfinite(losses)
    if not finite.all():
        step = first_step + int(np.argmin(finite))
        raise RunError(
            f"the training diverged: the loss is {losses[step - first_step]} at step {step}; a "
            f"--learning-rate smaller than {settings.learning_rate:g} may help"
        )


def option(name: str) -> str:
    return "--" + name.replace("_", "-")
