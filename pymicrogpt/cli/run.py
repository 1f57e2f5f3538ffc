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

import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from .._documents import longer_than
from .._signals import Signals
from .._words import counted, escaped
from ..config import checked_float
from ..corpus import Corpus
from ..model import GPT
from ..storage.checkpoint import CHECKPOINT_FILE, Checkpoint
from ..storage.files import has_room, sync_directory
from ..storage.weights import CONFIG_FILE, WEIGHTS_FILE, NotFiniteError, save_model
from ..trainer import Trainer, check_engine, check_finite
from .arguments import CommandError, option
from .display import Display, Event
from .folder import FIRST, check_settings, check_training, check_vacant, own, state_of
from .plan import Plan
from .settings import CHANGEABLE, Settings, State
from .terminal import waiting

SAVE_SECONDS = 10.0  # of training that a kill may cost
SAVE_TAKES = 1.0  # seconds; where saving takes longer, it is done more rarely in proportion
CHUNK_SECONDS = 0.1  # of steps between two looks at the clock
BYTES_SAVED = 4 + 4 + 8 + 8  # of a parameter, at least: model; checkpoint with two moments
ENOUGH_DOCUMENTS = 8  # in a batch in which a hidden unit that lives is heard of
MOST_HISTORY = 20_000  # records; a longer history is thinned out


class Run:
    """A training and its directory, made by start() or resume(). While it is entered, the directory
    belongs to it: CommandError for another training in there."""

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
        self.planned: Event | None = None  # what there is to tell of a plan
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
        plan: Plan | None = None,
    ) -> Run:
        """Begins at step 0, with what a plan picks where there is one. CommandError where the
        directory holds something else, unless `overwrite`, or another process trains in it, or it
        has no room; ValueError for bad settings, OSError where it cannot be written."""
        if directory.exists() and not directory.is_dir():
            raise CommandError(f"--out-dir {directory} is not a directory")
        for name in (CHECKPOINT_FILE, WEIGHTS_FILE, CONFIG_FILE):
            if (directory / name).is_dir():
                raise CommandError(f"{directory / name} is a directory: choose another --out-dir")
        with ExitStack() as ownership:
            ownership.enter_context(own(directory))
            checkpoint = None
            if plan is not None and not overwrite:
                check_vacant(directory)
            elif not overwrite:
                checkpoint = check_settings(directory, settings)
            config = settings.config
            checked_float("learning_rate", settings.learning_rate, engine=True)
            check_engine(settings.engine)
            corpus, held_out = settings.load_corpus()
            planned: Event | None = None
            if plan is not None:
                settings, planned = plan.settled(settings, corpus, held_out, threads)
                config = settings.config
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
                raise CommandError(
                    f"{directory} has no room for the model and its checkpoint, {size:,} bytes"
                )
            state = State(asdict(settings))
            if plan is not None and planned is not None:
                state.budget, state.seconds = plan.seconds, planned["spent"]
            rest = ownership.pop_all()
        run = cls(directory, settings, state, trainer, held_out, True, rest)
        run.planned = planned
        return run

    @classmethod
    def resume(
        cls,
        directory: Path,
        given: Mapping[str, Any],
        *,
        threads: int | str | None = None,
        seconds: float | None = None,
    ) -> Run:
        """Goes on from the checkpoint. CommandError where there is none, where another process
        trains in the directory, and for a `given` setting that is not the run's and not in
        CHANGEABLE; the text of `corpus` and the `seconds` of a plan must be the same."""
        with ExitStack() as ownership:
            if directory.is_dir():
                ownership.enter_context(own(directory))
            if not (directory / CHECKPOINT_FILE).exists():
                raise CommandError(
                    f"{directory} holds nothing to resume: there is no {CHECKPOINT_FILE}"
                )
            checkpoint = Checkpoint.load(directory)
            state = state_of(checkpoint)
            if state is None:
                raise CommandError(
                    f"{directory / CHECKPOINT_FILE} was not written by this command; "
                    "Trainer.resume in Python goes on from it"
                )
            for name, value in given.items():
                before = state.settings[name]
                if value != before and name not in CHANGEABLE:
                    raise CommandError(
                        f"{directory} was begun with {option(name)} {before}, and keeps it; "
                        "another value is another run, in another --out-dir"
                    )
            if seconds not in (None, state.budget):
                steps = f"--max-steps {state.settings['max_steps']}"
                begun = f"--seconds {state.budget:g}" if state.budget else steps
                raise CommandError(
                    f"{directory} was begun with {begun}, and keeps its number of steps: leave "
                    "--seconds out"
                )
            if state.ended == "patience":
                if given.get("patience", 0) <= state.settings["patience"]:
                    raise CommandError(
                        f"{directory} was ended by --patience {state.settings['patience']} at step "
                        f"{checkpoint.step}; --resume with a larger --patience goes on"
                    )
                state.ended = ""
            if state.ended:
                raise CommandError(
                    f"{directory} is complete at step {checkpoint.step}; for a longer training "
                    "begin another run with more --max-steps: they determine the learning rate of "
                    "every step"
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
        corpus, block_size = self.trainer.corpus, self.trainer.config.block_size
        cut, longest = 0, 0  # running text has blocks that fit
        if corpus.block_size is None:
            cut, longest = longer_than(corpus.documents, block_size - 1)  # and its end
        return {
            "event": "start",
            "corpus": corpus.source,
            "documents": len(self.trainer.documents),
            "cut": cut,
            "longest": longest,
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
                if self.planned is not None:
                    display.show(self.planned)
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
