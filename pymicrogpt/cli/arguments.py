"""What the subcommands of `pymicrogpt` share: their parsers, types of arguments, and errors.

A subcommand is a parser made by `new_parser` whose `command` is called with the parsed arguments
and returns the exit code.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from ..config import checked_float, checked_int
from .terminal import one_line, say

# Options whose names are not those of the library's arguments.
RENAMED = {"num_steps": "--max-steps", "seconds": "--max-seconds", "fraction": "--val-fraction"}
# What may be an argument in a message of the library: a name of two words, the first word, and what
# "must" be something. Not what is quoted or part of a path, which is somebody's own.
ARGUMENT = re.compile(
    r"(?<!\w)(?:'[^']*'|\"[^\"]*\")"
    r"|(?<![\w./-])(?:[a-z]+(?:_[a-z]+)+|^[a-z]\w*|[a-z]\w*(?= must))(?![\w/-]|\.\w)"
)


class CommandError(ValueError):
    """Told in one line, as it is; the exit code is 2."""


class Parser(argparse.ArgumentParser):
    """Errors in one line, and no abbreviated options: they would break with the next option."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def _print_message(self, message: str, file: Any = None) -> None:
        say(message or "", end="", stream="stdout" if file is sys.stdout else "stderr")

    def in_options(self, message: str) -> str:
        """A message of the library with the options of this command for its arguments."""

        def translated(match: re.Match[str]) -> str:
            known = option(match[0]) in self._option_string_actions
            return option(match[0]) if known else match[0]

        return ARGUMENT.sub(translated, message)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)} ({self.prog} --help)\n")


def new_parser(
    subparsers: Any,
    name: str,
    help: str,
    command: Callable[[argparse.Namespace], int],
    needs: str = __package__,
) -> Parser:
    """needs: a module to load before the command begins"""
    parser: Parser = subparsers.add_parser(name, help=help, description=help)
    parser.set_defaults(command=command, needs=needs, parser=parser)
    return parser


def option(name: str) -> str:
    """The option for an argument of the library."""
    return RENAMED.get(name, "--" + name.replace("_", "-"))


def integer(minimum: int, maximum: int = 2**31 - 1) -> Callable[[str], int]:
    """For `type=`: an integer in minimum .. maximum."""

    def parse(text: str) -> int:
        try:
            return checked_int("it", int(text), minimum, maximum)
        except ValueError as error:
            raise argparse.ArgumentTypeError(reason(error, text, "an integer")) from None

    return parse


def number(below: float = float("inf"), zero: bool = False) -> Callable[[str], float]:
    """For `type=`: a number in 0 < x < below, or 0 <= x with `zero`."""

    def parse(text: str) -> float:
        try:
            return checked_float("it", float(text), below=below, zero=zero)
        except ValueError as error:
            raise argparse.ArgumentTypeError(reason(error, text, "a number")) from None

    return parse


def reason(error: ValueError, text: str, kind: str) -> str:
    """Of a value that is out of bounds, or is none of its kind at all."""
    message = str(error)
    return message[3:] if message.startswith("it must") else f"must be {kind}, not {text!r}"


def nonempty(text: str) -> str:
    """For `type=`: of a file, an engine, an address. Empty is what a shell makes of a variable that
    is not set."""
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def utf8(text: str) -> str:
    """For `type=`: text, which is UTF-8 even where the locale (LC_ALL=C) made bytes of it."""
    if not re.search("[\udc80-\udcff]", text):
        return text
    try:
        return os.fsencode(text).decode()
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"must be UTF-8, not {text!r}") from None
