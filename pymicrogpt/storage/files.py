"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ABANDONED_SECONDS = 3600.0


def write_atomically(
    path: Path, data: bytes, before_rename: Callable[[Path], None] | None = None
) -> None:
    """The file at `path` holds what it held before or `data`, whenever the process or the machine
    stops. Makes the directory; permissions are those of any new file.

    before_rename: called with the temporary file when it is whole and on the disk; what it raises
        leaves the old file in place
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if before_rename is not None:
            before_rename(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = os.fspath(path)  # a full disk does not say where it is
        raise
    sync_directory(path.parent)
    _remove_abandoned(path)


def lock(descriptor: int) -> None:
    """Keeps others that ask for the lock of the same file or directory out until the descriptor is
    closed, at the latest with the end of this process. BlockingIOError where another has it;
    without effect where there are no such locks, as on Windows and some network file systems."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return


@contextlib.contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Makes the directory, finds out whether it can be written, and locks it; where the block
    raises it is removed again if it was not there before and is empty. BlockingIOError where
    another process has it, OSError where it cannot be written."""
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY) if os.name != "nt" else None
    try:
        if descriptor is not None:
            lock(descriptor)
        try:
            tempfile.TemporaryFile(dir=directory).close()
        except OSError as error:
            error.filename = os.fspath(directory)  # not a name that is chosen anew each time
            raise
        yield
    except BaseException:
        if made:
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def has_room(directory: Path, size: int) -> bool:
    """Whether files of `size` bytes fit there, as far as the system says."""
    usage = shutil.disk_usage(directory)
    return usage.total == 0 or size <= usage.free


def sync_directory(path: Path) -> None:
    """Renames and removals in it are on the disk."""
    if os.name != "nt":  # Windows opens no directories
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network file systems have no such thing
                raise
        finally:
            os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Temporary files of writers that were killed. Others may be at work on theirs, so the young
    ones stay."""
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - temporary.stat().st_mtime > ABANDONED_SECONDS:
                temporary.unlink()
