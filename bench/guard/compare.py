"""Whether a commit is slower than another: `python -m bench compare BASE [HEAD]`.

Both are built from what git has, each in a folder of its own under build/compare, kept by the hash
of their tree. HEAD is by default the working tree: its tracked files as they are now.

A round starts a new process for each side, since where its memory comes to lie can make a process
a third slower for as long as it lives. For every engine, workload and batch size the two go through
the same training. What a step costs falls as it goes on, so that they are timed in PLACES places
spread evenly over it, in slices of a few milliseconds and in the order base, head, head, base;
between them they train untimed. Whatever else the machine does makes a slice longer, so that the
least slice of each side counts in each place, and a round gives the ratio of the sums. The verdict
is on the centre of the rounds with its bootstrap interval (bench/results.py), and on the limit
of --fail:

    slower    the whole interval is beyond the limit: the exit code is 1
    faster    the same in the other direction
    same      the whole interval is within the limit
    unclear   neither, when --seconds were over; rounds go on as long as a verdict is unclear

An engine that BASE has and HEAD has not fails too. The exit code is 2 where nothing could be
compared. Processes are not pinned: one that may not move suffers from every neighbour.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pymicrogpt
from bench.command import Refused, names, positive, show, writable
from bench.measure.process import ROOT, Worker, WorkerFailed
from bench.measure.timing import middles, steps_for, turn, warm_up
from bench.report.markdown import markdown_table
from bench.report.part import text_of
from bench.results import Estimate, estimate

CACHE = ROOT / "build" / "compare"
LEAST_ROUNDS, MOST_ROUNDS = 8, 40
EACH = 4  # slices of each side in a place
ORDER = [side for index in range(EACH) for side in turn((0, 1), index)]  # base and head
TRAINING = 1000  # steps
PLACES = 4
SLICE_SECONDS = 0.004
TIMEOUT = 120.0  # seconds for one answer of a worker


@dataclass(frozen=True)
class Case:
    engine: str
    n_embd: int
    batch: int

    def __str__(self) -> str:
        return f"{self.engine} d{self.n_embd} batch {self.batch}"


@dataclass
class Comparison:
    """One case: ratios of the times, head over base, one a round; or why there are none."""

    case: Case
    limit: float  # per cent
    ratios: list[float] = field(default_factory=list)
    missing: str = ""  # "base" or "head" where that side cannot run it

    @property
    def estimate(self) -> Estimate:
        return estimate(self.ratios)

    @property
    def verdict(self) -> str:
        if self.missing:
            return {"base": "new", "head": "gone", "both": "not here"}[self.missing]
        beyond, found = 1 + self.limit / 100, self.estimate
        if found.low > beyond:
            return "slower"
        if found.high < 1 / beyond:
            return "faster"
        return "same" if found.low >= 1 / beyond and found.high <= beyond else "unclear"

    @property
    def fails(self) -> bool:
        return self.verdict in ("slower", "gone")


# A round of all cases given: for base and head, and each place of a training, the slices in seconds
# per position; None for a side that cannot run the case.
Measure = Callable[[list[Case]], dict[Case, list[list[list[float]] | None]]]


def compare(
    cases: Iterable[Case],
    measure: Measure,
    limit: float,
    out_of_time: Callable[[], bool],
    tell: Callable[[str], None] = lambda words: None,
) -> list[Comparison]:
    """Rounds until every verdict is clear, or there is no time for more."""
    found = [Comparison(case, limit) for case in cases]
    for index in range(MOST_ROUNDS):
        at_least = index < LEAST_ROUNDS
        open_ = [c for c in found if not c.missing and (at_least or c.verdict == "unclear")]
        if not open_ or (index >= 3 and out_of_time()):
            break
        tell(f"round {index + 1}: {len(open_)} cases")
        slices = measure([c.case for c in open_])
        for comparison in open_:
            base, head = slices[comparison.case]
            if base and head:
                comparison.ratios.append(sum(map(min, head)) / sum(map(min, base)))
            else:
                comparison.missing = "both" if not base and not head else "head" if base else "base"
    return [c for c in found if c.missing != "both"]


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"git {arguments[0]}: {done.stderr.strip() or 'failed'}")
    return done.stdout.strip()


def tree_of(revision: str | None) -> tuple[str, str]:
    """The hash of the tree of a revision, and what to call it; None is the working tree."""
    if revision is None:
        changes = git("-c", "user.name=-", "-c", "user.email=-", "stash", "create")
        revision, name = changes or "HEAD", "working tree" if changes else "HEAD"
    else:
        name = revision
    try:
        return git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{tree}}"), name
    except Refused as error:
        raise Refused(f"there is no commit {revision} here ({error})") from error


def build(tree: str, tell: Callable[[str], None]) -> Path:
    """The folder with the package of a tree, built now unless it was before."""
    setting = [sys.version, *(os.environ.get(name, "") for name in ("CC", "CXX", "CXXFLAGS"))]
    key = f"{tree[:16]}-{hashlib.sha256(repr(setting).encode()).hexdigest()[:8]}"
    target = CACHE / key
    if target.is_dir():
        return target
    CACHE.mkdir(parents=True, exist_ok=True)
    tell(f"building {tree[:12]}")
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        archive, source, site = (Path(folder) / name for name in ("tar", "source", "site"))
        git("archive", "--format=tar", f"--output={archive}", tree)
        with tarfile.open(archive) as tar:
            tar.extractall(source)  # our own repository's files
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        command += ["--disable-pip-version-check", "--target", str(site), str(source)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise Refused(f"tree {tree[:12]} does not build:\n{done.stderr[-2000:]}")
        shutil.move(site, target)
    return target


class Sides:
    """Measures rounds with a process for each of the two builds."""

    def __init__(self, sites: list[Path]):
        packages = [p for p in sys.path if p and Path(p).resolve() != ROOT]
        common = {"packages": packages, "documents": pymicrogpt.Corpus.load().documents}
        self.jobs = [{"site": str(site), **common} for site in sites]
        self.steps: dict[Case, int] = {}

    def __call__(self, cases: list[Case]) -> dict[Case, list[list[list[float]] | None]]:
        # -S: the editable install of this environment would come before the build.
        command = ["-S", "-m", "bench.guard.compare_worker"]
        workers: list[Worker] = []
        try:
            for job in self.jobs:
                worker = Worker(command, job, TIMEOUT)
                worker.wait()
                workers.append(worker)
            return {case: self.slices(case, workers) for case in cases}
        except WorkerFailed as failure:
            side = ("base", "head", "base or head")[len(workers)]
            raise Refused(f"{side}: {failure}") from failure
        finally:
            for worker in workers:
                worker.kill()

    def slices(self, case: Case, workers: Sequence[Worker]) -> list[list[list[float]] | None]:
        training = {**asdict(case), "steps": TRAINING}
        can = [worker.ask(open=training)["available"] for worker in workers]
        if not all(can):
            return [[[1.0]] if side else None for side in can]
        if case not in self.steps:
            self.steps[case] = self.calibrated(training, workers[0])
        steps = self.steps[case]
        times: list[list[list[float]]] = [[], []]
        done = 0
        for first in middles(TRAINING, PLACES, EACH * steps):
            for worker in workers:
                worker.ask(run=first - done)
            place: list[list[float]] = [[], []]
            for side in ORDER:
                reply = workers[side].ask(run=steps)
                place[side].append(reply["seconds"] / reply["positions"])
            for of_one, slices in zip(times, place, strict=True):
                of_one.append(slices)
            done = first + EACH * steps
        return list(times)

    @staticmethod
    def calibrated(training: dict[str, Any], worker: Worker) -> int:
        """Steps of a slice; the worker's training is opened anew."""

        def from_the_start(steps: int) -> float:
            seconds: float = worker.ask(run=steps)["seconds"]
            worker.ask(open=training)
            return seconds

        most = TRAINING // PLACES // (EACH + 1)
        per_step = warm_up(from_the_start, SLICE_SECONDS, most=most)
        return steps_for(SLICE_SECONDS, per_step, most)


