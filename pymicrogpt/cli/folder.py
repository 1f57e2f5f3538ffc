"""What a folder holds, and whether a run may begin in it."""

from __future__ import annotations

import math
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..model import GPT
from ..storage.checkpoint import CHECKPOINT_FILE, Checkpoint
from ..storage.files import owned
from ..storage.weights import CONFIG_FILE, WEIGHTS_FILE, WeightsError
from ..trainer import Trainer
from .arguments import CommandError, option
from .settings import INCIDENTAL, Settings, State

FIRST = ".first"  # folder of the first checkpoint, until it takes its place
CONSENT = "choose another --out-dir, or replace it with --overwrite"


def kept_model(directory: str) -> GPT:
    """CommandError where there is none."""
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"--out-dir {directory} is not a directory")
    if not (folder / WEIGHTS_FILE).exists():
        if (folder / "best" / WEIGHTS_FILE).exists():
            raise CommandError(
                f"{directory} holds a sweep; its best model is in --out-dir {folder / 'best'}"
            )
        train = shlex.join(["pymicrogpt", "train", "--out-dir", directory])
        raise CommandError(f"{directory} holds no model; {train} trains one")
    return GPT.load(directory)


@contextmanager
def own(directory: Path) -> Iterator[None]:
    try:
        with owned(directory):
            shutil.rmtree(directory / FIRST, ignore_errors=True)  # of one that was killed
            yield
    except BlockingIOError:
        raise CommandError(
            f"another training is at work in {directory}: wait for its end, or choose another "
            "--out-dir"
        ) from None


def check_settings(directory: Path, settings: Settings) -> Checkpoint | None:
    """The checkpoint in the directory, of a complete run with these settings. CommandError for any
    other, and for files of others."""
    present = [n for n in (CHECKPOINT_FILE, WEIGHTS_FILE, CONFIG_FILE) if (directory / n).exists()]
    if CHECKPOINT_FILE not in present:
        return None
    try:
        checkpoint = Checkpoint.load(directory)
    except WeightsError as error:
        raise CommandError(f"{error}; {CONSENT}") from None
    state = state_of(checkpoint)
    if state is None:
        raise CommandError(
            f"{directory} holds a {CHECKPOINT_FILE} that is not from this command: {CONSENT}"
        )
    for name, value in asdict(settings).items():
        before = state.settings[name]
        if value != before and name not in INCIDENTAL:
            raise CommandError(
                f"{directory} holds a run with {option(name)} {before}, not {value}: {CONSENT}"
            )
    if not state.ended:
        raise CommandError(
            f"{directory} holds this run, interrupted at step {checkpoint.step}: go on with "
            "--resume, or begin again with --overwrite"
        )
    return checkpoint


def check_vacant(directory: Path) -> None:
    """CommandError where a run is, for one whose settings are still to be picked."""
    if (directory / CHECKPOINT_FILE).exists():
        raise CommandError(
            f"{directory} holds a run already, and --seconds begins another: go on with that one "
            f"by --resume, {CONSENT}"
        )


def check_training(directory: Path, checkpoint: Checkpoint | None, trainer: Trainer) -> None:
    """CommandError unless what the directory holds is of this same training: a complete run, or a
    model whose checkpoint could not be written."""
    if checkpoint is not None:
        if checkpoint.documents_sha256 != trainer.documents_sha256:
            raise CommandError(f"{directory} holds a run on another text: {CONSENT}")
        return
    present = [n for n in (WEIGHTS_FILE, CONFIG_FILE) if (directory / n).exists()]
    if not present:
        return
    if WEIGHTS_FILE not in present:
        raise CommandError(
            f"{directory} holds a {CONFIG_FILE} that is not from this command: {CONSENT}"
        )
    try:
        model = GPT.load(directory)
    except WeightsError as error:
        raise CommandError(f"{error}; {CONSENT}") from None
    if facts_of(model) != facts_of(trainer.model):
        raise CommandError(f"{directory} holds the {WEIGHTS_FILE} of another training: {CONSENT}")


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
        and all(map(is_number, (state.seconds, state.budget, state.loss_sum)))
        and all(
            type(step) is int and all(loss is None or is_number(loss) for loss in losses)
            for step, *losses in state.history
        )
        and all(len(line) == 3 for line in state.history)
    )
