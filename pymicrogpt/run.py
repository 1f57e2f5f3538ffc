"""One training in a directory, from the first step to the kept model, over interruptions.

The directory holds
    model.safetensors, config.json, README.md   the model: the best by held-out loss where that is
                                                measured, else the last
    checkpoint.safetensors                      the last step, and as its notes the State

The model is written before the checkpoint: after a kill at any moment, the best model that a
checkpoint speaks of is there, or a better one from a step that will be done again. What another run
left stays until the first model and checkpoint of this one are whole.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from .checkpoint import CHECKPOINT_FILE, Checkpoint
from .config import Config, checked_float
from .corpus import Corpus
from .display import Display, Event, counted, escaped, waiting
from .files import has_room, owned, sync_directory
from .model import GPT
from .trainer import Trainer, check_engine, check_finite
from .weights import CONFIG_FILE, WEIGHTS_FILE, NotFiniteError, WeightsError, save_model

SAVE_SECONDS = 10.0  # of training that a kill may cost
SAVE_TAKES = 1.0  # seconds; where saving takes longer, it is done more rarely in proportion
CHUNK_SECONDS = 0.1  # of steps between two looks at the clock
BYTES_SAVED = 4 + 4 + 8 + 8  # of a parameter, at least: model; checkpoint with two moments
FIRST = ".first"  # folder of the first checkpoint, until it takes its place
ENOUGH_DOCUMENTS = 8  # in a batch in which a hidden unit that lives is heard of
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
        with waiting(f"reading {escaped(self.corpus or 'names.txt')}"):
            if self.corpus == "-":
                corpus = Corpus.from_stdin(self.mode, self.block_size)
            elif self.corpus is not None:
                corpus = Corpus.from_file(self.corpus, self.mode, self.block_size)
                # Where it lies is nothing for the card of the model.
                corpus = replace(corpus, source=utf8_name(self.corpus))
            elif self.mode == "stream":
                raise RunError("--mode stream needs a text file: pymicrogpt train FILE")
            else:
                corpus = Corpus.load()
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
    loss_sum: float = 0.0  # of the steps since the last line of progress
    loss_count: int = 0


class Run:
    """A training and its directory, made by start() or resume(). While it is entered, the directory
    belongs to it: RunError for another training in there."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        state: State,
        trainer: Trainer,
        held_out: Corpus | None,
        replaces: bool,
        ownership: ExitStack,
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
        self._replaces = [directory / n for n in (CHECKPOINT_FILE, CONFIG_FILE) if replaces]
        self._ownership = ownership

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ownership.__exit__(kind, error, traceback)

    @classmethod
    def start(
        cls,
        directory: Path,
        settings: Settings,
        *,
        threads: int | str = 1,
        overwrite: bool = False,
    ) -> Run:
        """Begins at step 0. RunError where the directory holds something else, unless `overwrite`,
        or another process trains in it, or it has no room; ValueError for bad settings, OSError
        where it cannot be written."""
        if directory.exists() and not directory.is_dir():
            raise RunError(f"--out-dir {directory} is not a directory")
        for name in (CHECKPOINT_FILE, WEIGHTS_FILE, CONFIG_FILE):
            if (directory / name).is_dir():
                raise RunError(f"{directory / name} is a directory: choose another --out-dir")
        with ExitStack() as ownership:
            ownership.enter_context(own(directory))
            checkpoint = None if overwrite else check_settings(directory, settings)
            config = Config(settings.n_layer, settings.n_embd, settings.n_head, settings.block_size)
            checked_float("learning_rate", settings.learning_rate, engine=True)
            check_engine(settings.engine)
            corpus, held_out = settings.load_corpus()
            with waiting(f"preparing {counted(len(corpus), 'document')} and the model"):
                trainer = Trainer(
                    corpus,
                    config,
                    engine=settings.engine,
                    batch_size=settings.batch_size,
                    learning_rate=settings.learning_rate,
                    num_steps=settings.max_steps,
                    seed=settings.seed,
                    threads=threads,
                )
                if not overwrite:
                    check_training(directory, checkpoint, trainer)
            size = trainer.num_params * BYTES_SAVED
            if not has_room(directory, size):
                raise RunError(
                    f"{directory} has no room for the model and its checkpoint, {size:,} bytes"
                )
            state = State(asdict(settings))
            rest = ownership.pop_all()
        return cls(directory, settings, state, trainer, held_out, True, rest)

    @classmethod
    def resume(
        cls, directory: Path, given: Mapping[str, Any], *, threads: int | str | None = None
    ) -> Run:
        """Goes on from the checkpoint. RunError where there is none, where another process trains
        in the directory, and for a `given` setting that is not the run's and not in CHANGEABLE; the
        text of `corpus` must be the same."""
        with ExitStack() as ownership:
            if directory.is_dir():
                ownership.enter_context(own(directory))
            if not (directory / CHECKPOINT_FILE).exists():
                raise RunError(
                    f"{directory} holds nothing to resume: there is no {CHECKPOINT_FILE}"
                )
            checkpoint = Checkpoint.load(directory)
            state = state_of(checkpoint)
            if state is None:
                raise RunError(
                    f"{directory / CHECKPOINT_FILE} was not written by this command; "
                    "Trainer.resume in Python goes on from it"
                )
            if state.ended:
                raise RunError(
                    f"{directory} is complete at step {checkpoint.step}; for a longer training "
                    "begin another run with more --max-steps: they determine the learning rate of "
                    "every step"
                )
            for name, value in given.items():
                before = state.settings[name]
                if value != before and name not in CHANGEABLE:
                    raise RunError(
                        f"{directory} was begun with {option(name)} {before}, and keeps it; "
                        "another value is another run, in another --out-dir"
                    )
            state.settings |= given
            settings = Settings(**state.settings)
            corpus, held_out = settings.load_corpus()
            with waiting(f"preparing {counted(len(corpus), 'document')} and the model"):
                trainer = Trainer.resume(
                    directory, corpus, engine=given.get("engine"), threads=threads
                )
            rest = ownership.pop_all()
        return cls(directory, settings, state, trainer, held_out, False, rest)

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

    def train(self, display: Display, signals: Signals) -> int:
        """Trains to the end, to the end of patience, or until Ctrl-C, SIGTERM or SIGHUP, and
        saves. Returns the number of the signal, or 0. DivergedError where the loss is no longer a
        number."""
        try:
            with signals.at_once():
                display.show(self.start_event())
            self.state.ended = self._steps(display, signals)
        except KeyboardInterrupt:
            self.state.ended = ""
        try:
            with display.waiting(f"saving {escaped(str(self.directory))}"):
                self.save()
        finally:
            with suppress(KeyboardInterrupt), signals.at_once():
                display.close()
        with suppress(KeyboardInterrupt), signals.at_once():
            display.show(self.end_event())
        return 0 if self.state.ended else signals.received or signal.SIGINT

    def end_event(self) -> Event:
        activity = self.trainer.activity
        return {
            "event": "end",
            "reason": self.state.ended or "interrupted",
            "step": self.trainer.step,
            "seconds": self.state.seconds,
            "best_step": self.state.best_step,
            "best_val_loss": self.state.best_val_loss,
            "activity": asdict(activity) if activity else None,
            "dead_units": self.dead_units(),
            "out_dir": str(self.directory),
        }

    def dead_units(self) -> float | None:
        """Share of the hidden units without a part in the training any more, at least; None where
        that is not known. In a small batch a unit may be silent by chance."""
        activity = self.trainer.activity
        if activity is None:
            return None
        if self.settings.batch_size >= ENOUGH_DOCUMENTS:
            return max(activity.resting, 1.0 - activity.units)
        return activity.resting

    def save(self) -> None:
        """Writes the model and the checkpoint as they are now. DivergedError where they hold what
        is no number."""
        self.trainer.notes = asdict(self.state)
        try:
            if not self._replaces:
                if self.best is None or not self._best_is_saved:
                    self.model.save(self.directory)
                self.trainer.save(self.directory)
            else:
                self._first_save()
        except NotFiniteError:  # the last update came after the last loss
            losses, step = np.array([np.nan]), self.trainer.step
            check_finite(losses, step, self.settings.learning_rate)
        self._best_is_saved = True

    def _first_save(self) -> None:
        """The checkpoint is whole, beside its place, before anything of an earlier run goes."""
        new = self.directory / FIRST
        try:
            self.trainer.save(new)
            model = self.model
            parts = (model.config, model.tokenizer, model.parameters, model.training)
            save_model(self.directory, *parts, self._replaces)
            os.replace(new / CHECKPOINT_FILE, self.directory / CHECKPOINT_FILE)
            sync_directory(self.directory)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        self._replaces = []

    def _steps(self, display: Display, signals: Signals) -> str:
        """Why it ended: "finished", "patience", or "" for a signal."""
        settings, state, trainer = self.settings, self.state, self.trainer
        log_interval = settings.log_interval or settings.eval_interval or settings.max_steps // 10
        intervals = [n for n in (log_interval, settings.eval_interval, settings.max_steps) if n]
        pace = Pace(trainer.step, settings.max_steps, settings.batch_size)
        seconds_before = state.seconds
        save_at = time.monotonic() + SAVE_SECONDS
        chunk = 1
        while True:
            step = trainer.step
            at_end = step == settings.max_steps
            told = step == (state.history[-1][0] if state.history else 0)
            due = not told and any(step % n == 0 for n in intervals)
            val_loss = None
            if due and self.held_out is not None and (at_end or step % settings.eval_interval == 0):
                with signals.at_once(), display.waiting("measuring the held-out loss"):
                    val_loss = trainer.evaluate(self.held_out)
                check_finite(np.array([val_loss]), step, settings.learning_rate)
            state.seconds = seconds_before + pace.seconds
            event: Event = {
                "event": "progress",
                "step": step,
                "max_steps": settings.max_steps,
                "loss": state.loss_sum / state.loss_count if state.loss_count else None,
                "val_loss": val_loss,
                "best": val_loss is not None and self._count(step, val_loss),
                "seconds": state.seconds,
                **pace.of(step),
            }
            if due:
                state.history.append((step, event["loss"], val_loss))
                if len(state.history) > MOST_HISTORY:
                    del state.history[:-1:2]
                state.loss_sum, state.loss_count = 0.0, 0
            with signals.at_once():
                if due:
                    display.show(event)
                display.live(event)
            if at_end:
                return "finished"
            if settings.patience and state.evals_since_best >= settings.patience:
                return "patience"
            if signals.received:
                return ""
            if time.monotonic() >= save_at:
                began = time.monotonic()
                with display.waiting(f"saving {escaped(str(self.directory))}"):
                    self.save()
                ended = time.monotonic()
                save_at = ended + SAVE_SECONDS * max(1.0, (ended - began) / SAVE_TAKES)
            next_stop = min((step // n + 1) * n for n in intervals)
            with pace.stepping(), self._interruptible(signals):
                losses = trainer.run(min(chunk, next_stop - step))
            check_finite(losses, step + 1, settings.learning_rate)
            # One after the other, so that the sum does not depend on where the steps are divided.
            state.loss_sum = float(np.cumsum(np.append(state.loss_sum, losses))[-1])
            state.loss_count += len(losses)
            if trainer.engine == "reference":
                continue
            if pace.last < CHUNK_SECONDS / 2 and len(losses) == chunk:
                chunk *= 2
            elif pace.last > CHUNK_SECONDS:
                chunk = max(1, chunk // 2)

    def _interruptible(self, signals: Signals) -> AbstractContextManager[None]:
        """For steps. Those of the reference take seconds and go one by one: one that is given up
        before it has changed anything is done again. Others would lose their losses."""
        if self.trainer.engine != "reference":
            return nullcontext()
        step = self.trainer.step
        return signals.at_once(unless=lambda: self.trainer.step != step)

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
            "samples_per_second": done * self._batch_size / max(self._in_steps, 1e-9),
            "seconds_left": (self._max_steps - step) * self.seconds / done,
        }


class Signals:
    """While entered, Ctrl-C, SIGTERM and SIGHUP set `received` to the first of them. In an
    at_once() block they also raise KeyboardInterrupt, once; elsewhere they never do, however many
    come. One that the process was started to ignore stays ignored, and outside the main thread
    there are none."""

    def __init__(self) -> None:
        self.received = 0
        self._unless: Callable[[], bool] | None = None  # in an at_once() block
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
    def at_once(self, unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
        self._unless = unless
        try:
            yield
        finally:
            self._unless = None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        unless, self._unless = self._unless, None
        if unless is not None and not unless():
            raise KeyboardInterrupt


CONSENT = "choose another --out-dir, or replace it with --overwrite"


@contextmanager
def own(directory: Path) -> Iterator[None]:
    try:
        with owned(directory):
            shutil.rmtree(directory / FIRST, ignore_errors=True)  # of one that was killed
            yield
    except BlockingIOError:
        raise RunError(
            f"another training is at work in {directory}: wait for its end, or choose another "
            "--out-dir"
        ) from None


def check_settings(directory: Path, settings: Settings) -> Checkpoint | None:
    """The checkpoint in the directory, of a complete run with these settings. RunError for any
    other, and for files of others."""
    present = [n for n in (CHECKPOINT_FILE, WEIGHTS_FILE, CONFIG_FILE) if (directory / n).exists()]
    if CHECKPOINT_FILE not in present:
        return None
    try:
        checkpoint = Checkpoint.load(directory)
    except WeightsError as error:
        raise RunError(f"{error}; {CONSENT}") from None
    state = state_of(checkpoint)
    if state is None:
        raise RunError(
            f"{directory} holds a {CHECKPOINT_FILE} that is not from this command: {CONSENT}"
        )
    for name, value in asdict(settings).items():
        before = state.settings[name]
        if value != before and name not in INCIDENTAL:
            raise RunError(
                f"{directory} holds a run with {option(name)} {before}, not {value}: {CONSENT}"
            )
    if not state.ended:
        raise RunError(
            f"{directory} holds this run, interrupted at step {checkpoint.step}: go on with "
            "--resume, or begin again with --overwrite"
        )
    return checkpoint


def check_training(directory: Path, checkpoint: Checkpoint | None, trainer: Trainer) -> None:
    """RunError unless what the directory holds is of this same training: a complete run, or a model
    whose checkpoint could not be written."""
    if checkpoint is not None:
        if checkpoint.documents_sha256 != trainer.documents_sha256:
            raise RunError(f"{directory} holds a run on another text: {CONSENT}")
        return
    present = [n for n in (WEIGHTS_FILE, CONFIG_FILE) if (directory / n).exists()]
    if not present:
        return
    if WEIGHTS_FILE not in present:
        raise RunError(
            f"{directory} holds a {CONFIG_FILE} that is not from this command: {CONSENT}"
        )
    try:
        model = GPT.load(directory)
    except WeightsError as error:
        raise RunError(f"{error}; {CONSENT}") from None
    if facts_of(model) != facts_of(trainer.model):
        raise RunError(f"{directory} holds the {WEIGHTS_FILE} of another training: {CONSENT}")


def facts_of(model: GPT) -> list[Any]:
    """What models from all steps of one training have in common."""
    facts = {k: v for k, v in model.training.items() if k not in ("held_out_loss", "engine")}
    facts["steps"] = str(facts.get("steps")).split()[-1]
    return [model.config, model.tokenizer, facts]


def state_of(checkpoint: Checkpoint) -> State | None:
    """None where the checkpoint is from another program, or another version of this one."""
    try:
        state = State(**checkpoint.notes)
        Settings(**state.settings)
        return state if _is_of_a_run(state) else None
    except (TypeError, ValueError):
        return None


def _is_of_a_run(state: State) -> bool:
    """Whether all in it is of its type; TypeError or ValueError where not even that can be said."""

    def is_number(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value)

    known = asdict(Settings())
    best = (state.best_step, state.best_val_loss)
    return (
        state.settings.keys() == known.keys()
        and all(
            is_number(value) if type(known[name]) is float else type(value) is type(known[name])
            for name, value in state.settings.items()
            if name != "corpus"
        )
        and type(state.settings["corpus"]) in (str, type(None))
        and state.ended in ("", "finished", "patience")
        and (best == (None, None) or (type(best[0]) is int and is_number(best[1])))
        and all(type(n) is int for n in (state.evals_since_best, state.loss_count))
        and all(map(is_number, (state.seconds, state.loss_sum)))
        and all(
            type(step) is int and all(loss is None or is_number(loss) for loss in losses)
            for step, *losses in state.history
        )
        and all(len(line) == 3 for line in state.history)
    )


def utf8_name(path: str) -> str:
    """Of a file, in UTF-8 whatever the locale made of it."""
    return os.fsencode(Path(path).name).decode("utf-8", "backslashreplace")


def option(name: str) -> str:
    return "--" + name.replace("_", "-")
