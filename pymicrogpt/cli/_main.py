"""One command line, from its arguments to the exit code."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NoReturn

from .._signals import Signals
from . import info, sample, sweep, train, web
from .arguments import CommandError, Parser
from .terminal import flushed, lost, say, tell


def run(argv: list[str] | None = None, ready: Callable[[], object] | None = None) -> int:
    """As main(). ready: called when all is loaded, before the command begins, by a caller that ends
    the process after it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="pymicrogpt")
    lost.clear()
    Signals.one_is_enough = ready is not None
    try:
        code = run_command(argv, ready)
    except SystemExit as stop:
        if flushed():
            raise
        code = int(stop.code or 0)
    if flushed() or code not in (0, 1):
        return code
    if isinstance(lost["stdout"], BrokenPipeError):  # `| head` has what it wanted
        return 128 + getattr(signal, "SIGPIPE", 13)
    tell(f"standard output: {lost['stdout'].strerror or lost['stdout']}")
    return 2


def as_bytes_or_number(error: UnicodeError) -> tuple[bytes, int]:
    """Of what a stream's encoding lacks: the bytes of a file name that the locale could not read,
    as they were, and the numbers of other characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    parts = (
        bytes([ord(c) - 0xDC00])
        if "\udc80" <= c <= "\udcff"
        else c.encode("ascii", "backslashreplace")
        for c in text
    )
    return b"".join(parts), error.end


codecs.register_error("pymicrogpt", as_bytes_or_number)


def run_command(argv: list[str] | None, ready: Callable[[], object] | None) -> int:
    parser = build_parser()
    try:
        args, unknown = parser.parse_known_args(argv)
        if unknown:  # the subcommand's help lists what there is
            args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        import_module(args.needs)
        if ready:
            ready()
        code: int = args.command(args)
        return code
    except KeyboardInterrupt:
        tell("interrupted")
        return 128 + signal.SIGINT
    except MemoryError as error:
        tell(str(error) or "out of memory")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        tell(f"{where}{error.strerror or error}")
    except CommandError as error:
        tell(str(error))
    except ValueError as error:
        from .. import CorpusError, WeightsError

        # What a file says has no options.
        of_file = isinstance(error, (CorpusError, WeightsError))
        tell(str(error) if of_file else args.parser.in_options(str(error)))
    return 2


def build_parser() -> Parser:
    parser = Parser(
        prog="pymicrogpt", description="Train a tiny GPT on a text file, and sample from it."
    )
    parser.add_argument("--version", action=Version)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, dest="name")
    for command in (train, sample, sweep, info, web):
        command.add(subparsers)
    return parser


class Version(argparse.Action):
    """--version; the installed metadata is read only then."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and stop")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from .. import __version__

        say(f"pymicrogpt {__version__}")
        parser.exit()
