"""The command `pymicrogpt`, and python -m pymicrogpt: cli/, once Ctrl-C is provided for."""

from __future__ import annotations

# What `signal` wraps: to load that takes some of the time it is here to cover.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType


def main(argv: list[str] | None = None) -> int:
    """Runs one command line (default: that of this process) and returns its exit code. SystemExit
    for --help, --version and arguments that do not parse."""
    before = signal.getsignal(signal.SIGINT)  # may be ignored, as under nohup
    if argv is not None or before not in (signal.default_int_handler, signal.SIG_IGN):
        from .cli import _main

        return _main.run(argv)

    def handle_interrupt(handler: Callable[[int, FrameType | None], object]) -> None:
        if before is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, handler)

    handle_interrupt(_stop)
    try:
        from .cli import _main

        return _main.run(ready=lambda: handle_interrupt(_interrupt))
    finally:  # the work is done: what comes now must not spoil the exit code
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if number := getattr(signal, name, None):
                signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    """While modules are loaded an exception might get lost, and there is nothing to save yet."""
    os.write(2, b"pymicrogpt: interrupted\n")
    os._exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """The work ends, once: what is left then is to say so."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
