"""Which model to train in the time one has: held-out loss against training seconds.

The best engine trains every n_embd, batch size and learning rate of the grid for each of the times,
with as many steps as it does in it (a training that is over early is done again with more, since
steps cost less the further it goes), and is evaluated on the held-out documents of
bench/measure/quality.py.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

from bench.cases import ParetoCase
from bench.measure.timing import more_steps, warm_up
from bench.results import Probe
from bench.task.workload import HELD_OUT, SPLIT_SEED

if TYPE_CHECKING:
    from pymicrogpt import Corpus, Trainer

WIDTHS = (16, 32, 64, 128)
BATCHES = (1, 4, 16, 64)
LEARNING_RATES = (0.003, 0.01, 0.03)
SECONDS = (0.03, 0.1, 0.3, 1.0, 3.0)
WARM_UP = 64  # steps


def run_pareto(
    corpus: Corpus,
    engine: str,
    label: str,
    tell: Callable[[str, str], None],
    *,
    widths: tuple[int, ...] = WIDTHS,
    batches: tuple[int, ...] = BATCHES,
    learning_rates: tuple[float, ...] = LEARNING_RATES,
    budgets: tuple[float, ...] = SECONDS,
) -> Probe:
    """A probe "pareto". Skipped for a corpus out of which nothing can be held."""
    from pymicrogpt import Config, Trainer

    try:
        train, held_out = corpus.split(HELD_OUT, SPLIT_SEED)
    except ValueError as error:
        return Probe("pareto", "", engine, label, "skipped", str(error))
    cases: list[ParetoCase] = []
    for n_embd, batch, rate in product(widths, batches, learning_rates):
        tell("the Pareto front", f"n_embd {n_embd}, batch {batch}, learning rate {rate:g}")
        of: dict[str, Any] = {"engine": engine, "batch_size": batch, "learning_rate": rate}
        setting = partial(Trainer, train, Config(n_embd=n_embd), **of)
        for budget, steps, seconds, loss in trainings(setting, budgets, held_out):
            cases.append({"n_embd": n_embd, "batch": batch, "learning_rate": rate, "steps": steps,
                          "budget": budget, "seconds": seconds,
                          "held_out": loss if math.isfinite(loss) else None})  # fmt: skip
    return Probe("pareto", "", engine, label, cases=cases)


def trainings(
    setting: Callable[..., Trainer], budgets: Iterable[float], held_out: Corpus
) -> Iterator[tuple[float, int, float, float]]:
    """Of each budget in seconds: it, the steps and seconds of its training, the held-out loss."""

    def run(trainer: Trainer) -> float:
        start = time.perf_counter()
        trainer.run()
        return time.perf_counter() - start

    per_step = warm_up(lambda steps: run(setting(num_steps=steps)), 0.0, least=WARM_UP)
    for budget in budgets:
        steps = max(1, round(budget / per_step))
        trainer = setting(num_steps=steps)
        seconds = run(trainer)
        if (more := more_steps(steps, seconds, budget)) > steps:
            steps, trainer = more, setting(num_steps=more)
            seconds = run(trainer)
        per_step = seconds / steps
        yield budget, steps, seconds, trainer.evaluate(held_out)
