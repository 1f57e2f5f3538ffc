"""Runs rows: one worker process each, idle but while its turn lasts, rounds interleaved.

What a step costs falls as a training goes on, where an engine skips the hidden values that have
become zero. So a round is one or more whole trainings from initialisation, and restarting is not
timed. Two kinds of rows have less: one that says that it is steady, of which a training takes
minutes, goes on round by round through one training; and one whose training would take longer than
all its rounds may, which has in each round the first steps, and says how many.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from bench import machine
from bench.machine import ROOT
from bench.results import Round, Row
from bench.task import Task
from bench.variant import Variant

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class WorkerFailed(Exception):
    """The reason is for the row."""


class Worker:
    """A process that answers line by line, in a group of its own so that it dies whole."""

    def __init__(self, command: list[str], timeout: float):
        self.timeout = timeout  # seconds that one answer may take
        self.timed_out = False
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115, kill() closes it
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            cwd=ROOT,
            env={**os.environ, **ONE_THREAD},
            start_new_session=True,
        )

    def receive(self) -> dict:
        """The next reply. WorkerFailed when there is none in time, or when it is an error."""
        timer = threading.Timer(self.timeout, self._time_out)
        timer.start()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        if self.timed_out:
            raise WorkerFailed(f"no answer within {self.timeout:g} s")
        if not line:
            code = self.process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise WorkerFailed(f"its process ended with {how}{self._last_words()}")
        reply = json.loads(line)
        if "error" in reply:
            raise WorkerFailed(reply["error"])
        return reply

    def ask(self, request: str | int) -> dict:
        with suppress(OSError):  # when it is gone, receive() says so
            print(request, file=self.process.stdin, flush=True)
        return self.receive()

    def finish(self) -> dict:
        """Ends the worker; its last reply tells what it needed."""
        self.process.stdin.close()
        return self.receive()

    def kill(self) -> None:
        """Ends the process and what it started, whatever they do."""
        self._kill_group()
        self.process.wait()
        self.process.stdout.close()
        self.stderr.close()

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


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    rounds: int
    round_seconds: float  # a round takes as many trainings as last about this long
    budget: float  # seconds for all rounds of a row; its first round is always run


class Measurement:
    """One row on its way from a worker to its values."""

    def __init__(self, row: Row, variant: Variant, task: Task, effort: Effort, extra: list[str]):
        self.row, self.variant, self.task, self.effort = row, variant, task, effort
        self.extra = extra
        self.worker: Worker | None = None
        self.steps = 1
        self.spent = 0.0
        positions = task.workload.positions(task.offsets)
        self.mean_positions = float(positions.mean())

    @property
    def running(self) -> bool:
        return self.worker is not None

    def prepare(self) -> None:
        """Opens the worker, which verifies, and warms it up."""
        with self._failures():
            job = {
                "variant": self.variant.name,
                "task": str(self.task.file),
                "extra": self.extra,
            }
            command = [sys.executable, "-m", "bench.worker", json.dumps(job)]
            self.worker = Worker(command, self.variant.timeout)
            self.row.info = self.worker.receive()["info"]
            warmup, enough = self.variant.warmup, len(self.task.losses)
            elapsed, done, steps = 0.0, 0, 1
            while warmup and (elapsed < warmup or done < enough):
                reply = self.worker.ask(steps)
                elapsed += reply["seconds"]
                done += steps
                self._calibrate(reply)
                if elapsed > warmup and reply["seconds"] > 0.1:
                    break  # slow: the rounds check the rest of the true losses
                if reply["seconds"] < 0.05:
                    steps *= 2

    def measure(self) -> None:
        """One round, unless the budget is spent."""
        last = self.row.rounds[-1].seconds if self.row.rounds else 0.0
        if not self.running or (self.row.rounds and self.spent + last > self.effort.budget):
            return
        with self._failures():
            watch = machine.Watch()
            steady = self.variant.steady
            reply = self.worker.ask(self.steps if steady else f"restart {self.steps}")
            timed = (reply[key] for key in ("seconds", "steps", "documents", "positions"))
            done = Round(*timed, watch.facts())
            self.spent += done.seconds
            self.row.rounds.append(done)
            self.row.values.append(done.seconds / done.positions * self.mean_positions)
            for key in ("loss", "loss_first_step", "loss_last_step"):
                setattr(self.row, key, reply[key])
            if not self.variant.warmup and len(self.row.rounds) == 1:
                self._calibrate(reply)

    def finish(self) -> None:
        if self.running:
            with self._failures():
                reply = self.worker.finish()
                self.row.peak_memory = reply["peak_memory"]
                self.row.engine_memory = reply["engine_memory"]
                if reply["cores"]:
                    self.row.info["cores"] = f"{reply['cores']:.2f}"
        self.stop()

    def stop(self) -> None:
        if self.running:
            self.worker.kill()
            self.worker = None

    def _calibrate(self, reply: dict) -> None:
        """Steps per round: whole trainings, but of a row that is steady or too slow for one.

        Slow rows train few documents, which differ, so that their rounds share out the whole
        budget. They take a power of two: the same documents in another run, whose clock differs.
        """
        steps_per_second = reply["steps"] / max(reply["seconds"], 1e-9)
        steps = self.effort.round_seconds * steps_per_second
        training = self.task.workload.num_steps
        seconds = training / steps_per_second
        if steps > training or (not self.variant.steady and seconds <= self.effort.budget):
            steps = max(1, round(steps / training)) * training
        elif steps < 32 or not self.variant.steady:
            steps = self.effort.budget / self.effort.rounds * steps_per_second
            steps = 2 ** max(0, math.floor(math.log2(steps)))
        self.steps = int(steps)
        self.row.coverage = min(1.0, self.steps / training)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """A failure is what the row says then, and it has no number."""
        try:
            yield
        except WorkerFailed as failure:
            reason = " ".join(str(failure).split())
            self.row.status, self.row.reason = "error", textwrap.shorten(reason, 240)
            self.row.rounds, self.row.values, self.row.loss = [], [], None
            self.stop()


def run_workload(
    measurements: list[Measurement], effort: Effort, tell: Callable[[str, str], None]
) -> None:
    """Verifies all rows, then times them in interleaved rounds, one process at a time.

    A drift of the machine hits all rows alike; every other round goes in the opposite order.
    `tell` hears of each thing begun: the stage, and the row.
    """
    try:
        for m in measurements:
            tell(f"{m.row.workload}: verifying {len(measurements)} rows", m.row.title)
            m.prepare()
        for index in range(effort.rounds):
            for m in measurements[:: -1 if index % 2 else 1]:
                tell(f"{m.row.workload}: round {index + 1} of {effort.rounds}", m.row.title)
                m.measure()
        for m in measurements:
            m.finish()
    finally:
        for m in measurements:
            m.stop()
