"""What is printed, on streams that may fail.

Nothing here fails because of where it is written to: a terminal that was closed, a full disk or a
reader that went away (`| head`) cost no work. `lost` remembers the first error of each stream, for
the exit code.
"""

from __future__ import annotations

import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from .._words import escaped

if TYPE_CHECKING:
    from rich.console import Console

SILENCE_SECONDS = 1.0  # on a terminal, until a line says what takes so long

lost: dict[str, OSError] = {}  # "stdout", "stderr": why it cannot be written any more


def say(text: str, *, end: str = "\n", stream: str = "stdout", flush: bool = True) -> None:
    """Prints `text`, or notes in `lost` that it cannot."""
    try:
        print(text, end=end, file=getattr(sys, stream), flush=flush)
    except (OSError, ValueError) as error:  # ValueError: the stream is closed
        lose(stream, error)


def lose(stream: str, error: OSError | ValueError) -> None:
    """What is still buffered, and all that comes, goes nowhere."""
    lost.setdefault(stream, error if isinstance(error, OSError) else OSError(str(error)))
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, getattr(sys, stream).fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # no real file
        setattr(sys, stream, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115


def tell(message: str) -> None:
    say(f"pymicrogpt: {one_line(message)}", stream="stderr")


def flushed() -> bool:
    """Whether all that was to be printed is out. What is not must not fail at exit once more."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError) as error:
            lose(name, error)
    return "stdout" not in lost


def one_line(text: str) -> str:
    """Without control characters; line ends become spaces."""
    return escaped(re.sub(r"\s*[\r\n]\s*", " ", text.strip()))


def on_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Says on the terminal what is going on, where it takes longer than a second."""
    timer = threading.Timer(SILENCE_SECONDS, say, (f"{what} ...",), {"stream": "stderr"})
    timer.daemon = True
    if on_terminal(sys.stderr):
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Terminal(io.TextIOBase):
    """sys.stdout for rich, which would let its errors through, or end the process."""

    def write(self, text: str) -> int:
        say(text, end="")
        return len(text)

    def isatty(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return sys.stdout.encoding


def new_console() -> Console:
    """For a terminal. ImportError without rich."""
    from rich.console import Console

    return Console(file=_Terminal())  # type: ignore[arg-type]
