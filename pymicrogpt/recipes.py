"""Which model to train in the time one has: the recipe of a search, and as many steps as fit.

data/recipes.json holds what `python -m bench recipes` found: for corpora of several kinds, and
several times of one core each, the settings with the best held-out loss. The recipe for another
corpus and time is that of the nearest, by the ratios of three quantities: the time, corrected by
how fast the engine takes a step of the original here and did there; the predictions in one pass
over the corpus, which decide when a model begins to learn it by heart; and those in a document,
which make the work of a batch.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np

from .config import INT_MAX, Config, checked_float, checked_int
from .corpus import Corpus
from .trainer import Trainer, check_finite

Clock = Callable[[], float]

KEPT = ("n_layer", "n_embd", "n_head", "block_size", "batch_size", "learning_rate")

SAMPLE = 8192  # documents that tell of the others
EVALUATED = 1024  # documents that tell how long evaluation takes
LONG_DOCUMENTS = 0.01  # of the documents may be longer than the context
CONTEXTS = (16, 32, 64, 128)

TOO_SHORT = 3.0  # times the time is shorter than any that was searched for

CALIBRATION = 0.04  # of the time
SHORTEST, LONGEST = 0.02, 2.0  # seconds of it
# Steps become cheaper while hidden values fall silent. All of them would take THEIR_TIME as long as
# the rest of a step (1.2 to 3.0 by the times of six models with AVX-512 and AVX2; more would end
# trainings after their time). How many are not zero over a training the search knows of its own; of
# another text, where ACTIVE_AT_FIRST of them are not after the calibration, ACTIVE are not later
# (of 1 and 4 s: names 0.26 and 0.28, then 0.13 and 0.14; the words of the guide 0.36, then 0.35;
# forty lines of verse 0.49, then 0.50).
ACTIVE_AT_FIRST, ACTIVE, THEIR_TIME = (0.0, 0.26, 0.36, 1.0), (0.0, 0.13, 0.36, 1.0), 1.4


class Found(NamedTuple):
    """What the search found best for one corpus and time."""

    corpus: str
    mode: str
    predictions: int  # of one pass over the corpus
    per_document: float
    seconds: float
    enough: bool  # the best of a shorter time: all that took this one were worse
    took: float  # which were to be `seconds`, unless that was enough
    steps: int
    n_layer: int
    n_embd: int
    block_size: int
    batch_size: int
    learning_rate: float
    held_out: float
    active: float | None = None  # share of hidden values not zero, if the engine tells


@dataclass(frozen=True)
class Recipe:
    """What to train in a time: Trainer(corpus, recipe.config, **recipe.settings).

    config: the shape of the model
    batch_size, learning_rate: as Trainer takes them
    num_steps: what fits into the time here, at the speed of now, if it is not more than enough
    enough: whether more steps would fit, by which such a text would be learnt by heart
    seconds: of those given, what finding that out has taken
    found: the training of the search that it follows, in words
    """

    config: Config
    batch_size: int
    learning_rate: float
    num_steps: int
    enough: bool
    seconds: float
    found: str

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments of Trainer beside the config."""
        return {
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "num_steps": self.num_steps,
        }


