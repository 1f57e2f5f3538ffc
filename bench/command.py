"""What the commands share: arguments that are refused before any work, and how a command ends."""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pymicrogpt._signals import Signals
from pymicrogpt._words import escaped


class Refused(Exception):
    """For the user: one line, and exit code 2."""


def names(text: str) -> list[str]:
    """For argparse: a list with commas between; an empty one is a mistake, not everything."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found:
        raise argparse.ArgumentTypeError("names nothing; leave the option out for its default")
    return found


def positive(text: str) -> float:
    """For argparse: a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, not {text!r}")
    return number


def described(doc: str | None) -> dict[str, Any]:
    """Of a parser whose help is a module's docstring, as it is."""
    return {"description": doc, "formatter_class": argparse.RawDescriptionHelpFormatter}


def writable(option: str, path: Path, folder: bool) -> None:
    """Refused where a file, or the files of a folder, could not be written."""
    try:
        path = path.resolve()
        if path.exists() and path.is_dir() != folder:
            raise Refused(f"{option} {path} is {'not' if folder else ''} a directory")
        places = {path, path.parent} if path.is_dir() else {path.parent}
        for place in places:
            while not place.exists():
                place = place.parent
            with tempfile.TemporaryDirectory(prefix=".pymicrogpt-", dir=place):
                pass
        if path.is_file():
            with path.open("ab"):
                pass
    except OSError as error:
        raise Refused(f"{option} {path} cannot be written: {error.strerror}") from error


def read_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:  # where pytest brings tomli
        import tomli as tomllib

    return tomllib.loads(path.read_text(encoding="utf-8"))


def show(text: str) -> None:
    """Prints what was asked for."""
    print(escaped(text, keep="\n"), flush=True)


def say(text: str) -> None:
    """Prints what is being done; where standard output is gone or full, the work matters more."""
    with suppress(OSError):
        show(text)


def end(name: str, run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Exit code: that of `run`, 2 with one line where it was refused or could not say what it had
    to (standard output full, or gone), 128 + the signal after Ctrl-C, SIGTERM or SIGHUP, which are
    a KeyboardInterrupt in `run`."""
    signals = Signals()
    try:
        with signals, signals.at_once():
            code = run(args)
        sys.stdout.flush()
        return code
    except (Refused, ValueError, OSError) as error:
        code, words = 2, f"{name}: {error}"
    except KeyboardInterrupt:
        code, words = 130, f"\n{name}: interrupted; what was there before is as it was"
    if signals.received:
        code = 128 + signals.received
    with suppress(OSError):
        print(escaped(words, keep="\n"), file=sys.stderr, flush=True)
    try:
        sys.stdout.flush()
    except OSError:  # else the interpreter complains once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
