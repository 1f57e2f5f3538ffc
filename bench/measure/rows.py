"""Runs rows: one worker process each, idle but while its turn lasts, rounds interleaved.

A round is one or more whole trainings from initialisation, and restarting is not timed. Two kinds
of rows have less: one that says that it is steady, of which a training takes minutes, goes on round
by round through one training; and one whose training would take longer than a round may, which has
in each round the first steps, and says how many. A training whose steps cost less the further it is
may take LONGER times as long.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager

from bench.measure import machine
from bench.measure.effort import Effort
from bench.measure.neighbour import NOBODY, Neighbour, repeat
from bench.measure.process import Worker, WorkerFailed
from bench.measure.timing import per_sample, turn, warm_up
from bench.results import BASELINE, ENOUGH_ROUNDS, Round, Row
from bench.task.task import Task
from bench.variants.variant import Variant
from pymicrogpt.engines import available_cores

LONGER = 6
BASELINE_WEIGHT = 10  # all speed-ups lean on it
BASELINE_STEPS = 2  # in a round, at least: one alone takes a tenth more or less from run to run
CALIBRATION = 0.1  # seconds of steps, from which the length of a round follows
VERIFYING = 4  # rows at a time, at most: they may compile, which takes memory


class Measurement:
    """One row on its way from a worker to its values. One that takes more than `slowest` seconds a
    sample is let go, and says so."""

    def __init__(
        self,
        row: Row,
        variant: Variant,
        task: Task,
        effort: Effort,
        extra: list[str],
        slowest: float = math.inf,
        neighbour: Neighbour = NOBODY,
    ):
        self.neighbour = neighbour
        self.weight: float = BASELINE_WEIGHT if variant.name == BASELINE else 1
        self.row, self.variant, self.task, self.effort = row, variant, task, effort
        self.extra, self.slowest = extra, slowest
        self.worker: Worker | None = None
        self.stopped = False
        self.steps = 1
        self.ready_after = 0.0  # seconds that it took to start and to verify
        self.per_step = math.inf  # seconds of a step: the least, of one that nobody disturbed
        self.round_seconds = effort.round_seconds  # of the next one, about
        self.budget = effort.budget
        self.spent = self.repeated = 0.0

    @property
    def seconds_left(self) -> float:
        """Of the rounds to come, about."""
        if not self.worker:
            return 0.0
        rounds = self.effort.rounds - len(self.row.rounds)
        return min(rounds * self.round_seconds, max(0.0, self.budget - self.spent))

    def verify(self) -> None:
        """Opens the worker, which verifies, and warms it up: as far as the clock does not count."""
        job = {"variant": self.variant.name, "task": str(self.task.file), "extra": self.extra}
        command = ["-m", "bench.measure.checked"]
        with self._failures():
            began = time.monotonic()
            self.worker = Worker(command, job, self.variant.timeout)
            if self.stopped:  # while the process started: the run was interrupted
                self.stop()
                return
            self.row.info = self.worker.wait()["info"]
            self.ready_after = time.monotonic() - began
            enough = len(self.task.losses)  # the rounds of a slow row check the rest
            if self.variant.warmup:
                warm_up(self._run, self.variant.warmup, least=enough)

    def calibrate(self) -> None:
        """Finds out how long a step takes, and so how many a round has."""
        if not self.worker or not self.variant.warmup:
            return
        with self._failures():
            warm_up(self._run, CALIBRATION)
            if self.per_step > self.slowest * self.task.batch_size:
                self.row.status = "skipped"
                self.row.reason = too_slow(1e6 * self.per_step / self.task.batch_size)
                self.stop()
            self._calibrate(self.per_step)

    def _run(self, steps: int) -> float:
        """Seconds of so many more steps."""
        assert self.worker
        seconds: float = self.worker.ask(steps=steps)["seconds"]
        self._started(seconds / steps)
        self.per_step = min(self.per_step, seconds / steps)
        return seconds

    def measure(self) -> None:
        """One round, unless the budget is spent."""
        last = self.row.rounds[-1].seconds if self.row.rounds else 0.0
        if not self.worker or (self.row.rounds and self.spent + last > self.budget):
            return
        with self._failures():
            done = self._round()
            self.spent += done.seconds
            self.row.rounds.append(done)
            self.row.values.append(self._per_sample(done))
            if not self.variant.warmup and len(self.row.rounds) == 1:
                self._started(done.seconds / done.steps)
                self._calibrate(max(done.seconds, 1e-9) / done.steps)

    @property
    def peak_shares(self) -> list[float]:
        self.neighbour.judge(self.row.rounds)
        return self.row.peak_shares

    def repeat(self) -> None:
        """The most disturbed round again, of which the better one is kept."""
        rounds, shares = self.row.rounds, self.peak_shares
        index = shares.index(min(shares))
        with self._failures():
            done = self._round()
            self.repeated += done.seconds
            repeats = rounds[index].activity.get("repeats", 0) + 1
            if done.peak_share > rounds[index].peak_share:
                rounds[index] = done
                self.row.values[index] = self._per_sample(done)
            rounds[index].activity["repeats"] = repeats

    def _round(self) -> Round:
        assert self.worker
        watch = machine.Watch()
        reply = self.worker.ask(steps=self.steps, restart=not self.variant.steady)
        activity = watch.facts()
        if "busy_cores" in activity:  # the better witness
            activity.pop("load_avg_1min", None)
        if reply.get("clock_ghz"):
            activity["clock_ghz"] = reply["clock_ghz"]
        for key in ("loss", "loss_first_step", "loss_last_step"):
            setattr(self.row, key, reply[key])
        counts = {key: reply[key] for key in ("steps", "documents", "positions")}
        done = Round(reply["seconds"], **counts, activity=activity, paces=reply.get("paces", {}))
        self.neighbour.judge([done])
        return done

    def _per_sample(self, done: Round) -> float:
        return per_sample(done.seconds, done.positions, self.task.mean_positions)

    def _started(self, step: float) -> None:
        """After the first step, of so many seconds."""
        self.row.cold_start = self.row.cold_start or round(self.ready_after + step, 3)

    def finish(self) -> None:
        if self.worker:
            with self._failures():
                reply = self.worker.ask(finish=True)
                self.row.peak_memory = reply["peak_memory"]
                self.row.engine_memory = reply["engine_memory"]
                self.row.launch_floor = reply["launch_floor"]
                if reply["cores"]:
                    self.row.info["cores"] = f"{reply['cores']:.2f}"
        self.stop()

    def stop(self) -> None:
        self.stopped = True
        worker, self.worker = self.worker, None  # another thread may stop it, too
        if worker:
            worker.kill()

    def _calibrate(self, per_step: float) -> None:
        """Steps per round: whole trainings, but of a row that is steady or too slow for one.

        As many trainings as an interval needs are within every budget, and as many rounds of the
        baseline, which every speed-up leans on. Slow rows train few documents, which differ, so
        that the rounds of a steady one share out the whole budget, those of the baseline even where
        they are long. They take a power of two: the same documents in another run, whose clock
        differs.
        """
        effort = self.effort
        steps = effort.round_seconds / per_step
        training = self.task.workload.num_steps
        seconds = training * per_step
        longest = effort.training * (LONGER if self.variant.skips_zeros else 1)
        enough = min(effort.rounds, ENOUGH_ROUNDS)
        if steps > training or (not self.variant.steady and seconds <= longest):
            steps = max(1, round(steps / training)) * training
            self.budget = max(effort.budget, enough * steps * per_step * 1.1)
        elif steps < 32 or not self.variant.steady:
            baseline = self.variant.name == BASELINE
            share = effort.budget / effort.rounds
            part = effort.training * (2 if self.variant.steady else 0.5)
            most = share if baseline else min(share, part)
            least = BASELINE_STEPS if baseline else 1
            steps = max(least, 2 ** math.floor(math.log2(most / per_step)))
            if baseline:
                self.budget = max(effort.budget, enough * steps * per_step * 1.5)
        self.steps = int(steps)
        self.round_seconds = self.steps * per_step
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


def too_slow(microseconds: float) -> str:
    return (
        f"{1e-3 * microseconds:.2g} ms a sample: what takes over a millisecond runs on fewer sizes "
        "(--full has it)"
    )


def starts_fast(measurement: Measurement) -> bool:
    return measurement.row.workload not in measurement.variant.slow_on


def verified_at_once() -> int:
    return min(VERIFYING, available_cores())


def run_workload(
    measurements: list[Measurement],
    effort: Effort,
    tell: Callable[[str, str], None],
    left: Callable[[float], None] = lambda seconds: None,
    neighbour: Neighbour = NOBODY,
) -> None:
    """Verifies all rows and warms them up, some at a time, then times them in interleaved rounds,
    one process at a time.

    A drift of the machine hits all rows alike; every other round goes in the opposite order.
    `tell` hears of each thing begun: the stage, and the row; `left` of the seconds that the rounds
    still take, when that is known.
    """
    pool = ThreadPoolExecutor(verified_at_once())
    try:
        stage = f"{measurements[0].row.workload}: " if measurements else ""
        # Those that compile first, so that no core is left idle beside the last one of them.
        verifying = [pool.submit(m.verify) for m in sorted(measurements, key=starts_fast)]
        tell(f"{stage}verifying {len(verifying)} rows", "")
        for count, verified in enumerate(as_completed(verifying), 1):
            verified.result()
            tell(f"{stage}verifying {len(verifying)} rows", f"{count} done")
        for m in measurements:
            tell(f"{stage}calibrating", m.row.title)
            m.calibrate()
        for index in range(effort.rounds):
            left(sum(m.seconds_left for m in measurements))
            for m in turn(measurements, index):
                tell(f"{stage}round {index + 1} of {effort.rounds}", m.row.title)
                m.measure()
        timed = [m for m in measurements if m.row.rounds]

        def tell_again(m: Measurement, remaining: float) -> None:
            tell(f"{stage}rounds again, which were disturbed", m.row.title)
            left(remaining)

        repeat(timed, effort.repeats * len(timed), neighbour, tell_again)
        for m in measurements:
            m.finish()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for m in measurements:
            m.stop()