def recipe(
    corpus: Corpus,
    seconds: float,
    *,
    engine: str = "auto",
    threads: int | str = 1,
    held_out: Corpus | None = None,
    eval_interval: int = 0,
    clock: Clock = time.perf_counter,
    **given: float,
) -> Recipe:
    """Settings for the lowest held-out loss that a training of `seconds` reaches on this corpus, a
    few hundredths of which are spent here on measuring how many steps that are.

    engine, threads: with which it will train
    held_out, eval_interval: what it will be evaluated on, every so many steps, within the time
    clock: returns seconds
    given: n_layer, n_embd, n_head, block_size, batch_size or learning_rate, to be kept as they are

    TypeError and ValueError as Config and Trainer raise them. The speed differs from one call to
    the next, and so does num_steps: keep it to train the same again.
    """
    for name, value in (("corpus", corpus), ("held_out", held_out)):
        if not isinstance(value, Corpus) and not (name == "held_out" and value is None):
            raise TypeError(f"{name} must be a Corpus, not {type(value).__name__}")
    if not len(corpus):
        raise ValueError("the corpus has no documents")
    checked_int("eval_interval", eval_interval, 0)
    seconds = checked_float("seconds", seconds)
    per_step, _ = recipes()
    found, kept = pick(corpus, seconds * per_step / step_of_original(engine, clock), given)
    config = Config(kept["n_layer"], kept["n_embd"], kept["n_head"], kept["block_size"])
    settings = {name: kept[name] for name in ("batch_size", "learning_rate")}
    sample = replace(corpus, documents=sampled(corpus))

    def make(num_steps: int) -> Trainer:
        return Trainer(
            sample, config, engine=engine, threads=threads, num_steps=num_steps, **settings
        )

    evaluated = len(held_out) / eval_interval if held_out and eval_interval else 0.0

    def active_later(now: float) -> float:
        """As in the search, the more the texts are alike in size."""
        predictions, _ = extent(corpus, config.block_size)
        alike = min(predictions / found.predictions, found.predictions / predictions)
        later = active_of_any(now)
        return later if found.active is None else alike * found.active + (1 - alike) * later

    steps, spent = fit(make, seconds, clock, evaluated, active_later)
    most = most_steps(found, corpus, config, kept["batch_size"])
    words = f"{found.seconds:g} s of {found.corpus}"
    return Recipe(config, **settings, num_steps=min(steps, most), enough=steps > most,
                  seconds=spent, found=words)  # fmt: skip


def pick(corpus: Corpus, seconds: float, given: Mapping[str, Any]) -> tuple[Found, dict[str, Any]]:
    """The nearest of the search, and what becomes of it for this corpus and beside what is given.
    seconds: on the machine of the search"""
    for name in given:
        if name not in KEPT:
            raise TypeError(f"a recipe has no {name!r}; it has {', '.join(KEPT)}")
    block_size = given.get("block_size", corpus.block_size)
    if block_size is None:
        lengths = sorted(len(document) + 1 for document in sampled(corpus))
        most = lengths[math.ceil((1 - LONG_DOCUMENTS) * len(lengths)) - 1]
        block_size = next((size for size in CONTEXTS if size >= most), CONTEXTS[-1])
    predictions, per_document = extent(corpus, checked_int("block_size", block_size))

    def distance(found: Found) -> float:
        ratios = (
            seconds / found.seconds,
            predictions / found.predictions,
            per_document / found.per_document,
        )
        return sum(abs(math.log(ratio)) for ratio in ratios)

    found = min(recipes()[1], key=distance)
    n_head = given.get("n_head", Config().n_head)
    checked_int("n_head", n_head)
    batch = found.batch_size * found.per_document / per_document
    if seconds < found.seconds / TOO_SHORT:  # even the least model has too few steps
        batch *= seconds / found.seconds
    n_embd = given.get("n_embd", math.ceil(found.n_embd / n_head) * n_head)
    # The best rates of the search go as 1 / n_embd.
    rate = found.learning_rate * found.n_embd / checked_int("n_embd", n_embd)
    picked = {
        "n_layer": found.n_layer,
        "n_embd": n_embd,
        "n_head": n_head,
        "block_size": block_size,
        "batch_size": min(2 ** max(0, round(math.log2(batch))), len(corpus)),
        "learning_rate": float(f"{rate:.2g}"),
    }
    return found, {**picked, **given}


def most_steps(found: Found, corpus: Corpus, config: Config, batch_size: int) -> int:
    """As many passes as the search made over its corpus, where more were too many for its model,
    and as many steps as it took if this corpus is smaller."""
    smaller = config.n_layer * config.n_embd**2 < found.n_layer * found.n_embd**2
    if not found.enough or smaller:
        return INT_MAX
    predictions, per_document = extent(corpus, config.block_size)
    of_a_step = found.batch_size * found.per_document / (batch_size * per_document)
    most = found.steps * of_a_step * max(1.0, predictions / found.predictions)
    return min(max(1, round(most)), INT_MAX)


