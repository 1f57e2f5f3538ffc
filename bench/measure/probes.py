"""How close the best SIMD engine comes to the machine: probes that run after the timed rows.

    phases     seconds of each phase of a step, at batch 1 and 16
    batch      time per sample against the batch size, with and without prefix sharing
    threads    one and two threads, in turns, over the same steps
    density    shares of hidden values and hidden units that are active, over a training
    shapes     other widths, depths, context lengths and alphabets than the workloads have

What a step costs falls as a training goes on, since zeros are skipped and become more. So what is
timed is SLICES slices, spread evenly over a training of num_steps steps with its true learning
rates. A subject goes through the training once, untimed, and keeps the parameters and moments with
which each slice begins; every round enters all slices anew, each after one untimed step.

They run in a process of their own, `python -m bench.measure.probes`: its job has the engine, the
effort and the files of the tasks, a request {"probe": name, "workload": name}. Nothing is timed
before its loss and gradients were right: against the float64 tape at the batch sizes of the rows,
elsewhere against the engine "autovec", which shares no source with the SIMD engines. Rounds beside
a neighbour are done again (bench/measure/neighbour.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bench.cases import BatchCase, DensityCase, PhasesCase, ShapeCase, ThreadsCase
from bench.measure.effort import EFFORTS, Effort
from bench.measure.neighbour import NOBODY, Neighbour, Rounds, paces, take_turns
from bench.measure.process import Answer, Worker, WorkerFailed, serve
from bench.measure.timing import middles, per_sample, steps_for, warm_up
from bench.results import Probe, Row
from bench.task.task import Task, WrongResult
from bench.task.workload import Workload
from bench.variants.sessions import EngineSession
from pymicrogpt.engines import available_cores

T = TypeVar("T")
COMMAND = ["-m", "bench.measure.probes"]
TIMEOUT = 900.0  # seconds for one probe on one workload
SLICES = 10
STATE = ("parameter", "first_moment", "second_moment")
SHAPE_BATCH = 16
WIDTHS = (16, 24, 32, 48, 64, 96, 128)
DENSITY_WIDTHS = (16, 32, 64, 128)
DENSITY_RATES = (0.003, 0.001)  # at n_embd 64, beside the workloads' own
DENSITY_EVERY = 25  # steps


class SlicedEngine:
    """An engine on a task, timed over the same slices of a training, round by round."""

    def __init__(self, engine: str, task: Task, prefix_sharing: bool = True, threads: int = 1):
        self.task = task
        self.session = EngineSession(engine, task, prefix_sharing, threads)
        task.check_gradients("float32", *self.session.verify())
        self.steps = 1  # of a slice
        self.states: dict[int, list[np.ndarray]] = {}  # by first step: the STATE one step before
        self.losses: list[float] = []  # of the timed steps

    def plan(self, seconds: float) -> None:
        """Chooses slices that last about `seconds` together, and goes to each once."""
        num_steps, core = self.task.workload.num_steps, self.session.core

        def from_the_start(steps: int) -> float:
            self.session.restart()
            return self.session.run(steps)[1]

        most = num_steps // SLICES - 2
        per_step = warm_up(from_the_start, seconds / SLICES, most=most)
        self.steps = steps_for(seconds / SLICES, per_step, most)
        self.session.restart()
        for first in middles(num_steps, SLICES, self.steps):
            self.session.run(first - 1 - core.step)
            self.states[first] = [core.get(name) for name in STATE]

    def follow(self, other: SlicedEngine) -> None:
        """The same slices as another subject on this task."""
        self.steps, self.states = other.steps, other.states

    def slices(self) -> Iterator[int]:
        """Enters each slice, and yields its first step: the next one that the session runs."""
        core = self.session.core
        for first, state in self.states.items():
            for name, values in zip(STATE, state, strict=True):
                core.set(name, values)
            core.step = first - 1
            self.session.run(1)
            yield first

    def measure(self) -> float:
        """Seconds per sample of one round. WrongResult where a loss is not finite, or not that of
        the first round."""
        losses: list[float] = []
        seconds, positions = 0.0, 0
        for first in self.slices():
            found, elapsed = self.session.run(self.steps)
            losses += found
            seconds += elapsed
            positions += self.task.positions(first, self.steps)
        if not np.isfinite(losses).all():
            raise WrongResult(f"a loss at batch {self.task.batch_size} is not finite")
        self.losses = self.losses or losses
        if losses != self.losses:
            raise WrongResult(f"losses at batch {self.task.batch_size} differ from run to run")
        return per_sample(seconds, positions, self.task.mean_positions)

    def profile(self) -> dict[str, float]:
        """Seconds per step of each phase, over all slices."""
        profiles = [self.session.core.profile(self.steps) for _ in self.slices()]
        steps = SLICES * self.steps
        return {name: sum(p[name] for p in profiles) / steps for name in profiles[0]}


def run_rounds(
    measures: Iterable[Callable[[], T]], effort: Effort, neighbour: Neighbour
) -> list[Rounds[T]]:
    return take_turns(measures, effort.rounds, effort.repeats / 2, neighbour)


def at_batch(tasks: dict[int, Task], batch: int) -> Task:
    return tasks[batch] if batch in tasks else with_truth(replace(tasks[1], batch_size=batch))


def with_truth(task: Task) -> Task:
    """The task with loss and gradients of its first batch from the engine "autovec"."""
    loss, gradients = EngineSession("autovec", task).verify()
    return replace(task, losses=np.array([loss]), gradients=gradients)


def phases(
    engine: str, tasks: dict[int, Task], effort: Effort, neighbour: Neighbour = NOBODY
) -> list[PhasesCase]:
    subjects = {batch: SlicedEngine(engine, at_batch(tasks, batch)) for batch in (1, 16)}
    for subject in subjects.values():
        subject.plan(effort.probe_seconds)
    found = run_rounds([subject.profile for subject in subjects.values()], effort, neighbour)
    return [
        {"batch": batch, "peak_shares": rounds.peak_shares, "repeats": rounds.repeats,
         "phases": {name: [p[name] for p in rounds.values] for name in rounds.values[0]}}
        for batch, rounds in zip(subjects, found, strict=True)
    ]  # fmt: skip


def batch(
    engine: str, tasks: dict[int, Task], effort: Effort, neighbour: Neighbour = NOBODY
) -> list[BatchCase]:
    """Rows left are those of some batches, a mean."""
    subjects = []
    for power in range(effort.largest_batch.bit_length()):
        task = at_batch(tasks, 2**power)
        shared, plain = (SlicedEngine(engine, task, sharing) for sharing in (True, False))
        shared.plan(effort.probe_seconds)
        plain.follow(shared)
        subjects += [shared, plain]
    found: list[BatchCase] = []
    for rounds in run_rounds([subject.measure for subject in subjects], effort, neighbour):
        subject = subjects[len(found)]
        found.append(
            {"batch": subject.task.batch_size, "sharing": len(found) % 2 == 0,
             "seconds": rounds.values, "peak_shares": rounds.peak_shares,
             "repeats": rounds.repeats}
        )  # fmt: skip
        if found[-1]["sharing"]:
            found[-1]["rows_left"] = rows_left(subject.task)
    return found


def rows_left(task: Task, documents: int = 2048) -> float:
    """Distinct prefixes by positions: the mean over as many batches as have `documents`."""
    rows = positions = 0
    for step in range(max(1, documents // task.batch_size)):
        nodes: dict[tuple[int, int], int] = {}  # (node above, token) -> node; 0 is above the first
        for i in range(task.batch_size):
            start, end = task.offsets[(step * task.batch_size + i) % (len(task.offsets) - 1) :][:2]
            node = 0
            for token in task.tokens[start : min(end - 1, start + task.workload.block_size)]:
                node = nodes.setdefault((node, int(token)), len(nodes) + 1)
                positions += 1
        rows += len(nodes)
    return rows / positions


def threads(
    engine: str, tasks: dict[int, Task], effort: Effort, neighbour: Neighbour = NOBODY
) -> list[ThreadsCase]:
    """WrongResult unless the losses of both are the same to the last bit."""
    found: list[ThreadsCase] = []
    for batch in (16, min(256, effort.largest_batch)):
        task = at_batch(tasks, batch)
        one, two = (SlicedEngine(engine, task, threads=count) for count in (1, 2))
        one.plan(2 * effort.probe_seconds)
        two.follow(one)
        twice = replace(effort, rounds=2 * effort.rounds)
        of_one, of_two = run_rounds([one.measure, two.measure], twice, neighbour)
        if two.losses != one.losses:  # those of all rounds: they would not differ from run to run
            raise WrongResult(f"two threads change the losses of batch {batch}")
        found.append(
            {"batch": batch, "one": of_one.values, "two": of_two.values,
             "peak_shares_one": of_one.peak_shares, "peak_shares_two": of_two.peak_shares,
             "repeats_one": of_one.repeats, "repeats_two": of_two.repeats}
        )  # fmt: skip
    return found


def shapes(
    engine: str, tasks: dict[int, Task], effort: Effort, neighbour: Neighbour = NOBODY
) -> list[ShapeCase]:
    """All at batch SHAPE_BATCH."""
    subjects = []
    for workload, vocab_size, joined in shape_list(tasks[1].vocab_size):
        tokens, offsets, words = shape_documents(tasks[1], vocab_size, joined)
        task = other_task(workload, SHAPE_BATCH, vocab_size, tokens, offsets)
        subject = SlicedEngine(engine, task)
        subject.plan(effort.probe_seconds)
        subjects.append((words, subject))
    found = run_rounds([subject.measure for _, subject in subjects], effort, neighbour)
    return [
        {"n_layer": w.n_layer, "n_embd": w.n_embd, "n_head": w.n_head, "block_size": w.block_size,
         "vocab_size": of.task.vocab_size, "documents": words, "flops_per_sample": of.task.flops,
         "seconds": rounds.values, "peak_shares": rounds.peak_shares, "repeats": rounds.repeats}
        for (words, of), rounds in zip(subjects, found, strict=True)
        for w in (of.task.workload,)
    ]  # fmt: skip


def other_task(
    workload: Workload, batch: int, vocab_size: int, tokens: np.ndarray, offsets: np.ndarray
) -> Task:
    """A task that no row has, with its truth and parameters drawn as the others'."""
    size = workload.config.num_params(vocab_size)
    parameters, none = np.random.default_rng(1).normal(0, 0.08, size), np.empty(0)
    return with_truth(
        Task(workload, batch, vocab_size, tokens, offsets, parameters, none, none, Path())
    )


