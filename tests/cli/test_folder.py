"""What a folder holds is replaced only with consent, and only by what is whole."""

from __future__ import annotations

import dataclasses
import errno
import os
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import pymicrogpt as mg
from pymicrogpt.cli import run
from pymicrogpt.cli.settings import Settings
from pymicrogpt.storage import files
from pymicrogpt.storage.checkpoint import Checkpoint

from .command import LONG, SMALL, command, posix, process, weights

pytestmark = pytest.mark.usefixtures("folder")


def test_another_run_is_replaced_only_with_consent(capsys):
    args = ["train", *SMALL, "--max-steps", "20"]
    assert command(*args) == 0
    first = weights("out")
    assert command(*args) == 0  # the same run once more
    assert weights("out") == first
    Path("other.txt").write_text("xyz\n" * 9)
    for more, difference in {
        ("--max-steps", "30"): "--max-steps 20, not 30",
        ("--seed", "1"): "--seed 42, not 1",
        ("other.txt",): "another text",
    }.items():
        capsys.readouterr()
        assert command(*args, *more) == 2
        err = capsys.readouterr().err
        assert difference in err and "--overwrite" in err
        assert weights("out") == first
        assert command(*args, *more, "--overwrite", "--out-dir", "elsewhere") == 0
        assert command(*args, "--overwrite", "--out-dir", "elsewhere") == 0
        assert weights("elsewhere") == first


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "checkpoint.safetensors"])
def test_files_of_others_are_replaced_only_with_consent(name, capsys):
    Path("out").mkdir()
    Path("out", name).write_text("mine")
    Path("out/notes.txt").write_text("mine")
    args = ["train", *SMALL, "--max-steps", "5"]
    assert command(*args) == 2
    err = capsys.readouterr().err
    assert name in err and "--overwrite" in err and err.count("\n") == 1
    assert Path("out", name).read_text() == "mine"
    assert command(*args, "--overwrite") == 0
    assert len(mg.GPT.load("out").sample(1)) == 1
    assert Path("out/notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_written(capsys, monkeypatch):
    args = ["train", *SMALL, "--max-steps", "5"]
    assert command(*args) == 0
    before = weights("out")
    capsys.readouterr()

    def refuse(dir):  # as it is for others than root
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    assert command(*args) == 2
    assert capsys.readouterr().err == "pymicrogpt: out: Permission denied\n"
    assert weights("out") == before


def test_a_checkpoint_of_the_library_is_not_a_run(capsys):
    trainer = mg.Trainer(mg.Corpus.load(), num_steps=10)
    trainer.save("out")
    assert command("train", "--resume") == 2
    assert "Trainer.resume" in capsys.readouterr().err
    assert command("train", "--max-steps", "10") == 2
    assert "--overwrite" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["diverges", "is interrupted"])
def test_the_old_run_stays_until_the_new_one_is_there(how, monkeypatch):
    assert command("train", *SMALL, "--max-steps", "30") == 0
    before = {file.name: file.read_bytes() for file in Path("out").iterdir()}

    def run(trainer, k):
        if how == "diverges":
            return np.full(k, np.nan)
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(mg.Trainer, "run", run)
        args = ["train", *SMALL, "--max-steps", "20", "--overwrite"]
        if how == "diverges":
            assert command(*args) == 2
        else:
            with pytest.raises(SystemError):
                command(*args)
    assert {file.name: file.read_bytes() for file in Path("out").iterdir()} == before
    assert command(*args) == 0
    assert mg.GPT.load("out").training["steps"] == "20 of 20"
    assert "20 of 20" in Path("out/README.md").read_text()


def test_a_new_model_is_never_beside_an_old_checkpoint(monkeypatch, capsys):
    args = ["train", *SMALL, "--max-steps", "20"]
    assert command("train", *SMALL, "--max-steps", "30") == 0

    def killed(old, new):
        raise SystemError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(run, "os", SimpleNamespace(**{**vars(os), "replace": killed}))
        with pytest.raises(SystemError):
            command(*args, "--overwrite")
    assert mg.GPT.load("out").training["steps"] == "20 of 20"
    assert not Path("out/checkpoint.safetensors").exists()
    # It is still this training's folder, and nobody else's.
    assert command(*args, "--seed", "1") == 2
    assert "of another training" in capsys.readouterr().err
    assert command(*args) == 0
    assert Checkpoint.load("out").step == 20


