"""Quality as well as speed: the loss that each implementation has reached when its time is over.

Every row trains for the same wall time: its measured speed says how many steps that are, and the
learning rate falls to 0 over these. A training that is over early, since the steps beyond those
measured cost less, is done again with as many steps as its own speed allows. On the way, the clock
held, its parameters are taken, and one engine of pymicrogpt evaluates them on documents that are in
no training: HELD_OUT of the corpus, drawn by Corpus.split with SPLIT_SEED. The workload's own seed
shuffles the others and draws the first parameters.

Each training runs in a process of its own, `python -m bench.quality JOB`, which prints one line:
{"points": [...]} or {"error": reason}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bench.problem import write_problem
from bench.results import Probe, Row
from bench.runner import Worker, WorkerFailed
from bench.session import EngineSession
from bench.task import Task
from bench.variant import Variant, load_variants
from bench.workload import Workload

HELD_OUT = 0.05
SPLIT_SEED = 42
LEVELS = (2.2, 2.0)  # held-out losses whose time is told
POINTS = 14
EARLY = 0.9  # of the time: a training that is over before has too few steps
COMMAND = [sys.executable, "-m", "bench.quality"]


@dataclass(frozen=True)
class Effort:
    seconds: float  # of training for each row
    everything: bool  # also what takes seconds a step, or to compile
    groups: tuple[str, ...] = ()  # only these, where there are any


EFFORTS = {
    "quick": Effort(0.1, False, ("hand-derived", "SIMD")),
    "default": Effort(1.0, False),
    "full": Effort(1.0, True),
}


def time_below(points: list[dict], level: float) -> float | None:
    """Seconds until the held-out loss fell below a level for the first time, by linear
    interpolation; None where it never did."""
    before = None
    for point in points:
        if point["held_out"] < level:
            if before is None:
                return point["seconds"]
            share = (before["held_out"] - level) / (before["held_out"] - point["held_out"])
            return before["seconds"] + share * (point["seconds"] - before["seconds"])
        before = point
    return None


def loss_after(points: list[dict], seconds: float, key: str = "held_out") -> float:
    """A loss of a curve after some seconds, by linear interpolation; of its end where it ended
    before that."""
    return float(np.interp(seconds, [p["seconds"] for p in points], [p[key] for p in points]))


def run_quality(
    engine: str,
    variants: dict[str, Variant],
    workloads: dict[str, Workload],
    rows: list[Row],
    corpus,
    effort: Effort,
    folder: Path,
    tell: Callable[[str, str], None],
    extra: list[str],
) -> list[Probe]:
    """A probe "quality" for each workload: the cases are its rows that were right, in `points`
    of "seconds", "steps", "train" and "held_out". `engine` evaluates."""
    folder.mkdir(exist_ok=True)
    try:
        train, held_out = corpus.split(HELD_OUT, SPLIT_SEED)
    except ValueError as error:
        return [Probe("quality", "", engine, engine, "skipped", str(error))]
    tasks: dict[tuple[str, int], Task] = {}
    probes = []
    for workload in workloads.values():
        probe = Probe("quality", workload.name, engine, engine)
        for row in rows:
            if row.workload != workload.name or not row.ok or row.variation_of:
                continue
            variant = variants[row.variant]
            slow = workload.name in variant.slow_on
            if (slow and not effort.everything) or row.group not in (effort.groups or [row.group]):
                continue
            tell(f"{workload.name}: loss after {effort.seconds:g} s", row.title)
            key = (workload.name, row.batch)
            if key not in tasks:
                tasks[key] = Task.prepare(workload, row.batch, train, folder)
                save_held_out(tasks[key], train, held_out)
            steps = int(effort.seconds / (row.microseconds * 1e-6 * row.batch))
            job = {
                "engine": engine,
                "variant": row.variant,
                "task": str(tasks[key].file),
                "steps": steps,
                "seconds": 0.0 if variant.steady else effort.seconds,
                "extra": extra,
            }
            case = {"variant": row.variant, "label": row.label, "group": row.group}
            case |= {"batch": row.batch, "budget": effort.seconds, "points": [], "reason": ""}
            worker = Worker([*COMMAND, json.dumps(job)], variant.timeout + 120 * effort.seconds)
            try:
                case["points"] = worker.receive()["points"]
            except WorkerFailed as failure:
                case["reason"] = " ".join(str(failure).split())
            finally:
                worker.kill()
            probe.cases.append(case)
        if probe.cases:
            probes.append(probe)
    return probes


def held_out_file(task: Task) -> Path:
    return task.file.with_suffix(".held-out.npz")


def save_held_out(task: Task, train, held_out) -> None:
    from pymicrogpt.tokenizer import Tokenizer

    tokenizer = Tokenizer.from_documents(train.documents)
    tokens, offsets = tokenizer.encode_all(held_out.documents)
    np.savez(held_out_file(task), tokens=tokens, offsets=offsets)


def curve(engine: str, variant: Variant, task: Task, steps: int, held_out: dict) -> list[dict]:
    """Train for `steps` steps; the points at which the held-out loss was evaluated, 0 the first."""
    evaluator = EngineSession(engine, task)
    task = lasting(task, max(1, steps))
    session = variant.open(task)
    if not hasattr(session, "parameters"):
        raise ValueError("its session has no parameters()")

    def point(train: float) -> dict:
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


def more_steps(steps: int, seconds: float, wanted: float) -> int:
    """Steps for a training of `wanted` seconds, after one that took `seconds`; the same unless that
    was over early."""
    return round(steps * wanted / seconds) if 0 < seconds < EARLY * wanted else steps


def lasting(task: Task, steps: int) -> Task:
    """The task with another length of training, for programs in another file."""
    workload = replace(task.workload, num_steps=steps)
    problem = task.problem.with_suffix(".long.problem")
    write_problem(
        problem,
        config=workload.config,
        vocab_size=task.vocab_size,
        tokens=task.tokens,
        offsets=task.offsets,
        parameters=task.parameters,
        batch_size=task.batch_size,
        **workload.optimizer,
    )
    return replace(task, workload=workload, problem=problem)


def main() -> None:
    job = json.loads(sys.argv[1])
    try:
        task = Task.load(job["task"])
        with np.load(held_out_file(task)) as arrays:
            held_out = dict(arrays)
        variant = load_variants(job["extra"])[job["variant"]]
        points = curve(job["engine"], variant, task, job["steps"], held_out)
        steps = more_steps(job["steps"], points[-1]["seconds"], job["seconds"])
        if steps > job["steps"]:
            points = curve(job["engine"], variant, task, steps, held_out)
        reply = {"points": points}
    except Exception as error:  # whatever goes wrong is the reason of the case
        reply = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
