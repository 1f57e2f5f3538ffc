"""Quality as well as speed: the loss that each implementation has reached when its time is over.

Every row trains for the same wall time: its measured speed says how many steps that are. A training
that is over early, since the steps beyond those measured cost less, is done again with as many as
its own speed allows. On the way, the clock held, one engine of pymicrogpt evaluates its parameters
on documents that are in no training: HELD_OUT of the corpus, drawn by Corpus.split with SPLIT_SEED.

One beside a neighbour is done again in a moment without, as far as the time for that lasts, and the
better one kept (bench/measure/neighbour.py).

Each training runs in a process of its own, `python -m bench.measure.quality`, which answers its job
with {"points": [...], "peak_shares": [share]}.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import Point, QualityCase
from bench.measure.effort import Effort
from bench.measure.neighbour import NOBODY, Neighbour, Rounds, paces, repeat
from bench.measure.process import Answer, Worker, WorkerFailed, serve
from bench.measure.timing import more_steps
from bench.results import Probe, Row
from bench.task.task import Task
from bench.task.workload import HELD_OUT, SPLIT_SEED, Workload
from bench.variants.sessions import EngineSession
from bench.variants.variant import Variant, find_variant
from pymicrogpt import Corpus, Tokenizer

POINTS = 14
COMMAND = ["-m", "bench.measure.quality"]


def run_quality(
    engine: str,
    variants: dict[str, Variant],
    workloads: dict[str, Workload],
    rows: list[Row],
    corpus: Corpus,
    effort: Effort,
    folder: Path,
    tell: Callable[[str, str], None],
    extra: list[str],
    neighbour: Neighbour = NOBODY,
) -> Iterator[Probe]:
    """A probe "quality" for each workload: the cases are its rows that were right. `engine`
    evaluates."""
    folder.mkdir(exist_ok=True)
    try:
        train, held_out = corpus.split(HELD_OUT, SPLIT_SEED)
    except ValueError as error:
        yield Probe("quality", "", engine, engine, "skipped", str(error))
        return
    tasks: dict[tuple[str, int], Task] = {}
    for workload in workloads.values():
        probe = Probe("quality", workload.name, engine, engine)
        for row in rows:
            if row.workload != workload.name or not row.ok or row.variation_of:
                continue
            variant = variants[row.variant]
            too_slow = workload.name in variant.slow_on and not effort.slow
            if too_slow or row.group not in (effort.trained_groups or [row.group]):
                continue
            seconds = effort.training_seconds
            tell(f"{workload.name}: loss after {seconds:g} s", row.title)
            key = (workload.name, row.batch)
            if key not in tasks:
                tasks[key] = Task.prepare(workload, row.batch, train, folder)
                save_held_out(tasks[key], train, held_out)
            job = {
                "engine": engine,
                "variant": row.variant,
                "task": str(tasks[key].file),
                "steps": int(seconds / (row.microseconds * 1e-6 * row.batch)),
                "seconds": 0.0 if variant.steady else seconds,
                "extra": extra,
                "repeats": effort.repeats,
                "highest": neighbour.highest,
            }
            case: QualityCase = {
                "variant": row.variant, "label": row.label, "group": row.group, "batch": row.batch,
                "budget": seconds, "points": [], "reason": "",
            }  # fmt: skip
            try:
                with Worker(COMMAND, job, variant.timeout + 120 * seconds) as worker:
                    found = worker.wait()
                case["points"], case["peak_shares"] = found["points"], found["peak_shares"]
            except WorkerFailed as failure:
                case["reason"] = str(failure)
            probe.cases.append(case)
        if probe.cases:
            yield probe


def held_out_file(task: Task) -> Path:
    return task.file.with_suffix(".held-out.npz")


def save_held_out(task: Task, train: Corpus, held_out: Corpus) -> None:
    tokens, offsets = Tokenizer.from_documents(train.documents).encode_all(held_out.documents)
    np.savez(held_out_file(task), tokens=tokens, offsets=offsets)


def curve(
    engine: str, variant: Variant, task: Task, steps: int, held_out: dict[str, np.ndarray]
) -> list[Point]:
    """Train for `steps` steps; the points at which the held-out loss was evaluated, 0 the first."""
    evaluator = EngineSession(engine, task)
    task = lasting(task, max(1, steps))
    session = variant.open(task)
    if not hasattr(session, "parameters"):
        raise ValueError("its session has no parameters()")

    def point(train: float) -> Point:
        evaluator.core.set("parameter", session.parameters())
        loss = evaluator.core.loss(held_out["tokens"], held_out["offsets"])
        return {"seconds": seconds, "steps": done, "train": train, "held_out": loss}

    seconds, done = 0.0, 0
    points = [point(float(task.losses[0]))]
    stops = np.unique(np.geomspace(max(1, steps / 1000), max(1, steps), POINTS).astype(int))
    for stop in stops.tolist() if steps else []:
        losses, elapsed = session.run(stop - done)
        seconds, done = seconds + elapsed, stop
        points.append(point(float(np.mean(losses))))
    session.close()
    if not np.isfinite([[p["train"], p["held_out"]] for p in points]).all():
        raise ValueError("a loss is not finite")
    return points


def lasting(task: Task, steps: int) -> Task:
    """The task with another length of training, for programs in another file."""
    workload = replace(task.workload, num_steps=steps)
    problem = task.problem.with_suffix(".long.problem")
    longer = replace(task, workload=workload, problem=problem)
    longer.write_problem()
    return longer


def start(job: dict[str, Any]) -> tuple[dict[str, Any], Answer]:
    task = Task.load(job["task"])
    with np.load(held_out_file(task)) as arrays:
        held_out = dict(arrays)
    variant = find_variant(job["variant"], job["extra"])
    neighbour = Neighbour(paces(), job["highest"])

    def trained(steps: int) -> Rounds[list[Point]]:
        found = Rounds(lambda: curve(job["engine"], variant, task, steps, held_out), neighbour)
        found.next()
        repeat([found], job["repeats"], neighbour)
        return found

    found = trained(job["steps"])
    steps = more_steps(job["steps"], found.values[0][-1]["seconds"], job["seconds"])
    if steps > job["steps"]:
        found = trained(steps)
    return {"points": found.values[0], "peak_shares": found.peak_shares}, lambda request: {}


if __name__ == "__main__":
    serve(start)
