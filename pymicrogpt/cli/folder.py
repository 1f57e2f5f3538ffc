"""What a folder holds, and whether a run may begin in it."""

from __future__ import annotations

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
    if not Path(directory, WEIGHTS_FILE).exists():
        raise CommandError(
            f"{directory} holds no model; pymicrogpt train --out-dir {directory} does"
        )
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
        known = state.settings.keys() == asdict(Settings()).keys()
    except (TypeError, AttributeError):
        return None
    return state if known else None
