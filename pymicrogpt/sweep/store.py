"""The file that holds the rows of a sweep: JSON, one trial a line."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from .._words import counted
from ..storage.files import lock
from .space import DEFAULTS, INT_MAX
from .trial import Row, SweepError, empty_row, key

FILE = "trials.jsonl"


def load(out_dir: str | os.PathLike[str]) -> list[Row]:
    """The rows of all sweeps in `out_dir`, in the order in which they came, while another one is
    written, too. SweepError where a line is no row; FileNotFoundError where no sweep was."""
    path = Path(out_dir) / FILE
    rows, _ = _read(path)
    for row in rows.values():
        _check(path, row)
    return list(rows.values())


class Store:
    """Rows in a file that outlives any kill: each is written whole and on the disk before the next.

    Opening it reads what is there, leaves out a last line that was torn, and keeps other sweeps
    out. SweepError where another one is writing, or a line is no row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_file():
            raise SweepError(f"{path} is no regular file; choose another folder")
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            self._lock()
            self.rows, whole = _read(path)
            if whole < path.stat().st_size:  # killed while it wrote the last line
                os.ftruncate(self._fd, whole)
        except BaseException:
            os.close(self._fd)
            raise

    def check(self, data_digest: str) -> None:
        """SweepError where a row lacks something or has it of another type, or is of another
        corpus or split: losses that do not compare would share a ranking and a best model."""
        for row in self.rows.values():
            _check(self.path, row)
        if others := sum(row["data"] != data_digest for row in self.rows.values()):
            raise SweepError(
                f"{self.path} has {counted(others, 'trial')} on another text or another split of "
                "it, whose losses do not compare with those of this sweep; choose another out_dir"
            )

    def append(self, row: Row) -> None:
        line = memoryview((json.dumps(row, allow_nan=False) + "\n").encode())
        try:
            while line:
                line = line[os.write(self._fd, line) :]
            os.fsync(self._fd)
        except OSError as error:
            raise SweepError(
                f"cannot write {self.path}: {error.strerror}; the trials before this one are kept"
            ) from error
        self.rows[row["key"]] = row

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def _lock(self) -> None:
        try:
            lock(self._fd)
        except BlockingIOError:
            raise SweepError(f"another sweep is writing {self.path}; wait for it") from None


def _read(path: Path) -> tuple[dict[str, Row], int]:
    """Rows by key, of several with one key the last, and the bytes of all lines that are whole."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    rows: dict[str, Row] = {}
    for number, line in enumerate(content[:whole].splitlines(), 1):
        reason = ""
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                reason = "it is no JSON object"
            elif not isinstance(row.get("key"), str):
                reason = "it lacks key"
        except (ValueError, TypeError, RecursionError):
            reason = "it is no JSON"
        if reason:
            raise SweepError(
                f"{path}, line {number}, is not a trial: {reason}; remove the line, or choose "
                "another folder"
            )
        rows[row["key"]] = row
    return rows, whole


def _check(path: Path, row: Row) -> None:
    """SweepError where a row is not as a trial leaves it."""
    wrong = ""
    fields = empty_row(DEFAULTS, "")
    if missing := [name for name in fields if name not in row]:
        wrong = f"that lacks {missing[0]}"
    elif name := next((name for name in row if name not in fields), "") or _unfit(row):
        wrong = f"with a {name} that no trial has"
    elif not _is_key(row):
        wrong = "with other settings than its key says"
    if wrong:
        raise SweepError(
            f"{path} has a trial {row['key']} {wrong}; remove its line, or choose another folder"
        )


def _is_key(row: Row) -> bool:
    settings = row["settings"]
    try:  # a digest of text, so that True and 1.0 are not 1
        own = key(settings, row["data"])
    except (ValueError, RecursionError):  # NaN, or nested too deeply
        return False
    return own == row["key"] and isinstance(settings, dict) and settings.keys() == DEFAULTS.keys()


def _unfit(row: Row) -> str:
    """What in a row is not as run_trial() makes it; empty where all is well."""

    def is_number(value: Any) -> bool:
        return type(value) in (int, float) and math.isfinite(value)

    def is_count(value: Any) -> bool:
        return type(value) is int and 0 < value <= INT_MAX

    def is_curve(value: Any) -> bool:
        points = value if isinstance(value, list) else [None]
        return all(isinstance(p, list) and len(p) == 3 and all(map(is_number, p)) for p in points)

    kinds: dict[str, Callable[[Any], bool]] = {
        **dict.fromkeys(("engine", "error", "worker"), lambda value: isinstance(value, str)),
        **dict.fromkeys(("num_params", "num_steps"), is_count),
        **dict.fromkeys(("train_seconds", "held_out_loss", "train_loss"), is_number),
        **dict.fromkeys(("started", "ended"), is_number),
    }
    if not isinstance(row["data"], str):
        return "data"
    if not is_curve(row["curve"]) or not (row["curve"] or row["error"]):
        return "curve"
    may_lack = kinds if row["error"] else ("error",)
    for name, fits in kinds.items():
        if not (name in may_lack if row[name] is None else fits(row[name])):
            return name
    return ""
