"""How close the best SIMD engine comes to the machine: probes that run after the timed rows.

    phases     seconds of each phase of a step, at batch 1 and 16
    batch      time per sample against the batch size, with and without prefix sharing
    threads    one and two threads, in turns, over the same steps
    density    shares of hidden values and hidden units that are active, over a training
    shapes     other widths, depths, context lengths and alphabets than the workloads have

What a step costs falls as a training goes on, since zeros are skipped and become more. So what is
timed is SLICES slices, spread evenly over a training of num_steps steps with its true learning
rates. A case goes through the training once, untimed, and keeps the parameters and moments with
which each slice begins; every round enters all slices anew, each after one untimed step.

They run in a process of their own, `python -m bench.probes JOB`, which answers each line
"PROBE WORKLOAD" that it reads with one line: {"cases": [...]}, or {"error": reason}. Nothing is
timed before its loss and gradients were right: against the float64 tape at the batch sizes of the
rows, elsewhere against the engine "autovec", which shares no source with the SIMD engines.
"""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from bench.results import Probe, Row
from bench.runner import Worker, WorkerFailed
from bench.session import EngineSession
from bench.task import Task, WrongResult
from bench.workload import Workload

COMMAND = [sys.executable, "-m", "bench.probes"]
TIMEOUT = 900.0  # seconds for one probe on one workload
SLICES = 10
STATE = ("parameter", "first_moment", "second_moment")
SHAPE_BATCH = 16
WIDTHS = (16, 24, 32, 48, 64, 96, 128)
DENSITY_WIDTHS = (16, 32, 64, 128)
DENSITY_RATES = (0.003, 0.001)  # at n_embd 64, beside the workloads' own
DENSITY_EVERY = 25  # steps


@dataclass(frozen=True)
class Effort:
    rounds: int
    seconds: float  # of one case in one round, all slices, about
    largest_batch: int


EFFORTS = {
    "quick": Effort(rounds=3, seconds=0.003, largest_batch=64),
    "default": Effort(rounds=9, seconds=0.015, largest_batch=256),
    "full": Effort(rounds=15, seconds=0.03, largest_batch=1024),
}


class Case:
    """An engine on a task, timed over the same slices of a training, round by round."""

    def __init__(self, engine: str, task: Task, prefix_sharing: bool = True, threads: int = 1):
        self.task = task
        self.session = EngineSession(engine, task, prefix_sharing, threads)
        task.check_gradients("float32", *self.session.verify())
        self.mean_positions = float(task.workload.positions(task.offsets).mean())
        self.steps = 1  # of a slice
        self.states: dict[int, list[np.ndarray]] = {}  # by first step: the STATE one step before
        self.losses: list[float] = []  # of the timed steps
        self.seconds: list[float] = []  # per sample, one a round

    def plan(self, seconds: float) -> None:
        """Chooses slices that last about `seconds` together, and goes to each once."""
        stride = self.task.workload.num_steps // SLICES
        elapsed, tried, most = 0.0, 1, stride - 2
        while elapsed < seconds / SLICES / 2 and tried < most:
            tried = min(2 * tried, most)
            self.session.restart()
            elapsed = self.session.run(tried)[1]
        self.steps = min(most, max(1, round(tried * seconds / SLICES / elapsed)))
        self.session.restart()
        core = self.session.core
        for i in range(SLICES):
            first = i * stride + (stride - self.steps) // 2
            self.session.run(first - 1 - core.step)
            self.states[first] = [core.get(name) for name in STATE]

    def follow(self, other: Case) -> None:
        """The same slices as another case of this task."""
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

    def measure(self) -> None:
        """One round. WrongResult where a loss is not finite, or not that of the first round."""
        losses, seconds, positions = [], 0.0, 0
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
        self.seconds.append(seconds / positions * self.mean_positions)


def run_rounds(cases: list[Case], rounds: int) -> None:
    """Interleaved, every other round in the opposite order: a drift hits all cases alike."""
    for index in range(rounds):
        for case in cases[:: -1 if index % 2 else 1]:
            case.measure()


def at_batch(tasks: dict[int, Task], batch: int) -> Task:
    return tasks[batch] if batch in tasks else with_truth(replace(tasks[1], batch_size=batch))


