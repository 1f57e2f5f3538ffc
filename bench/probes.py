"""How close the best SIMD engine comes to the machine: probes that run after the timed rows.

    phases     seconds of each phase of a step, at batch 1 and 16
    batch      time per sample against the batch size, with and without prefix sharing
    threads    one and two threads, in turns, over the same steps
    shapes     other widths, depths, context lengths and alphabets than the workloads have

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
from collections.abc import Callable
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
TIMEOUT = 300.0  # seconds for one probe on one workload
ENDLESS = 10**6  # steps of a training: the learning rate hardly falls while a probe runs
SHAPE_BATCH = 16
WIDTHS = (16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class Effort:
    rounds: int
    seconds: float  # of one case in one round, about
    largest_batch: int


EFFORTS = {
    "quick": Effort(rounds=3, seconds=0.003, largest_batch=256),
    "default": Effort(rounds=9, seconds=0.015, largest_batch=256),
    "full": Effort(rounds=15, seconds=0.03, largest_batch=1024),
}


class Case:
    """An engine on a task, timed over the same steps from the same parameters, round by round."""

    def __init__(self, engine: str, task: Task, prefix_sharing: bool = True, threads: int = 1):
        self.task = replace(task, workload=replace(task.workload, num_steps=ENDLESS))
        self.session = EngineSession(engine, self.task, prefix_sharing, threads)
        task.check_gradients("float32", *self.session.verify())
        self.mean_positions = float(task.workload.positions(task.offsets).mean())
        self.warmup = self.steps = 1
        self.losses: list[float] = []  # of the timed steps
        self.seconds: list[float] = []  # per sample, one a round

    def calibrate(self, seconds: float) -> None:
        """Chooses as many steps as last about `seconds`."""
        elapsed = 0.0
        while elapsed < seconds / 4:
            self.steps *= 2
            elapsed = self.session.run(self.steps)[1]
        self.steps = max(1, round(self.steps * seconds / elapsed))
        self.warmup = 1 + self.steps // 8

    def start(self) -> None:
        """Back to the first step, and warm caches."""
        self.session.restart()
        self.session.run(self.warmup)

    def measure(self) -> None:
        """One round. WrongResult where a loss is not finite, or not that of the first round."""
        self.start()
        losses, elapsed = self.session.run(self.steps)
        if not np.isfinite(losses).all():
            raise WrongResult(f"a loss at batch {self.task.batch_size} is not finite")
        self.losses = self.losses or losses
        if losses != self.losses:
            raise WrongResult(f"losses at batch {self.task.batch_size} differ from run to run")
        positions = self.task.positions(self.warmup, self.steps)
        self.seconds.append(elapsed / positions * self.mean_positions)


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
        case.calibrate(effort.seconds)
        times: dict[str, list[float]] = {}
        for _ in range(effort.rounds):
            case.start()
            for name, seconds in case.session.core.profile(case.steps).items():
                times.setdefault(name, []).append(seconds / case.steps)
        found.append({"batch": batch, "phases": times})
    return found


def batch(engine: str, tasks: dict[int, Task], effort: Effort) -> list[dict]:
    """Cases: "batch", "sharing" and "seconds" per sample, one a round; where prefixes are shared,
    "rows_left": distinct prefixes by positions, the mean of some batches."""
    cases = []
    size = 1
    while size <= effort.largest_batch:
        task = at_batch(tasks, size)
        cases += [(sharing, Case(engine, task, sharing)) for sharing in (True, False)]
        size *= 2
    for _, case in cases:
        case.calibrate(effort.seconds)
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
    for batch in (16, 256):
        task = at_batch(tasks, batch)
        one, two = (Case(engine, task, threads=count) for count in (1, 2))
        one.calibrate(2 * effort.seconds)
        two.steps, two.warmup = one.steps, one.warmup
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
        size = workload.config.num_params(vocab_size)
        task = Task(
            workload,
            SHAPE_BATCH,
            vocab_size,
            tokens,
            offsets,
            parameters=np.random.default_rng(1).normal(0, 0.08, size),
            losses=np.empty(0),
            gradients=np.empty(0),
            problem=Path(),
        )
        cases.append((words, Case(engine, with_truth(task))))
    for _, case in cases:
        case.calibrate(effort.seconds)
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
    "shapes": shapes,
}


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
    names = [(name, workload) for workload in tasks for name in PROBES if name != "shapes"]
    names.append(("shapes", next(iter(tasks))))
    probes = []
    worker = None
    try:
        for name, workload in names:
            probe = Probe(name, "" if name == "shapes" else workload, engine, label)
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
