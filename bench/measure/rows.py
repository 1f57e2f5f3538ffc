"""Runs rows: one worker process each, idle but while its turn lasts, rounds interleaved.

A round is one or more whole trainings from initialisation, and restarting is not timed. Two kinds
of rows have less: one that says that it is steady, of which a training takes minutes, goes on round
by round through one training; and one whose training would take longer than all its rounds may,
which has in each round the first steps, and says how many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bench.measure import machine
from bench.measure.effort import Effort
from bench.measure.process import Worker, WorkerFailed
from bench.measure.timing import per_sample, turn, warm_up
from bench.results import Round, Row
from bench.task.task import Task
from bench.variants.variant import Variant


class Measurement:
    """One row on its way from a worker to its values."""

    def __init__(self, row: Row, variant: Variant, task: Task, effort: Effort, extra: list[str]):
        self.row, self.variant, self.task, self.effort = row, variant, task, effort
        self.extra = extra
        self.worker: Worker | None = None
        self.steps = 1
        self.spent = 0.0

    def prepare(self) -> None:
        """Opens the worker, which verifies, and warms it up."""
        job = {"variant": self.variant.name, "task": str(self.task.file), "extra": self.extra}
        command = ["-m", "bench.measure.checked"]
        with self._failures():
            worker = self.worker = Worker(command, job, self.variant.timeout)
            self.row.info = worker.ready["info"]

            def run(steps: int) -> float:
                seconds: float = worker.ask(steps=steps)["seconds"]
                return seconds

            if self.variant.warmup:  # the rounds of a slow row check the rest of the true losses
                enough = len(self.task.losses)
                self._calibrate(warm_up(run, self.variant.warmup, least=enough))

    def measure(self) -> None:
        """One round, unless the budget is spent."""
        last = self.row.rounds[-1].seconds if self.row.rounds else 0.0
        if not self.worker or (self.row.rounds and self.spent + last > self.effort.budget):
            return
        with self._failures():
            watch = machine.Watch()
            reply = self.worker.ask(steps=self.steps, restart=not self.variant.steady)
            counts = {key: reply[key] for key in ("steps", "documents", "positions")}
            done = Round(reply["seconds"], **counts, activity=watch.facts())
            self.spent += done.seconds
            self.row.rounds.append(done)
            seconds = per_sample(done.seconds, done.positions, self.task.mean_positions)
            self.row.values.append(seconds)
            for key in ("loss", "loss_first_step", "loss_last_step"):
                setattr(self.row, key, reply[key])
            if not self.variant.warmup and len(self.row.rounds) == 1:
                self._calibrate(max(done.seconds, 1e-9) / done.steps)

    def finish(self) -> None:
        if self.worker:
            with self._failures():
                reply = self.worker.ask(finish=True)
                self.row.peak_memory = reply["peak_memory"]
                self.row.engine_memory = reply["engine_memory"]
                if reply["cores"]:
                    self.row.info["cores"] = f"{reply['cores']:.2f}"
        self.stop()

    def stop(self) -> None:
        if self.worker:
            self.worker.kill()
            self.worker = None

    def _calibrate(self, per_step: float) -> None:
        """Steps per round: whole trainings, but of a row that is steady or too slow for one.

        Slow rows train few documents, which differ, so that their rounds share out the whole
        budget. They take a power of two: the same documents in another run, whose clock differs.
        """
        steps = self.effort.round_seconds / per_step
        training = self.task.workload.num_steps
        within = training * per_step <= self.effort.budget
        if steps > training or (not self.variant.steady and within):
            steps = max(1, round(steps / training)) * training
        elif steps < 32 or not self.variant.steady:
            steps = self.effort.budget / self.effort.rounds / per_step
            steps = 2 ** max(0, math.floor(math.log2(steps)))
        self.steps = int(steps)
        self.row.coverage = min(1.0, self.steps / training)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """A failure is what the row says then, and it has no number."""
        try:
            yield
        except WorkerFailed as failure:
            self.row.status, self.row.reason = "error", str(failure)
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
            for m in turn(measurements, index):
                tell(f"{m.row.workload}: round {index + 1} of {effort.rounds}", m.row.title)
                m.measure()
        for m in measurements:
            m.finish()
    finally:
        for m in measurements:
            m.stop()