def with_truth(task: Task) -> Task:
    """The task with loss and gradients of its first batch from the engine "autovec"."""
    loss, gradients = EngineSession("autovec", task).verify()
    return replace(task, losses=np.array([loss]), gradients=gradients)


def phases(engine: str, tasks: dict[int, Task], effort: Effort) -> list[dict]:
    """Cases: "batch", and "phases": by name the seconds per step, one for each profile."""
    found = []
    for batch in (1, 16):
        case = Case(engine, at_batch(tasks, batch))
        case.plan(effort.seconds)
        times: dict[str, list[float]] = {}
        for _ in range(effort.rounds):
            profiles = [case.session.core.profile(case.steps) for _ in case.slices()]
            for name in profiles[0]:
                seconds = sum(profile[name] for profile in profiles)
                times.setdefault(name, []).append(seconds / (SLICES * case.steps))
        found.append({"batch": batch, "phases": times})
    return found


def batch(engine: str, tasks: dict[int, Task], effort: Effort) -> list[dict]:
    """Cases: "batch", "sharing" and "seconds" per sample, one a round; where prefixes are shared,
    "rows_left": distinct prefixes by positions, the mean of some batches."""
    cases = []
    size = 1
    while size <= effort.largest_batch:
        task = at_batch(tasks, size)
        shared, plain = (Case(engine, task, sharing) for sharing in (True, False))
        shared.plan(effort.seconds)
        plain.follow(shared)
        cases += [(True, shared), (False, plain)]
        size *= 2
    run_rounds([case for _, case in cases], effort.rounds)
    return [
        {
            "batch": case.task.batch_size,
            "sharing": sharing,
            "seconds": case.seconds,
            **({"rows_left": rows_left(case.task)} if sharing else {}),
        }
        for sharing, case in cases
    ]


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


def threads(engine: str, tasks: dict[int, Task], effort: Effort) -> list[dict]:
    """Cases: "batch", and seconds per sample with "one" and "two" threads, one a round.

    WrongResult unless the losses of both are the same to the last bit.
    """
    found = []
    for batch in (16, min(256, effort.largest_batch)):
        task = at_batch(tasks, batch)
        one, two = (Case(engine, task, threads=count) for count in (1, 2))
        one.plan(2 * effort.seconds)
        two.follow(one)
        for index in range(2 * effort.rounds):
            run_rounds([two, one] if index % 2 else [one, two], 1)
            if two.losses != one.losses:
                raise WrongResult(f"two threads change the losses of batch {batch}")
        found.append({"batch": batch, "one": one.seconds, "two": two.seconds})
    return found


def shapes(engine: str, tasks: dict[int, Task], effort: Effort) -> list[dict]:
    """Cases: the model's shape, "documents" in words, "flops_per_sample", and "seconds" per sample,
    one a round; all at batch SHAPE_BATCH."""
    cases = []
    for workload, vocab_size, joined in shape_list(tasks[1].vocab_size):
        tokens, offsets, words = shape_documents(tasks[1], vocab_size, joined)
        task = other_task(workload, SHAPE_BATCH, vocab_size, tokens, offsets)
        case = Case(engine, task)
        case.plan(effort.seconds)
        cases.append((words, case))
    run_rounds([case for _, case in cases], effort.rounds)
    keys = ("n_layer", "n_embd", "n_head", "block_size")
    return [
        {
            **{key: getattr(case.task.workload, key) for key in keys},
            "vocab_size": case.task.vocab_size,
            "documents": words,
            "flops_per_sample": case.task.workload.flops(case.task.offsets, case.task.vocab_size),
            "seconds": case.seconds,
        }
        for words, case in cases
    ]


def other_task(
    workload: Workload, batch: int, vocab_size: int, tokens: np.ndarray, offsets: np.ndarray
) -> Task:
    """A task that no row has, with its truth and parameters drawn as the others'."""
    size = workload.config.num_params(vocab_size)
    task = Task(
        workload,
        batch,
        vocab_size,
        tokens,
        offsets,
        parameters=np.random.default_rng(1).normal(0, 0.08, size),
        losses=np.empty(0),
        gradients=np.empty(0),
        problem=Path(),
    )
    return with_truth(task)


