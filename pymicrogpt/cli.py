"""The command `pymicrogpt`: what can be asked, and how errors are told.

A subcommand is a parser made by `new_parser` whose default `command` is called with the parsed
arguments and returns the exit code. Exit codes: 0; 2 for bad input; 128 + the signal where one
ended the work (130 for Ctrl-C).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
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


def main(argv: list[str] | None = None) -> int:
    """Runs one command line (default: that of this process) and returns its exit code. SystemExit
    for --help, --version and arguments that do not parse."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that lacks a character shows its number instead.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
        code: int = args.command(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # `| head` has what it wanted. What is still buffered must not fail at exit once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + getattr(signal, "SIGPIPE", 13)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except MemoryError as error:
        print(f"{parser.prog}: {one_line(str(error)) or 'out of memory'}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{parser.prog}: {where}{one_line(error.strerror or str(error))}", file=sys.stderr)
    except (CommandError, ValueError) as error:
        print(f"{parser.prog}: {one_line(str(error))}", file=sys.stderr)
    return 2


def build_parser() -> Parser:
    parser = Parser(
        prog="pymicrogpt", description="Train a tiny GPT on a text file, and sample from it."
    )
    parser.add_argument("--version", action=Version)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    add_info(subparsers)
    return parser


class Version(argparse.Action):
    """--version; the installed metadata is read only then."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and stop")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from . import __version__

        print(f"pymicrogpt {__version__}")
        parser.exit()


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
    return message if message.startswith("it must") else f"it must be {kind}, not {text!r}"


def one_line(text: str) -> str:
    return " ".join(text.split())


def add_info(subparsers: Any) -> None:
    parser = new_parser(subparsers, "info", "Describe this machine's engines.", info)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def info(args: argparse.Namespace) -> int:
    from . import __version__, engines

    python = f"{platform.python_implementation()} {platform.python_version()}"
    if args.json:
        records = [vars(engine) for engine in engines()]
        print(json.dumps({"version": __version__, "python": python, "engines": records}))
        return 0
    print(f"pymicrogpt {__version__}, {python}, {platform.system()} {platform.machine()}\n")
    for engine in engines():
        state = (
            f"{engine.isa}, {engine.dtype}" if engine.available else f"not here: {engine.reason}"
        )
        print(f"{engine.name:10} {state}")
    return 0