@pytest.mark.parametrize("before", [False, True])
def test_a_first_save_that_fails_changes_nothing(before, monkeypatch, capsys):
    args = ["train", *SMALL, "--max-steps", "20"]
    if before:
        assert command(*args, "--seed", "1") == 0
    old = {file.name: file.read_bytes() for file in Path().glob("out/*")}

    def full(trainer, directory):
        raise OSError(errno.ENOSPC, "No space left on device", "checkpoint.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr(mg.Trainer, "save", full)
        assert command(*args, "--overwrite") == 2
    expected = "pymicrogpt: checkpoint.safetensors: No space left on device\n"
    assert capsys.readouterr().err == expected
    assert {file.name: file.read_bytes() for file in Path().glob("out/*")} == old
    assert command(*args, "--overwrite") == 0
    assert Checkpoint.load("out").step == 20


@posix
def test_two_trainings_in_one_folder(capsys):
    first = process("train", *SMALL, *LONG, "--json")
    for _ in range(2):
        first.stdout.readline()
    for args in (["--resume"], ["--overwrite"], [*SMALL, *LONG]):
        assert command("train", *args) == 2
        assert "another training is at work in out" in capsys.readouterr().err
    first.kill()
    first.communicate()
    assert command("train", *SMALL, "--max-steps", "5", "--overwrite") == 0


def test_bad_input_leaves_no_folder():
    assert command("train", "nowhere.txt", "--out-dir", "new") == 2
    assert not Path("new").exists()


def test_directories_where_files_go_are_refused_before_the_work(capsys):
    Path("out/model.safetensors").mkdir(parents=True)
    assert command("train", *SMALL, "--overwrite") == 2
    assert "out/model.safetensors is a directory" in capsys.readouterr().err
    pytest.importorskip("matplotlib")
    Path("other/loss.png").mkdir(parents=True)
    assert command("train", *SMALL, "--plot", "--out-dir", "other") == 2
    assert "loss.png, which is a directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "note",
    [
        {"history": None},
        {"history": [[2, 1.5, "x"]]},
        {"history": [[2, 1.5]]},
        {"history": [["2", 1.5, None]]},
        {"seconds": None},
        {"loss_sum": "x"},
        {"loss_count": None},
        {"best_val_loss": [1]},
        {"best_step": 2, "best_val_loss": None},
        {"evals_since_best": 1.5},
        {"ended": 3},
        {"settings": None},
        {"settings": {"max_steps": 7}},
        {"settings": {**asdict(Settings()), "log_interval": "x"}},
        {"settings": {**asdict(Settings()), "corpus": 3}},
    ],
)
def test_a_checkpoint_with_notes_that_are_none_of_a_run(note, capsys):
    assert command("train", *SMALL, "--max-steps", "9") == 0
    whole = Checkpoint.load("out")
    notes = {**whole.notes, "ended": "", **note}
    dataclasses.replace(whole, notes=notes, step=5, next_document=5).save("out", "float32")
    capsys.readouterr()
    assert command("train", "--resume") == 2
    assert "was not written by this command" in capsys.readouterr().err


def test_a_disk_without_room_is_known_before_the_work(monkeypatch, capsys):
    usage = SimpleNamespace(total=2**30, used=0, free=1072 * 24 - 1)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(run.Run, "train", None)
    assert command("train", *SMALL) == 2
    assert "out has no room for the model and its checkpoint, 25,728" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_folder_that_cannot_be_written_is_named_itself(monkeypatch, capsys):
    def fail(dir):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir / "tmp123"))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", fail)
    monkeypatch.setattr(mg.Corpus, "load", None)  # the text is read later
    for args in (["train"], ["sweep", "--n-embd", "8,16", "--out-dir", "out"]):
        assert command(*args) == 2
        assert capsys.readouterr().err == f"pymicrogpt: out: {os.strerror(errno.EROFS)}\n"
        assert not Path("out").exists()


def test_a_training_that_fails_leaves_no_folder(monkeypatch):
    assert command("train", *SMALL, "--learning-rate", "1e30") == 2
    assert not Path("out").exists()
