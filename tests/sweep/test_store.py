"""The file of results."""

from __future__ import annotations

import errno
import json
import os

import pytest

from pymicrogpt import sweep
from pymicrogpt.sweep import Space, SweepError
from pymicrogpt.sweep.store import Store
from pymicrogpt.sweep.trial import Data, key, receive, run_trial

from .common import HELD_OUT, QUICK, TRAIN, posix


def a_row(name, **results):
    return {"key": name, "error": None, **results}


def test_store_leaves_out_a_torn_line_at_any_byte(tmp_path):
    path = tmp_path / "trials.jsonl"
    with Store(path) as store:
        store.append(a_row("a"))
        store.append(a_row("b"))
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        with Store(path) as store:
            assert list(store.rows) == ["a"]
            store.append(a_row("c"))
        assert [json.loads(line)["key"] for line in path.read_text().splitlines()] == ["a", "c"]


@posix
def test_store_refuses_what_is_no_trial_and_a_second_sweep(tmp_path):
    path = tmp_path / "trials.jsonl"
    with Store(path) as store:
        store.append(a_row("a"))
        with pytest.raises(SweepError, match="another sweep is writing"):
            Store(path)
    for line in ("hello", "3", "{}", "\udcff"):
        path.write_bytes(
            b'{"key": "a"}\n' + line.encode(errors="surrogateescape") + b'\n{"key": "b"}\n'
        )
        with pytest.raises(SweepError, match=r"trials.jsonl, line 2, is not a trial"):
            Store(path)


@posix
def test_a_pipe_is_no_store(tmp_path):
    os.mkfifo(tmp_path / "trials.jsonl")
    with pytest.raises(SweepError, match="no regular file"):
        Store(tmp_path / "trials.jsonl")


def test_a_full_disk_names_the_file_and_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "trials.jsonl"
    write = os.write
    room = [60]

    def write_while_there_is_room(fd, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(fd, data[: room[0]])
        room[0] -= written
        return written

    with Store(path) as store:
        store.append(a_row("a"))
        monkeypatch.setattr(os, "write", write_while_there_is_room)
        store.append(a_row("b"))
        with pytest.raises(SweepError, match=r"trials.jsonl: No space left"):
            store.append(a_row("c", filler="c" * 60))
        monkeypatch.undo()
    with Store(path) as store:
        assert list(store.rows) == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [("[]", "it is no JSON object"), ("{}", "it lacks key"), ("nonsense", "it is no JSON")],
)
def test_foreign_lines_are_told_with_what_they_lack(line, reason, tmp_path):
    (tmp_path / "trials.jsonl").write_text(line + "\n")
    with pytest.raises(SweepError, match=f"line 1, is not a trial: {reason}"):
        Store(tmp_path / "trials.jsonl")


def test_damaged_rows_are_told_with_what_they_lack(tmp_path):
    space = Space.grid(**QUICK)
    [row] = sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=1)
    for damaged, reason in (
        ({k: v for k, v in row.items() if k != "curve"}, "that lacks curve"),
        ({**row, "settings": {}}, "with other settings"),
        ({**row, "settings": {**row["settings"], "beta1": float("nan")}}, "with other settings"),
        ({**row, "remark": "mine"}, "with a remark that no trial has"),
    ):
        (tmp_path / "trials.jsonl").write_text(json.dumps(damaged) + "\n")
        with pytest.raises(SweepError, match=f"has a trial {row['key']} {reason}"):
            sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=1)
        other = Space.grid(**{**QUICK, "num_steps": 1})  # the report has the damaged one as well
        with pytest.raises(SweepError, match=f"has a trial {row['key']} {reason}"):
            sweep.run(other, TRAIN, HELD_OUT, tmp_path, workers=1)
        with pytest.raises(SweepError, match=f"has a trial {row['key']} {reason}"):
            sweep.load(tmp_path)


def test_a_row_of_a_version_with_fewer_settings(tmp_path):
    [row] = sweep.run(Space.grid(**QUICK), TRAIN, HELD_OUT, tmp_path, workers=1)
    settings = {k: v for k, v in row["settings"].items() if k != "beta1"}
    older = {**row, "key": key(settings, row["data"]), "settings": settings}
    (tmp_path / "trials.jsonl").write_text(json.dumps(older) + "\n")
    with pytest.raises(SweepError, match=f"has a trial {older['key']} with other settings"):
        sweep.load(tmp_path)


def test_rows_are_loaded_while_a_sweep_writes(tmp_path):
    with pytest.raises(FileNotFoundError):
        sweep.load(tmp_path)
    [row] = sweep.run(Space.grid(**QUICK), TRAIN, HELD_OUT, tmp_path, workers=1)
    with Store(tmp_path / "trials.jsonl"):
        with open(tmp_path / "trials.jsonl", "ab") as file:
            file.write(b'{"key": "to')
        assert sweep.load(tmp_path) == [row]
    assert (tmp_path / "trials.jsonl").read_bytes().endswith(b"to")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("curve", value) for value in (None, [], 3, [[1, 2]], [[1, None, 2.0]], [[1, 2, "x"]])),
        *(("num_params", value) for value in (None, True, 1.5, 0, 2**63)),
        *(("held_out_loss", value) for value in (None, "2", float("nan"), [1])),
        *(("train_seconds", value) for value in (None, True, float("inf"))),
        *((name, 3) for name in ("data", "engine", "error", "worker")),
        ("started", "now"),
    ],
)
def test_rows_that_no_trial_has_are_told_by_the_name(name, value, tmp_path, monkeypatch):
    [settings] = Space.grid(**QUICK).trials
    receive(data := Data(TRAIN, HELD_OUT))
    row = run_trial(settings, data.digest)
    (tmp_path / "trials.jsonl").write_text(json.dumps({**row, name: value}) + "\n")
    with pytest.raises(SweepError, match=f"a trial {row['key']} with a {name} that no trial has"):
        sweep.run(Space.grid(**QUICK), TRAIN, HELD_OUT, tmp_path, workers=1)


def test_rows_with_equal_settings_of_other_types(tmp_path):
    space = Space.grid(**QUICK)
    receive(data := Data(TRAIN, HELD_OUT))
    row = run_trial(space.trials[0], data.digest)
    (tmp_path / "trials.jsonl").write_text(json.dumps(row) + "\n")
    assert sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=1) == [row]
    row["settings"] = {**row["settings"], "n_layer": True}
    (tmp_path / "trials.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(SweepError, match="with other settings than its key says"):
        sweep.run(space, TRAIN, HELD_OUT, tmp_path, workers=1)