def density(
    engine: str, tasks: dict[int, Task], effort: Effort, neighbour: Neighbour = NOBODY
) -> list[DensityCase]:
    """Nothing is timed. Widths at batch 1 and 16 and at the workloads' learning rate, then other
    learning rates. A width of which a training takes many seconds is for the full effort alone."""
    of = tasks[1]
    rate = of.workload.learning_rate
    widths = (*DENSITY_WIDTHS, *([256] if effort.full else []))
    wanted = [(width, size, rate) for size in (16, 1) for width in widths]
    wanted += [(64, 16, other) for other in DENSITY_RATES]
    found: list[DensityCase] = []
    for width, size, rate in wanted:
        workload = Workload("density", width, learning_rate=rate)
        task = other_task(workload, size, of.vocab_size, of.tokens, of.offsets)
        core = SlicedEngine(engine, task).session.core
        steps, shares = [], []
        for stop in (1, 5, 10, *range(DENSITY_EVERY, workload.num_steps + 1, DENSITY_EVERY)):
            core.run(stop - core.step)
            steps.append(stop)
            shares.append(core.activity or {})  # a SIMD engine counts them
        values, units, resting = (
            [s[key] for s in shares] for key in ("values", "units", "resting")
        )
        found.append({"n_embd": width, "batch": size, "learning_rate": rate, "steps": steps,
                      "values": values, "units": units, "resting": resting})  # fmt: skip
    return found


