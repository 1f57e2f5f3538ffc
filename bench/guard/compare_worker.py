"""One side of `bench compare`: trains with the build of pymicrogpt that its job names.

It uses nothing of pymicrogpt but the public surface, which both commits share, and of bench nothing
but the worker's loop. A request is {"open": case}, answered by {"available": whether it runs here},
or {"run": steps}, answered by {"seconds": ..., "positions": ...}.
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from bench.measure.process import Answer, serve


class Training:
    """Of one case."""

    def __init__(self, mg: Any, corpus: Any, *, engine: str, n_embd: int, batch: int, steps: int):
        config = mg.Config(n_embd=n_embd)
        self.trainer = mg.Trainer(
            corpus, config, engine=engine, batch_size=batch, num_steps=steps, threads=1
        )
        limit = config.block_size
        self.positions = [min(len(document) + 1, limit) for document in self.trainer.documents]
        self.batch = batch
        self.documents = 0

    def run(self, steps: int) -> dict[str, Any]:
        start = time.perf_counter()
        losses = self.trainer.run(steps)
        seconds = time.perf_counter() - start
        if not math.isfinite(losses.sum()):
            raise ValueError("a loss is not finite")
        first, self.documents = self.documents, self.documents + steps * self.batch
        count = len(self.positions)
        positions = sum(self.positions[i % count] for i in range(first, self.documents))
        return {"seconds": seconds, "positions": positions}


def start(job: dict[str, Any]) -> tuple[dict[str, Any], Answer]:
    sys.path[:] = [job["site"], *sys.path[1:], *job["packages"]]
    import pymicrogpt as mg

    if not mg.__file__.startswith(job["site"]):
        raise ImportError(f"pymicrogpt came from {mg.__file__} and not from {job['site']}")
    corpus = mg.Corpus.from_documents(job["documents"])
    available = {info.name for info in mg.engines() if info.available}
    training: Training | None = None

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        nonlocal training
        if training and "run" in request:
            return training.run(request["run"])
        here = request["open"]["engine"] in available
        training = Training(mg, corpus, **request["open"]) if here else None
        return {"available": here}

    return {}, answer


if __name__ == "__main__":
    serve(start)