def extent(corpus: Corpus, block_size: int) -> tuple[float, float]:
    """About how many predictions there are in one pass over the corpus, and in a document."""
    lengths = [min(len(document) + 1, block_size) for document in sampled(corpus)]
    per_document = sum(lengths) / len(lengths)
    return len(corpus) * per_document, per_document


def text_block_size(seconds: float) -> int:
    """The context for running text, which is chosen before it is cut."""
    of_text = [found for found in recipes()[1] if found.mode == "stream"]
    return min(of_text, key=lambda found: abs(math.log(seconds / found.seconds))).block_size


def step_of_original(engine: str, clock: Clock) -> float:
    """Seconds for a step of the original, which tell one machine and engine from another."""
    corpus = Corpus.from_documents(["emma", "olivia", "ava", "isabella", "sophia", "charlotte"])
    trainer = Trainer(corpus, engine=engine, batch_size=1, num_steps=INT_MAX)
    return seconds_per_step(trainer, SHORTEST, clock)


def active_of_any(now: float) -> float:
    """The share of the hidden values that are not zero in a training, of which so many are not
    after the calibration."""
    return float(np.interp(now, ACTIVE_AT_FIRST, ACTIVE))


def fit(
    make: Callable[[int], Trainer],
    seconds: float,
    clock: Clock,
    evaluated: float = 0.0,
    active_later: Callable[[float], float] = active_of_any,
) -> tuple[int, float]:
    """The number of steps that take the time and no more, and how much of it finding out took.

    make: a trainer of so many steps
    evaluated: held-out documents by step, as they are evaluated every so often
    active_later: of the hidden values, from those after the calibration
    """
    trainer = make(INT_MAX)
    began = clock()
    length = min(max(CALIBRATION * seconds, SHORTEST), LONGEST)
    per_step = seconds_per_step(trainer, length, clock)
    if trainer.activity and trainer.config.n_embd > 16:
        now = trainer.activity.values
        per_step *= (1 + THEIR_TIME * active_later(now)) / (1 + THEIR_TIME * now)
    if evaluated:
        few = replace(trainer.corpus, documents=trainer.corpus.documents[:EVALUATED])
        start = clock()
        trainer.evaluate(few)
        per_step += evaluated * (clock() - start) / len(few)
    spent = clock() - began
    steps = (seconds - spent) / per_step
    if steps > INT_MAX:
        raise ValueError(
            f"{seconds:g} seconds are time for {steps:.2g} steps, and num_steps must be at most "
            f"{INT_MAX:,}; a larger batch_size takes longer steps"
        )
    return max(1, round(steps)), spent


def seconds_per_step(trainer: Trainer, seconds: float, clock: Clock) -> float:
    """Of the last of the steps that take about `seconds`. DivergedError for a loss that is none."""
    end = clock() + seconds
    steps = 1
    while True:
        start = clock()
        losses = trainer.run(steps)
        now = clock()
        check_finite(losses, trainer.step - steps + 1, trainer.learning_rate)
        per_step = max(now - start, 1e-9) / steps
        left = int((end - now) / per_step)
        if left < steps:
            return per_step
        steps = min(2 * steps, left)


def sampled(corpus: Corpus) -> tuple[str, ...]:
    """Some of the documents, from everywhere in the corpus."""
    return tuple(corpus.documents[:: math.ceil(len(corpus) / SAMPLE)])


@cache
def recipes() -> tuple[float, list[Found]]:
    """Seconds for a step of the original on the machine of the search, and what it found."""
    data = json.loads(files(__package__).joinpath("data", "recipes.json").read_text("utf-8"))
    return data["seconds_per_step"], [Found(**found) for found in data["recipes"]]