def density(engine: str, tasks: dict[int, Task], effort: Effort) -> list[dict]:
    """Cases: "n_embd", "batch", "learning_rate", and by "steps" done the shares of the last batch's
    hidden "values" that are not zero, of "units" active in any row, and of units "resting".

    Widths at batch 1 and 16 and at the workloads' learning rate, then other learning rates. A width
    of which a training takes many seconds is for the large effort alone.
    """
    rate = tasks[1].workload.learning_rate
    widths = (*DENSITY_WIDTHS, *([256] if effort.largest_batch > 256 else []))
    wanted = [(width, size, rate) for size in (16, 1) for width in widths]
    wanted += [(64, 16, other) for other in DENSITY_RATES]
    found = []
    for width, size, rate in wanted:
        workload = Workload("density", width, learning_rate=rate)
        of = tasks[1]
        task = other_task(workload, size, of.vocab_size, of.tokens, of.offsets)
        core = Case(engine, task).session.core
        case = {"n_embd": width, "batch": size, "learning_rate": rate, "steps": []}
        for stop in (1, 5, 10, *range(DENSITY_EVERY, workload.num_steps + 1, DENSITY_EVERY)):
            core.run(stop - core.step)
            case["steps"].append(stop)
            for name, share in core.activity.items():
                case.setdefault(name, []).append(share)
        found.append(case)
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


PROBES: dict[str, Callable[[str, dict[int, Task], Effort], list[dict]]] = {
    "phases": phases,
    "batch": batch,
    "threads": threads,
    "density": density,
    "shapes": shapes,
}
OF_NO_WORKLOAD = ("density", "shapes")  # they choose their own


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def best_engine(variants: dict[str, object]) -> str | None:
    """The best SIMD engine that runs here, of the variants given; None where there is none."""
    import pymicrogpt

    for info in pymicrogpt.engines():  # best first
        if info.available and info.name in variants and variants[info.name].group == "SIMD":
            return info.name
    return None


def run_probes(
    engine: str,
    tasks: dict[str, dict[int, Task]],
    rows: list[Row],
    effort: str,
    tell: Callable[[str, str], None],
) -> list[Probe]:
    """All probes of an engine on the tasks of each workload by batch size, as far as the rows of
    that engine were right. A crash ends one probe alone."""
    label = next(row.label for row in rows if row.variant == engine)
    files = {name: {b: str(t.file) for b, t in of.items()} for name, of in tasks.items()}
    job = json.dumps({"engine": engine, "effort": effort, "tasks": files})
    names = [(name, w) for w in tasks for name in PROBES if name not in OF_NO_WORKLOAD]
    names += [(name, next(iter(tasks))) for name in PROBES if name in OF_NO_WORKLOAD]
    probes = []
    worker = None
    try:
        for name, workload in names:
            probe = Probe(name, "" if name in OF_NO_WORKLOAD else workload, engine, label)
            probes.append(probe)
            here = [row for row in rows if (row.variant, row.workload) == (engine, workload)]
            wrong = next((row for row in here if row.status == "error"), None)
            if wrong:
                probe.status, probe.reason = "skipped", f"{wrong.title}: {wrong.reason}"
                continue
            if name == "threads" and cores() < 2:
                probe.status, probe.reason = "skipped", "there is one core"
                continue
            tell(f"{workload}: probing {label}", name)
            worker = worker or Worker([*COMMAND, job], TIMEOUT)
            try:
                probe.cases = worker.ask(f"{name} {workload}")["cases"]
            except WorkerFailed as failure:
                reason = " ".join(str(failure).split())
                probe.status, probe.reason = "error", textwrap.shorten(reason, 240)
                worker.kill()
                worker = None
    finally:
        if worker:
            worker.kill()
    return probes


def answer(engine: str, effort: str, files: dict[str, dict[str, str]], request: str) -> dict:
    name, workload = request.split()
    try:
        tasks = {int(batch): Task.load(file) for batch, file in files[workload].items()}
        return {"cases": PROBES[name](engine, tasks, EFFORTS[effort])}
    except WrongResult as error:
        return {"error": f"wrong: {error}"}
    except Exception as error:  # whatever goes wrong is the reason of the probe
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    job = json.loads(sys.argv[1])
    for line in sys.stdin:
        reply = answer(job["engine"], job["effort"], job["tasks"], line)
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
