"""What the subcommands of `pymicrogpt` share: their parsers, types of arguments, and errors.

A subcommand is a parser made by `new_parser` whose default `command` is called with the parsed
arguments and returns the exit code.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from .config import checked_float, checked_int


class CommandError(Exception):
    """Told in one line; the exit code is 2."""


class Parser(argparse.ArgumentParser):
    """Errors in one line, and no abbreviated options: they would break with the next option."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {one_line(message)} ({self.prog} --help)\n")


def new_parser(
    subparsers: Any, name: str, help: str, command: Callable[[argparse.Namespace], int]
) -> Parser:
    parser: Parser = subparsers.add_parser(name, help=help, description=help)
    parser.set_defaults(command=command)
    return parser


def integer(minimum: int, maximum: int = 2**31 - 1) -> Callable[[str], int]:
    """For `type=`: an integer in minimum .. maximum."""

    def parse(text: str) -> int:
        try:
            return checked_int("it", int(text), minimum, maximum)
        except ValueError as error:
            raise argparse.ArgumentTypeError(reason(error, text, "an integer")) from None

    return parse


def number(below: float = float("inf")) -> Callable[[str], float]:
    """For `type=`: a number in 0 < x < below."""

    def parse(text: str) -> float:
        try:
            return checked_float("it", float(text), below=below)
        except ValueError as error:
            raise argparse.ArgumentTypeError(reason(error, text, "a number")) from None

    return parse


def reason(error: ValueError, text: str, kind: str) -> str:
    """Of a value that is out of bounds, or is none of its kind at all."""
    message = str(error)
    return message[3:] if message.startswith("it must") else f"must be {kind}, not {text!r}"


def one_line(text: str) -> str:
    return " ".join(text.split())
