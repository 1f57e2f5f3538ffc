"""Ctrl-C, SIGTERM and SIGHUP, kept from work that they must not tear apart."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

# Windows has no SIGHUP.
NUMBERS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


@contextmanager
def signals_held() -> Iterator[None]:
    """Keeps signals that Python code handles back until the end of the block. Only the main thread
    ever receives them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    previous = {}
    for number in NUMBERS:
        if callable(signal.getsignal(number)):
            previous[number] = signal.signal(number, lambda number, _: held.append(number))
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for number in held:
        signal.raise_signal(number)


class Signals:
    """While entered, Ctrl-C, SIGTERM and SIGHUP set `received` to the first of them. In an
    at_once() block they also raise KeyboardInterrupt, once; elsewhere they never do, however many
    come. One that the process was started to ignore stays ignored, and outside the main thread
    there are none."""

    # Set by a command that owns its process: after the first signal it only leaves, and those that
    # come meanwhile are ignored.
    one_is_enough = False

    def __init__(self) -> None:
        self.received = 0
        self._unless: Callable[[], bool] | None = None  # in an at_once() block
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        leaves = self.one_is_enough and self.received
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_IGN if leaves else handler)

    @contextmanager
    def at_once(self, unless: Callable[[], bool] = lambda: False) -> Iterator[None]:
        self._unless = unless
        try:
            yield
        finally:
            self._unless = None

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        unless, self._unless = self._unless, None
        if unless is not None and not unless():
            raise KeyboardInterrupt
