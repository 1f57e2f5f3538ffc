"""What the gates measure: engines against each other and the machine, in one run.

A training is cut into slices, and all subjects take turns slice by slice, every other round in the
opposite order: the cost of a step falls while the model trains. A slice that another program
disturbed is only ever too long, so that the least time of each slice of a training is kept, and
their mean is the subject's time. The FMA peak is taken in the same turns and kept in the same way,
as the greatest of each slice: the best of all runs would be of a moment that no training had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import harmonic_mean

import pymicrogpt
from bench.command import read_toml
from bench.measure.checked import CheckedSession
from bench.measure.timing import per_sample, turn
from bench.task.task import Task
from bench.task.workload import WORKLOADS
from bench.variants.variant import Variant, load_variants
from pymicrogpt import _core

FLOORS = read_toml(Path(__file__).with_name("gates.toml"))
SLICES = 20  # of a training
TRUTH_STEPS = 32  # the losses of the first steps are held against the float64 tape
ASLEEP = 0.5  # seconds after which NumPy's threads sleep
PEAK_RUNS = 3  # of a millisecond, in each slice
TWICE = 1.4  # AVX-512 peak over AVX2 peak from which on a CPU has two 512-bit multiply-add units

# By engine, what it must beat. "nosparsity" is the engine itself multiplying by the zeros of the
# MLP, "plain" the engine that does not share prefixes either; at batch 1 there is nothing to share.
# "tape32" runs batch 1, as the original does. "peak" is the share of the measured FMA peak, every
# document's useful FLOPs counted.
BASELINES = {
    1: {
        "scalar": {"tape32"},
        "autovec": {"scalar"},
        "simd": {"scalar", "autovec", "tape32", "peak"},
    },
    16: {
        "scalar": {"tape32"},
        "autovec": {"scalar"},
        "simd": {"scalar", "autovec", "tape32", "peak", "plain", "nosparsity"},
    },
}


def simd_engines() -> list[str]:
    """Those that this CPU can run. One that was left out of the build is there still, and fails
    when it is opened."""
    return [info.name for info in pymicrogpt.engines() if info.simd and info.supported]


def required(batch: int) -> dict[str, set[str]]:
    """By engine of this machine, the baselines that it needs floors over."""
    needed = dict(BASELINES[batch])
    simd = needed.pop("simd")
    return needed | dict.fromkeys(simd_engines(), simd)


@dataclass
class Subject:
    """A variant on a task, timed slice by slice of a training."""

    variant: Variant
    task: Task
    seconds: dict[int, float] = field(default_factory=dict)  # by slice: least time per sample
    loss: float = float("nan")  # the mean of the last steps of a training

    def open(self) -> None:
        """Verifies a new session and warms it up. WrongResult where it is not right."""
        self.session = CheckedSession(self.variant, self.task)
        self.session.run(TRUTH_STEPS)
        self.session.wall = self.session.processor = 0.0  # see Match.reopen
        self.slice = 0

    def measure(self) -> None:
        reply = self.session.run(self.task.workload.num_steps // SLICES)
        seconds = per_sample(reply["seconds"], reply["positions"], self.task.mean_positions)
        self.seconds[self.slice] = min(seconds, self.seconds.get(self.slice, seconds))
        self.slice = (self.slice + 1) % SLICES
        self.loss = reply["loss"]

    @property
    def best(self) -> float:
        """Seconds per sample over a whole training."""
        return sum(self.seconds.values()) / len(self.seconds)

    @property
    def gflops(self) -> float:
        return self.task.flops / self.best * 1e-9


class Match:
    """The subjects of one workload and batch size, and what came out."""

    def __init__(self, subjects: Mapping[str, Subject], measure_peak: Callable[[str], float]):
        self.subjects = subjects
        self.measure_peak = measure_peak  # engine -> FLOP/s
        self.simd = simd_engines()
        self.peaks: dict[str, dict[int, float]] = {}  # by SIMD engine and slice: greatest FLOP/s
        self.rounds = 0
        self.reopen()

    def reopen(self) -> None:
        """New sessions for all. The memory that one got can be unlucky: in one of sixteen
        runs AVX-512 was a third slower for as long as its session lived."""
        for subject in self.subjects.values():
            subject.open()
        # The threads of NumPy's products, which checked the gradients, look for more work for a
        # moment; what they take is not the engines'.
        time.sleep(ASLEEP)

    @classmethod
    def of(cls, workload: str, batch: int, folder: Path) -> Match:
        """Every engine of required(batch) with its baselines, its first loss and gradients right.
        WrongResult where they are not; ValueError where one is missing from this build."""
        corpus = pymicrogpt.Corpus.load()
        tasks = {b: Task.prepare(WORKLOADS[workload], b, corpus, folder) for b in {1, batch}}
        variants = load_variants()
        names = ["tape32"]
        for name, baselines in required(batch).items():
            names.append(name)
            names += [f"{name}-{word}" for word in ("plain", "nosparsity") if word in baselines]
        subjects = {
            name: Subject(variants[name], tasks[1 if name == "tape32" else batch]) for name in names
        }
        return cls(subjects, lambda name: _core.peak(name, PEAK_RUNS)["fma_flops"])

    def one_round(self) -> None:
        for name in turn(list(self.subjects), self.rounds):
            self.subjects[name].measure()
            if name in self.simd:
                peaks, slice = self.peaks.setdefault(name, {}), self.rounds % SLICES
                peaks[slice] = max(peaks.get(slice, 0.0), self.measure_peak(name))
        self.rounds += 1

    def peak(self, engine: str) -> float | None:
        """FLOP/s of multiply-adds that are equally many in each slice. None where not measured."""
        peaks = self.peaks.get(engine)
        return harmonic_mean(list(peaks.values())) if peaks else None

    def floors_of(self, engine: str, floors: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
        """The floors of an engine on this CPU. A SIMD engine without any of its own has those of
        "simd". With two 512-bit multiply-add units those of "avx512-twice" or "avx2-twice", where
        there are such, go before its own."""
        found = dict(floors.get(engine, floors.get("simd", {}) if engine in self.simd else {}))
        peak, half = self.peak("avx512"), self.peak("avx2")
        if peak and half and peak > TWICE * half:
            found |= floors.get(f"{engine}-twice", {})
        return found

    def ratios(self, engine: str) -> dict[str, float]:
        """By baseline, how many times faster the engine is; "peak": the share of it."""
        subject, found = self.subjects[engine], {}
        for name, other in self.subjects.items():
            found[name.removeprefix(f"{engine}-")] = other.best / subject.best
        if peak := self.peak(engine):
            found["peak"] = subject.gflops * 1e9 / peak
        return found

    def facts(self) -> dict[str, dict[str, float | str]]:
        """By engine: ISA, loss, GFLOP/s, microseconds per sample, and the measured peak."""
        return {
            name: {
                **subject.session.session.info,
                "loss": subject.loss,
                "gflops": subject.gflops,
                "microseconds_per_sample": subject.best * 1e6,
                **({"peak_gflops": peak * 1e-9} if (peak := self.peak(name)) else {}),
            }
            for name, subject in self.subjects.items()
        }


def failures(
    needed: Mapping[str, set[str]],
    floors: Mapping[str, Mapping[str, float]],
    ratios: Mapping[str, Mapping[str, float]],
) -> list[str]:
    """What is under its floor, or missing on either side, in words. All by engine."""
    words = []
    for engine, baselines in needed.items():
        for name in sorted(baselines):
            floor = floors.get(engine, {}).get(name)
            found = ratios.get(engine, {}).get(name)
            if floor is None:
                words.append(f"{engine} over {name} has no floor in gates.toml")
            elif found is None:
                words.append(f"{engine} over {name} was not measured")
            elif not found >= floor:
                words.append(f"{engine} over {name} is {found:.2f}, under its floor of {floor}")
    return words
