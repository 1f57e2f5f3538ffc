"""Notices a neighbour: what one core can do at most is measured before and after each round.

Two virtual cores are often the threads of one core: what runs on one takes a third of the other,
and neither the load nor the stolen time shows it. Two paces do: multiply-adds from registers, which
only what multiplies itself slows down, and a short training by the best engine, which needs all
that the threads of a core share. A round is good where both are at least GOOD_PEAK of the highest
of the run, which may come later: so rounds keep their paces. One of more than LONG_ROUND is good
where they are so before it or after.

Rounds that are not are done again. Neighbours come for minutes and leave for moments: that is when
all rounds are over, in the moments in which no neighbour is there, for so many seconds at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from bench.measure.timing import turn
from bench.results import ENOUGH_ROUNDS, GOOD_PEAK, Round, is_crowded, quiet_rounds
from pymicrogpt import Config, _core, engines

CALIBRATION = 1.0  # seconds in which the highest paces are looked for as a run begins
STEPS = 100  # of the short training: some milliseconds
BATCH = 16
LONG_ROUND = 1.0  # seconds
PAUSE = 0.1  # seconds between two looks at whether a neighbour is gone
LEAST_SUBJECTS = 5  # fewer are given as many seconds for rounds done again

T = TypeVar("T")
Paces = dict[str, float]  # per second, by what is done


class Neighbour:
    """measure: the paces of now; highest: those that are known."""

    def __init__(self, measure: Callable[[], Paces] = dict, highest: Paces | None = None):
        self.measure = measure
        self.highest = dict(highest or {})

    def share(self, found: Paces) -> float:
        """Of the highest paces so far, the least share; 1 of no paces."""
        for what, pace in found.items():
            self.highest[what] = max(pace, self.highest.get(what, 0.0))
        return min((pace / self.highest[what] for what, pace in found.items()), default=1.0)

    def is_there(self) -> bool:
        return self.share(self.measure()) < GOOD_PEAK

    def judge(self, rounds: Iterable[Round]) -> None:
        """Tells each round whose paces are known its share."""
        for done in rounds:
            if done.paces:
                done.activity["peak_share"] = round(self.share(done.paces), 3)


NOBODY = Neighbour()


class Repeated(Protocol):
    """What is timed in rounds of which the disturbed ones are done again."""

    round_seconds: float  # of a round, about
    repeated: float  # seconds of what was done again
    weight: float  # by which it may take more of the time for that than others

    @property
    def peak_shares(self) -> Sequence[float]:
        """Of its rounds."""

    def repeat(self) -> None:
        """The most disturbed round again, of which the better one is kept."""


Subject = TypeVar("Subject", bound=Repeated)


def incomplete(subject: Repeated) -> bool:
    """Whether disturbed rounds are to be done again."""
    return quiet_rounds(subject.peak_shares) < min(ENOUGH_ROUNDS, len(subject.peak_shares))


def repeat(
    subjects: Sequence[Subject],
    seconds: float,
    neighbour: Neighbour,
    tell: Callable[[Subject, float], None] = lambda subject, remaining: None,
) -> None:
    """Disturbed rounds again, until all subjects have as many others as an interval needs: first
    those of subjects that have too few for a value, and of these those of the one that has spent
    the least on it, by its weight. `tell` hears what is next, and how many seconds are left."""
    end = time.monotonic() + seconds
    while True:
        remaining = end - time.monotonic()
        waiting = [s for s in subjects if incomplete(s) and s.round_seconds <= remaining]
        if not waiting:
            return
        subject = min(
            waiting,
            key=lambda s: (
                not is_crowded(s.peak_shares),
                (s.repeated + s.round_seconds) / s.weight,
            ),
        )
        tell(subject, remaining)
        if neighbour.is_there():
            time.sleep(PAUSE)
        else:
            subject.repeat()


class Rounds(Generic[T]):
    """Of something in this process: what `measure` returned, a round each, and what the core could
    do before and after."""

    def __init__(self, measure: Callable[[], T], neighbour: Neighbour = NOBODY):
        self.measure, self.neighbour = measure, neighbour
        self.values: list[T] = []
        self.paces: list[Paces] = []
        self.round_seconds = self.repeated = 0.0
        self.repeats, self.weight = 0, 1.0

    @property
    def peak_shares(self) -> list[float]:
        return [round(self.neighbour.share(paces), 3) for paces in self.paces]

    def next(self) -> None:
        value, paces = self._measured()
        self.values.append(value)
        self.paces.append(paces)

    def repeat(self) -> None:
        shares = self.peak_shares
        index = shares.index(min(shares))
        value, paces = self._measured()
        self.repeats += 1
        self.repeated += self.round_seconds
        if self.neighbour.share(paces) > shares[index]:
            self.values[index], self.paces[index] = value, paces

    def _measured(self) -> tuple[T, Paces]:
        before = self.neighbour.measure()
        start = time.monotonic()
        value = self.measure()
        self.round_seconds = time.monotonic() - start
        found = around(before, self.neighbour.measure(), self.round_seconds)
        self.neighbour.share(found)  # may be the highest so far
        return value, found


def take_turns(
    measures: Iterable[Callable[[], T]], rounds: int, seconds: float, neighbour: Neighbour = NOBODY
) -> list[Rounds[T]]:
    """Rounds of all, interleaved, and then the disturbed ones again, for so many seconds for each
    of them."""
    subjects = [Rounds(measure, neighbour) for measure in measures]
    for index in range(rounds):
        for subject in turn(subjects, index):
            subject.next()
    repeat(subjects, seconds * max(LEAST_SUBJECTS, len(subjects)), neighbour)
    return subjects


def look_around() -> Neighbour:
    """With the highest paces of CALIBRATION seconds."""
    neighbour = Neighbour(paces())
    end = time.monotonic() + CALIBRATION
    while time.monotonic() < end:
        neighbour.is_there()
    return neighbour


def paces() -> Callable[[], Paces]:
    """A function that measures them, for the core that it runs on."""
    simd = next((e.name for e in engines() if e.simd and e.available), None)  # best first
    config = Config(n_layer=1, n_embd=16, n_head=4, block_size=16)
    size, length = 27, 8
    draw = np.random.default_rng(0)
    documents = draw.integers(0, size - 1, (4 * BATCH, length), dtype=np.int32)
    documents[:, 0] = documents[:, -1] = size - 1
    offsets = np.arange(0, documents.size + 1, length, dtype=np.int64)
    trainer = _core.Trainer(
        simd or "autovec", documents.ravel(), offsets, n_layer=config.n_layer, n_embd=config.n_embd,
        n_head=config.n_head, block_size=config.block_size, vocab_size=size, batch_size=BATCH,
        num_steps=STEPS, learning_rate=0.0,  # always the same work
        beta1=0.85, beta2=0.99, eps=1e-8, threads=1, prefix_sharing=True,
    )  # fmt: skip
    trainer.set("parameter", draw.normal(0, 0.08, len(trainer.get("parameter"))))

    def measure() -> Paces:
        found = {}
        if simd:
            found["multiply-adds"] = _core.fma_rate(simd)
        start = time.perf_counter()
        trainer.step = 0
        trainer.run(STEPS)
        found["steps"] = STEPS / (time.perf_counter() - start)
        return found

    return measure


def around(before: Paces, after: Paces, seconds: float) -> Paces:
    """The lower ones, around a round of so many seconds. Of a long one, which a neighbour of a
    moment hardly touches, the higher ones: who was there before and after may have stayed."""
    choose = max if seconds > LONG_ROUND else min
    return {what: choose(pace, after[what]) for what, pace in before.items()}