def rows(comparisons: list[Comparison]) -> list[tuple[str, ...]]:
    """The cells of the table: its head first."""
    cells: list[tuple[str, ...]] = [
        ("engine", "workload", "batch", "time, head / base", "95 % interval", "verdict")
    ]
    for c in comparisons:
        case = (c.case.engine, f"d{c.case.n_embd}", str(c.case.batch))
        if c.missing:
            cells.append((*case, "-", "-", c.verdict))
        else:
            e = c.estimate
            cells.append((*case, f"{e.value:.3f}", f"{e.low:.3f} to {e.high:.3f}", c.verdict))
    return cells


def markdown(comparisons: list[Comparison], title: str) -> str:
    head, *body = rows(comparisons)
    body = [(*row[:-1], f"**{row[-1]}**" if c.fails else row[-1])
            for row, c in zip(body, comparisons, strict=True)]  # fmt: skip
    return "\n".join([f"### {title}", "", *markdown_table([head, *body]), ""])


def conclusion(comparisons: list[Comparison], limit: float) -> str:
    count = {v: sum(c.verdict == v for c in comparisons) for v in ("slower", "gone", "unclear")}
    words = [f"{count['slower']} of {len(comparisons)} slower by more than {limit:g} %"]
    words += [f"{count[v]} {v}" for v in ("gone", "unclear") if count[v]]
    return ", ".join(words)


