"""A process that answers line by line: both of its ends.

What measures starts one for each row, probe, training or build (Worker), so that a crash ends one
of them alone. The first line that it reads is its job, the others are requests; it answers each
with one line, all in JSON, and whatever goes wrong with {"error": reason}, which ends it (serve).
This module needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class WorkerFailed(Exception):
    """The reason is for people: one line, of a length for a table."""

    def __init__(self, reason: str):
        reason = reason.encode("utf-8", "backslashreplace").decode()  # no lone surrogates
        super().__init__(textwrap.shorten(" ".join(reason.split()), 240))


class Worker:
    """The end of who asks. The process has a group of its own, so that it dies whole."""

    def __init__(self, command: list[str], job: dict[str, Any], timeout: float):
        """Starts `python *command` and hands it its job. It has `timeout` seconds for each answer,
        from when that is waited for."""
        self.timeout = timeout
        self.timed_out = False
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115, kill() closes it
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            encoding="utf-8",
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD},
            start_new_session=True,
        )
        assert self.process.stdin and self.process.stdout
        self.requests, self.replies = self.process.stdin, self.process.stdout
        self.ready: dict[str, Any] | None = None
        self._send(job)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()

    def wait(self) -> dict[str, Any]:
        """Its reply to the job. WorkerFailed as ask() raises it, and then the process is gone."""
        if self.ready is None:
            try:
                self.ready = self._reply()
            except BaseException:
                self.kill()
                raise
        return self.ready

    def ask(self, **request: Any) -> dict[str, Any]:
        """Its reply. WorkerFailed when there is none in time, or when it is an error."""
        self.wait()
        self._send(request)
        return self._reply()

    def _send(self, request: dict[str, Any]) -> None:
        with self._in_time(), suppress(OSError):  # when it is gone, there is no reply
            print(json.dumps(request), file=self.requests, flush=True)

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        timer = threading.Timer(self.timeout, self._time_out)
        timer.daemon = True  # nobody who leaves waits for it
        try:
            timer.start()  # Ctrl-C may come in it, when the thread is there already
            yield
        finally:
            timer.cancel()

    def _reply(self) -> dict[str, Any]:
        with self._in_time():
            line = self.replies.readline()
        if self.timed_out:
            raise WorkerFailed(f"no answer within {self.timeout:g} s")
        if not line:
            code = self.process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise WorkerFailed(f"its process ended with {how}{self._last_words()}")
        try:
            reply = json.loads(line)
        except (ValueError, RecursionError):
            reply = None
        if not isinstance(reply, dict):
            raise WorkerFailed(f"its answer is not one, but {line!r}")
        if "error" in reply:
            raise WorkerFailed(str(reply["error"]))
        return reply

    def kill(self) -> None:
        """Ends the process and what it started, whatever they do."""
        self._kill_group()
        self.process.wait()
        for file in (self.requests, self.replies, self.stderr):
            with suppress(OSError):  # of what it did not read any more
                file.close()

    def _time_out(self) -> None:
        self.timed_out = True
        self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):  # nothing of it is left
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def _last_words(self) -> str:
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def serve(start: Callable[[dict[str, Any]], tuple[dict[str, Any], Answer]]) -> None:
    """The end of who answers: `start` gets the job, and returns the reply to it and a function that
    answers each request."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a variant prints is not a reply

    def reply(message: dict[str, Any]) -> None:
        print(json.dumps(message, allow_nan=False), file=replies, flush=True)

    lines = iter(sys.stdin.buffer)
    try:
        ready, answer = start(json.loads(next(lines)))
        reply(ready)
        for line in lines:
            reply(answer(json.loads(line)))
    except Exception as error:  # whatever goes wrong is the reason
        reply({"error": f"{getattr(error, 'kind', type(error).__name__)}: {error}"})
