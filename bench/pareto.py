"""Which model to train in the time one has: held-out loss against training seconds.

    python -m bench.pareto [DIR]

adds this to the report in DIR (default: reports), in about five minutes; `bench.run_all --full`
has it. The best engine trains every n_embd, batch size and learning rate of the grid for each of
the times, with as many steps as it does in it (a training that is over early is done again with
more, since steps cost less the further it goes), and is evaluated on the held-out documents of
bench/quality.py.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path

from bench.quality import HELD_OUT, SPLIT_SEED, more_steps
from bench.results import Probe, Results

WIDTHS = (16, 32, 64, 128)
BATCHES = (1, 4, 16, 64)
LEARNING_RATES = (0.003, 0.01, 0.03)
SECONDS = (0.03, 0.1, 0.3, 1.0, 3.0)


def run_pareto(
    corpus,
    engine: str,
    label: str,
    tell: Callable[[str, str], None],
    *,
    widths: tuple[int, ...] = WIDTHS,
    batches: tuple[int, ...] = BATCHES,
    learning_rates: tuple[float, ...] = LEARNING_RATES,
    budgets: tuple[float, ...] = SECONDS,
) -> Probe:
    """A probe "pareto": cases of "n_embd", "batch", "learning_rate", "steps", "budget", and then
    "seconds" and "held_out" as measured; None where the training diverged. Skipped for a
    corpus out of which nothing can be held."""
    from pymicrogpt import Config, Trainer

    try:
        train, held_out = corpus.split(HELD_OUT, SPLIT_SEED)
    except ValueError as error:
        return Probe("pareto", "", engine, label, "skipped", str(error))
    cases = []
    for n_embd, batch, rate in product(widths, batches, learning_rates):
        tell("the Pareto front", f"n_embd {n_embd}, batch {batch}, learning rate {rate:g}")

        def trained(steps: int, n_embd=n_embd, batch=batch, rate=rate) -> tuple[Trainer, float]:
            trainer = Trainer(
                train,
                Config(n_embd=n_embd),
                engine=engine,
                batch_size=batch,
                learning_rate=rate,
                num_steps=steps,
            )
            start = time.perf_counter()
            trainer.run()
            return trainer, time.perf_counter() - start

        trained(10)
        per_step = trained(100)[1] / 100
        for budget in budgets:
            steps = max(1, round(budget / per_step))
            trainer, seconds = trained(steps)
            if (more := more_steps(steps, seconds, budget)) > steps:
                steps = more
                trainer, seconds = trained(steps)
            per_step = seconds / steps
            loss = trainer.evaluate(held_out)
            cases.append(
                {
                    "n_embd": n_embd,
                    "batch": batch,
                    "learning_rate": rate,
                    "steps": steps,
                    "budget": budget,
                    "seconds": seconds,
                    "held_out": loss if math.isfinite(loss) else None,
                }
            )
    return Probe("pareto", "", engine, label, cases=cases)


def main() -> int:
    import pymicrogpt
    from bench import report
    from bench.probes import best_engine
    from bench.variant import load_variants

    out = Path(sys.argv[1] if len(sys.argv) > 1 else "reports")
    try:
        results = Results.load(out / "results.json")
        corpus = pymicrogpt.Corpus.load()
    except (OSError, ValueError) as error:
        print(f"bench.pareto: {error}", file=sys.stderr)
        return 2
    variants = load_variants()
    engine = best_engine(variants) or "autovec"
    probe = run_pareto(corpus, engine, variants[engine].label, lambda _, detail: print(detail))
    results.probes = [*(p for p in results.probes if p.name != "pareto"), probe]
    report.write(results, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
