"""The file that holds the rows of a sweep: JSON, one trial a line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType

from .trial import Row, SweepError


class Store:
    """Rows in a file that outlives any kill: each is written whole and on the disk before the next.

    Opening it reads what is there, leaves out a last line that was torn, and keeps other sweeps
    out. SweepError where another one is writing, or a line is no row.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            self._lock()
            self.rows = self._read()  # by key; of several with one key the last
        except BaseException:
            os.close(self._fd)
            raise

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
            import fcntl
        except ImportError:  # Windows
            return
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SweepError(f"another sweep is writing {self.path}; wait for it") from None
        except OSError:  # a file system without locks
            return

    def _read(self) -> dict[str, Row]:
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # killed while it wrote this line
            os.ftruncate(self._fd, whole)
        rows: dict[str, Row] = {}
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                row = json.loads(line)
                rows[row["key"]] = row
            except (ValueError, TypeError, KeyError):
                raise SweepError(
                    f"{self.path}, line {number}, is not a trial; remove the line, or choose "
                    "another folder"
                ) from None
        return rows
