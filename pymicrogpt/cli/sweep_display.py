"""How a sweep is told: a line that overwrites itself, some ten lines or JSON, and the table."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from .._words import counted, escaped
from .display import clock
from .terminal import new_console, on_terminal, say

if TYPE_CHECKING:
    from ..sweep import Progress, Row, Space


def describe(row: Row, space: Space) -> str:
    from ..sweep.report import value

    names = space.varied or ["seed"]
    return ", ".join(f"{name} {value(row['settings'][name])}" for name in names)


class Display:
    """How far the sweep is: one line that overwrites itself on a terminal, some ten lines
    elsewhere, or every row as JSON."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.done = self.total = 0
        self.rows: list[Row] = []  # that came since the start
        self._began = time.monotonic()
        self._best: float | None = None  # of all trials in the folder
        self._live = on_terminal(sys.stdout) and not as_json

    def show(self, progress: Progress) -> None:
        done, total, row = progress.done, progress.total, progress.row
        tenth = done * 10 // total > self.done * 10 // total
        self.done, self.total, self._best = done, total, progress.best
        if row is None:
            if done and not self.as_json:
                are = "is" if done == 1 else "are"
                say(f"{done} of {counted(total, 'trial')} {are} done already")
            return
        self.rows.append(row)
        if self.as_json:
            event = {"event": "trial", "done": done, "total": total, **row}
            say(json.dumps(event, allow_nan=False))
            return
        if self._live:
            say(f"\r{self._line(progress.share)}\x1b[K", end="")
        elif tenth:
            say(self._line(progress.share))

    def close(self) -> None:
        if self._live and self.rows:
            say("")

    def _line(self, share: float) -> str:
        seconds = time.monotonic() - self._began
        line = f"{self.done}/{counted(self.total, 'trial')}  {clock(seconds)}"
        if share < 1:
            line += f", about {clock(seconds / share - seconds)} left"
        if self._best is not None:
            line += f"  best held-out loss {self._best:.4f}"
        return line


def show_table(header: list[str], lines: list[list[str]]) -> None:
    """Prints it: on a terminal as rich draws it, where that is installed."""
    lines = [[escaped(cell) for cell in line] for line in lines]
    if on_terminal(sys.stdout):
        try:
            from rich.markup import escape
            from rich.table import Table

            console = new_console()
        except ImportError:
            pass
        else:
            drawn = Table(header_style="bold")
            for name in header:
                drawn.add_column(name, justify="right")
            for line in lines:
                drawn.add_row(*map(escape, line))
            console.print(drawn)
            return
    widths = [max(map(len, column)) for column in zip(header, *lines, strict=True)]
    for line in [header, *lines]:
        cells = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        say("  ".join(cells))
