"""The command `pymicrogpt`, and python -m pymicrogpt: cli/, once Ctrl-C is provided for."""

from __future__ import annotations

# What `signal` wraps: to load that takes some of the time it is here to cover.
import _signal as signal  # type: ignore[import-not-found]
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def main(argv: list[str] | None = None) -> int:
    """Runs one command line (default: that of this process) and returns its exit code. SystemExit
    for --help, --version and arguments that do not parse."""
    before = signal.getsignal(signal.SIGINT)
    if argv is not None or before is not signal.default_int_handler:  # ignored, as under nohup
        from .cli import _main

        return _main.run(argv)
    signal.signal(signal.SIGINT, _stop)
    try:
        from .cli import _main

        return _main.run(ready=lambda: signal.signal(signal.SIGINT, before))
    finally:  # the work is done: what comes now must not spoil the exit code
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if number := getattr(signal, name, None):
                signal.signal(number, signal.SIG_IGN)


def _stop(number: int, frame: FrameType | None) -> None:
    """While modules are loaded an exception might get lost, and there is nothing to save yet."""
    os.write(2, b"pymicrogpt: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