def shape_list(vocab_size: int) -> list[tuple[Workload, int, int]]:
    """Each shape with its vocab_size, and how many documents of the corpus make one of its."""
    base = Workload("shape", 64)
    return [
        *((replace(base, n_embd=width), vocab_size, 1) for width in WIDTHS),
        (replace(base, n_layer=4), vocab_size, 1),
        (replace(base, block_size=32), vocab_size, 2),
        (replace(base, block_size=64), vocab_size, 4),
        (base, 70, 1),
    ]


def shape_documents(task: Task, vocab_size: int, joined: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Tokens, offsets and a description: documents of the corpus, `joined` of them in a row, or
    random characters in their lengths where the alphabet is another."""
    tokens, offsets, words = task.tokens, task.offsets, "of the corpus"
    if vocab_size != task.vocab_size:
        letters = np.random.default_rng(1).integers(0, vocab_size - 1, len(tokens), np.int32)
        tokens = np.where(tokens == task.vocab_size - 1, np.int32(vocab_size - 1), letters)
        words = "random, as long as the corpus's"
    if joined > 1:
        documents = [tokens[a + 1 : b - 1] for a, b in pairwise(offsets)]
        bos = np.array([vocab_size - 1], np.int32)
        parts = [
            np.concatenate([bos, *documents[i : i + joined], bos])
            for i in range(0, len(documents) - joined + 1, joined)
        ]
        tokens = np.concatenate(parts)
        offsets = np.cumsum([0, *map(len, parts)])
        words = f"{joined} of the corpus joined"
    return tokens, offsets, words


PROBES: dict[str, Callable[[str, dict[int, Task], Effort, Neighbour], list[Any]]] = {
    "phases": phases,
    "batch": batch,
    "threads": threads,
    "density": density,
    "shapes": shapes,
}
OF_NO_WORKLOAD = ("density", "shapes")  # they choose their own


def run_probes(
    engine: str,
    tasks: dict[str, dict[int, Task]],
    rows: list[Row],
    effort: str,
    tell: Callable[[str, str], None],
    done: Collection[tuple[str, str]] = (),
    neighbour: Neighbour = NOBODY,
) -> Iterator[Probe]:
    """All probes of an engine on the tasks of each workload by batch size, as far as the rows of
    that engine were right, but those that are `done`: (name, workload). A crash ends one probe
    alone."""
    label = next(row.label for row in rows if row.variant == engine)
    files = {name: {b: str(t.file) for b, t in of.items()} for name, of in tasks.items()}
    job = {"engine": engine, "effort": effort, "tasks": files, "highest": neighbour.highest}
    names = [(name, w) for w in tasks for name in PROBES if name not in OF_NO_WORKLOAD]
    names += [(name, next(iter(tasks))) for name in PROBES if name in OF_NO_WORKLOAD]
    worker = None
    try:
        for name, workload in names:
            probe = Probe(name, "" if name in OF_NO_WORKLOAD else workload, engine, label)
            if (probe.name, probe.workload) in done:
                continue
            wrong = [
                r for r in rows if (r.variant, r.workload, r.status) == (engine, workload, "error")
            ]
            if wrong:
                probe.status, probe.reason = "skipped", f"{wrong[0].title}: {wrong[0].reason}"
                yield probe
                continue
            if name == "threads" and available_cores() < 2:
                probe.status, probe.reason = "skipped", "there is one core"
                yield probe
                continue
            tell(f"{workload}: probing {label}", name)
            try:
                worker = worker or Worker(COMMAND, job, TIMEOUT)
                probe.cases = worker.ask(probe=name, workload=workload)["cases"]
            except WorkerFailed as failure:
                probe.status, probe.reason = "error", str(failure)
                if worker:
                    worker.kill()
                worker = None
            yield probe
    finally:
        if worker:
            worker.kill()


def start(job: dict[str, Any]) -> tuple[dict[str, Any], Answer]:
    effort = EFFORTS[job["effort"]]
    neighbour = Neighbour(paces(), job["highest"])

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        files = job["tasks"][request["workload"]]
        tasks = {int(batch): Task.load(file) for batch, file in files.items()}
        return {"cases": PROBES[request["probe"]](job["engine"], tasks, effort, neighbour)}

    return {}, answer


if __name__ == "__main__":
    serve(start)
