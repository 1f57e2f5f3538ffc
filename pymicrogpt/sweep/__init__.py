"""Many trainings at once: a space of settings, all cores or a Dask cluster, one file of results.

import pymicrogpt as mg
from pymicrogpt import sweep

if __name__ == "__main__":  # worker processes import this file
    space = sweep.Space.grid(learning_rate=[0.003, 0.01], n_embd=[16, 32], seeds=3)
    train, held_out = mg.Corpus.load().split(0.1)
    rows = sweep.run(space, train, held_out, "sweep")
    best = sweep.ranking(rows)[0]
    print(best.settings, best.loss)
"""

from .ranking import Standing, busy_fraction, pareto_front, ranking
from .report import write_report
from .run import Progress, run
from .space import Range, Space
from .store import load
from .trial import Row, SweepError, retrain

__all__ = [
    "Progress",
    "Range",
    "Row",
    "Space",
    "Standing",
    "SweepError",
    "busy_fraction",
    "load",
    "pareto_front",
    "ranking",
    "retrain",
    "run",
    "write_report",
]
