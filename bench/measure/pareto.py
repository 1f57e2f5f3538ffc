"""Which model to train in the time one has: a search over settings for the best held-out loss.

For each time a hill is climbed: from the best settings of the time before and some that are larger,
to whatever neighbour is better, a setting changed by one at a time, until none is or the trials for
this time are used up. They are many where a training is short and few where it is long, since what
is good in a second says most of what is good in ten. Each is a whole training of the best engine on
one thread, fitted to its time as that of `pymicrogpt train --seconds` (a short one again, where it
missed), and evaluated on documents that are in no training. Time is that of the thread: waiting for
a core costs none of it, a neighbour on the same core does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.cases import ParetoCase
from bench.results import Probe
from bench.task.workload import HELD_OUT, SPLIT_SEED

if TYPE_CHECKING:
    from pymicrogpt import Corpus, Trainer

    Halves = Callable[[int], tuple[Corpus, Corpus]]  # of a block size: to train on, and held out

LADDERS: dict[str, tuple[float, ...]] = {
    "n_layer": (1, 2, 3, 4, 6),
    "n_embd": (16, 32, 48, 64, 96, 128, 192, 256),
    "block_size": (16, 32, 64, 128),
    "batch_size": (1, 2, 4, 8, 16, 32, 64, 128, 256),
    "learning_rate": (7e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 6e-3, 8e-3, 0.012, 0.016, 0.024),
}
TRIALS = {0.1: 30, 0.3: 20, 1.0: 18, 2.0: 9, 5.0: 7, 10.0: 5, 60.0: 2}  # by seconds of a training

MISSED = 0.08  # of its time, by which a training is too long or too short
SHORT = 5.0  # seconds of one that is then done again
PARTS = 20  # of a training, after each of which its hidden values are counted


@dataclass(frozen=True)
class Setting:
    n_layer: int = 1
    n_embd: int = 16
    block_size: int = 16
    batch_size: int = 8
    learning_rate: float = 0.012

    def moved(self, **rungs: int) -> Setting:
        """With settings so many rungs further up their ladders, or at their ends."""
        moved: dict[str, Any] = {}
        for name, by in rungs.items():
            ladder = LADDERS[name]
            place = ladder.index(getattr(self, name)) + by
            moved[name] = ladder[min(max(place, 0), len(ladder) - 1)]
        return replace(self, **moved)

    def larger(self, running_text: bool) -> list[Setting]:
        """What more time may be good for, the likeliest first."""
        contexts = [
            self.moved(block_size=1, batch_size=-1),
            self.moved(block_size=1),
            self.moved(block_size=-1, batch_size=1),
        ]
        return [
            self.moved(n_layer=1, n_embd=1, learning_rate=-1),
            *contexts * running_text,
            self.moved(n_embd=1, learning_rate=-1),
            self.moved(n_layer=1, learning_rate=-1),
            self.moved(n_layer=1, n_embd=1, batch_size=1, learning_rate=-1),
            self.moved(n_embd=1, batch_size=2, learning_rate=-1),
            self.moved(n_layer=1, batch_size=1, learning_rate=-1),
            self.moved(n_embd=1),
            self.moved(n_layer=1),
            self.moved(batch_size=1),
        ]


def run_pareto(
    corpus: Corpus,
    engine: str,
    label: str,
    tell: Callable[[str, str], None],
    trials: Mapping[float, int] = TRIALS,
) -> Probe:
    """A probe "pareto". Skipped for a corpus out of which nothing can be held."""
    try:
        halves = corpus.split(HELD_OUT, SPLIT_SEED)
    except ValueError as error:
        return Probe("pareto", "", engine, label, "skipped", str(error))
    found = search(lambda _: halves, engine, trials, lambda words: tell("the Pareto front", words))
    return Probe("pareto", "", engine, label, cases=list(found))


def search(
    halves: Halves,
    engine: str,
    trials: Mapping[float, int],
    tell: Callable[[str], None],
    *,
    start: Setting = Setting(),
    running_text: bool = False,
    known: Mapping[float, Setting] | None = None,
) -> Iterator[ParetoCase]:
    """Every training of the search. The context of running text is a setting like the others.

    known: what was found before, by time; from that of each time, of the one after it and of the
    one before the search begins too
    """
    names = ["n_embd", "learning_rate", "n_layer", "batch_size", *["block_size"] * running_text]
    ranked, budgets = [start], list(trials)
    for place, (budget, most) in enumerate(trials.items()):
        cases: dict[Setting, ParetoCase] = {}

        def loss(setting: Setting, budget: float = budget, cases: Any = cases) -> float:
            cases[setting] = case = trained(setting, budget, halves, engine)
            loss = math.inf if case["held_out"] is None else case["held_out"]
            tell(f"{case['seconds']:.2f} s of {setting}: {loss:.4f}")
            return loss

        first, *others = ranked
        around = [budget, *budgets[place + 1 : place + 2], *budgets[max(place - 1, 0) : place]]
        before = [known[near] for near in around if known and near in known]
        starts = [first, *before, *first.larger(running_text), *others[:1]]
        ranked = climb(starts, most, loss, names)
        yield from cases.values()


def climb(
    starts: Iterable[Setting], most: int, loss: Callable[[Setting], float], names: list[str]
) -> list[Setting]:
    """Settings by their loss, the best first, of which at most `most` were tried."""
    tried: dict[Setting, float] = {}
    waiting = list(dict.fromkeys(starts))
    climbing = False
    while len(tried) < most:
        if not waiting:
            climbing = True
            best = min(tried, key=lambda setting: tried[setting])
            near = dict.fromkeys(best.moved(**{name: by}) for name in names for by in (1, -1))
            waiting = [setting for setting in near if setting not in tried]
            if not waiting:
                break
        setting = waiting.pop(0)
        least = min(tried.values(), default=math.inf)
        tried[setting] = loss(setting)
        if climbing and tried[setting] < least:
            waiting.clear()  # its own neighbours instead
    return sorted(tried, key=lambda setting: tried[setting])


def trained(
    setting: Setting,
    budget: float,
    halves: Halves,
    engine: str,
    seed: int = 42,
    clock: Callable[[], float] = time.thread_time,
) -> ParetoCase:
    """One training of `budget` seconds, those that fitted it included."""
    from pymicrogpt import Config, Trainer
    from pymicrogpt.recipes import fit

    train, held_out = halves(setting.block_size)
    config = Config(setting.n_layer, setting.n_embd, block_size=setting.block_size)

    def make(num_steps: int) -> Trainer:
        return Trainer(
            train, config, engine=engine, batch_size=setting.batch_size,
            learning_rate=setting.learning_rate, num_steps=num_steps, seed=seed,
        )  # fmt: skip

    active: list[float] = []  # after equal parts of the training

    def run(steps: int) -> tuple[Trainer, float]:
        trainer, seconds = make(steps), 0.0
        active.clear()
        for part in range(PARTS):
            start = clock()
            trainer.run(steps * (part + 1) // PARTS - trainer.step)
            seconds += clock() - start
            if trainer.activity:
                active.append(trainer.activity.values)
        return trainer, seconds

    steps, spent = fit(make, budget, clock)
    trainer, seconds = run(steps)
    if budget <= SHORT and abs(spent + seconds - budget) > MISSED * budget:
        steps = max(1, round(steps * (budget - spent) / seconds))
        trainer, seconds = run(steps)
    loss = trainer.evaluate(held_out)
    case: ParetoCase = {
        "n_layer": setting.n_layer,
        "n_embd": setting.n_embd,
        "block_size": setting.block_size,
        "batch": setting.batch_size,
        "learning_rate": setting.learning_rate,
        "steps": steps,
        "budget": budget,
        "seconds": spent + seconds,
        "held_out": loss if math.isfinite(loss) else None,
    }
    if active:
        case["active"] = fmean(active)
    return case