def arguments(parser: argparse.ArgumentParser) -> None:
    def numbers(text: str) -> list[int]:
        return [int(name.removeprefix("d")) for name in names(text)]

    parser.add_argument("base", metavar="BASE", help="a commit, branch or tag")
    parser.add_argument("head", metavar="HEAD", nargs="?", help="default: the working tree")
    parser.add_argument("--fail", type=positive, default=5.0, metavar="PERCENT", help="default: 5")
    parser.add_argument("--engines", type=names, metavar="A,B", help="default: all in float32")
    parser.add_argument("--workloads", type=numbers, default=[16, 64], metavar="d16,d64")
    parser.add_argument("--batches", type=numbers, default=[1, 16], metavar="1,16")
    parser.add_argument("--seconds", type=positive, default=300.0, help="for rounds; default: 300")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="the table for a pull request"
    )


def run(args: argparse.Namespace) -> int:
    known = [info.name for info in pymicrogpt.engines() if info.dtype == "float32"]
    engines = args.engines or known
    if unknown := set(engines) - set(known):
        raise Refused(f"unknown engine {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    if any(n < 1 for n in args.batches) or any(n < 4 or n % 4 for n in args.workloads):
        raise Refused("batches must be at least 1, workloads d and a multiple of 4")
    if args.markdown:
        writable("--markdown", args.markdown, folder=False)

    def tell(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    cases = [
        Case(engine, n_embd, batch)
        for n_embd in args.workloads
        for batch in args.batches
        for engine in engines
        if batch == 1 or not engine.startswith("tape")  # as published
    ]
    if not cases:
        raise Refused("a tape runs batch 1 alone: --batches 1")
    (base, base_name), (head, head_name) = tree_of(args.base), tree_of(args.head)
    sides = Sides([build(tree, tell) for tree in (base, head)])
    end = time.monotonic() + args.seconds
    found = compare(cases, sides, args.fail, lambda: time.monotonic() > end, tell)
    if not found:
        raise Refused("none of these engines runs here")
    show(text_of(rows(found)))
    show(conclusion(found, args.fail))
    if args.markdown:
        title = f"{head_name} against {base_name}: {conclusion(found, args.fail)}"
        args.markdown.write_text(markdown(found, title), encoding="utf-8")
    return 1 if any(c.fails for c in found) else 0
