"""How a training is told: a bar on a terminal, plain lines elsewhere, JSON for machines. All three
show the same events."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from .._words import counted, escaped
from .arguments import option
from .terminal import SILENCE_SECONDS, new_console, on_terminal, say, waiting

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Event = dict[str, Any]
SHARES = ("values", "units", "resting")  # of an activity


class Display:
    """Plain lines."""

    def __init__(self) -> None:
        self._silent_since = time.monotonic()
        self._patience = SILENCE_SECONDS  # until a line breaks the silence

    def show(self, event: Event) -> None:
        if text := as_text(event):
            self._patience = SILENCE_SECONDS
            self.write(text)

    def live(self, event: Event) -> None:
        """Where the training is between two lines. On a terminal that is told when nothing else
        was for a second, then for two, four and so on."""
        if time.monotonic() - self._silent_since > self._patience and on_terminal(sys.stdout):
            self._patience *= 2
            self.write("  ".join(in_words(event).values()))

    def waiting(self, what: str) -> AbstractContextManager[None]:
        """For what may take long."""
        return waiting(what)

    def write(self, line: str) -> None:
        say(escaped(line, keep="\t\n") if on_terminal(sys.stdout) else line)
        self._silent_since = time.monotonic()

    def close(self) -> None:
        """After the last step; what is shown then comes below."""


class JsonDisplay(Display):
    """One JSON object a line."""

    def show(self, event: Event) -> None:
        say(json.dumps(event, allow_nan=False))

    def live(self, event: Event) -> None:
        """Machines need no company."""


class BarDisplay(Display):
    """A progress bar below the lines."""

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def live(self, event: Event) -> None:
        if self._progress is None:
            self._progress, self._task = new_bar(event)
            self._progress.start()
        assert self._task is not None
        self._progress.update(self._task, completed=event["step"], **in_words(event))
        self._progress.refresh()

    def waiting(self, what: str) -> AbstractContextManager[None]:
        return nullcontext() if self._progress else super().waiting(what)

    def write(self, line: str) -> None:
        if self._progress is None:
            super().write(line)
        else:
            line = escaped(line, keep="\t\n")
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def new_display(as_json: bool) -> Display:
    if as_json:
        return JsonDisplay()
    if on_terminal(sys.stdout) and os.environ.get("TERM") != "dumb":
        try:
            import rich.progress  # noqa: F401

            return BarDisplay()
        except ImportError:
            pass
    return Display()


def new_bar(event: Event) -> tuple[Progress, TaskID]:
    from rich.progress import BarColumn, Progress, TextColumn

    progress = Progress(
        TextColumn("{task.fields[place]}"),
        BarColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[left]}"),
        console=new_console(),
        auto_refresh=False,  # a thread of its own would take time from the training
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    return progress, progress.add_task("", total=event["max_steps"], **in_words(event))


def in_words(event: Event) -> dict[str, Any]:
    """The columns of a line of progress."""
    width = len(str(event["max_steps"]))
    return {
        "place": f"step {event['step']:{width}d}/{event['max_steps']}",
        "loss": "loss " + (f"{event['loss']:.4f}" if event["loss"] is not None else "-"),
        "speed": f"{event['samples_per_second'] or 0:,.0f} samples/s",
        "left": f"{clock(event['seconds_left'] or 0)} left",
    }


def as_text(event: Event) -> str:
    """An event as lines for people; empty where there is nothing to say."""
    kind = event["event"]
    if kind == "start":
        threads = f", {event['threads']} threads" if event["threads"] > 1 else ""
        resumed = f"\ngoing on from step {event['step']}" if event["step"] else ""
        cut = ""
        if event["cut"]:
            cut = (
                f"\nof {counted(event['cut'], 'document')} only the beginning is learned; "
                f"--block-size {event['longest'] + 1} has room for all"
            )
        held_out = f", {event['held_out']:,} more held out" if event["held_out"] else ""
        return (
            f"{escaped(event['corpus'])}\n"
            f"{counted(event['documents'], 'document')}{held_out}, "
            f"{counted(event['vocab_size'], 'token')}, "
            f"{counted(event['num_params'], 'parameter')}, engine {event['engine']}"
            f"{threads}{cut}{resumed}"
        )
    if kind == "plan":
        options = " ".join(f"{option(k)} {v}" for k, v in event["settings"].items())
        return (
            f"--seconds {event['seconds']:g} picks {options}: as the best for {event['found']}; "
            f"{event['passes']:,.1f} times through the text"
            + ", which is enough: more would learn it by heart"
            * event["enough"]
        )
    if kind == "progress":
        columns = in_words(event)
        if event.get("val_loss") is not None:
            best = " (best)" if event["best"] else ""
            columns["loss"] += f", held out {event['val_loss']:.4f}{best}"
        return "  ".join(columns.values())
    if kind == "sample":
        separator = "\n" if "\n" in event["text"] else " "
        return f"sample {event['number']:2d}:{separator}{event['text']}"
    if kind == "end":
        why = {
            "finished": "finished",
            "patience": "stopped early, as the held-out loss no longer falls,",
            "interrupted": "interrupted",
        }[event["reason"]]
        best = ""
        if event["best_step"] is not None:
            best = f" of step {event['best_step']}, held-out loss {event['best_val_loss']:.4f}"
        activity = ""
        if event["activity"] is not None:
            values, units, resting = (100 * event["activity"][k] for k in SHARES)
            activity = (
                f"\nhidden values not zero in the last step: {values:.1f} %, "
                f"in {units:.0f} % of the units"
            )
            if resting >= 0.5:
                activity += f"; {resting:.0f} % of the units at rest"
        if (dead := event["dead_units"] or 0.0) > 0.5:
            activity += (
                f"\nwarning: {100 * dead:.0f} % of the hidden units no longer take part; a smaller "
                "--learning-rate may reach a lower loss"
            )
        return (
            f"{why} at step {event['step']} after {event['seconds']:.2f} s; "
            f"{escaped(event['out_dir'])} holds the model{best}{activity}"
        )
    return ""


def clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
