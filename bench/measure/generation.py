"""Tokens per second that each engine draws from a trained model, one thread.

Engines take turns. Each draws DOCUMENTS at a time from the model that a training of the workload
ends with, at the temperature of the original; counted are all its tokens, ends of documents among
them. Beside them GPT.sample, in NumPy, draws one document at a time. Before it is timed, an engine
draws at temperature 1 from the same model, and its first characters must be as frequent as
the model's probabilities say (five standard deviations).

All in a process of its own, `python -m bench.measure.generation`, whose job has the file with the
documents of the corpus, and the effort. It answers with {"cases": [...]}.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cases import GenerationCase
from bench.measure.effort import EFFORTS
from bench.measure.neighbour import NOBODY, Neighbour, paces, take_turns
from bench.measure.process import Answer, Worker, WorkerFailed, serve
from bench.results import Probe
from bench.task.task import WrongResult
from bench.task.workload import WORKLOADS, Workload

if TYPE_CHECKING:
    from pymicrogpt import GPT, Corpus

COMMAND = ["-m", "bench.measure.generation"]
TIMEOUT = 300.0  # seconds for a workload
DOCUMENTS = 4096
TEMPERATURE = 0.5
CHECKED = 20_000  # documents
ROUND = 10  # a round takes so many times as long as one case of a probe


def run_generation(
    workload: Workload,
    corpus: Corpus,
    effort: str,
    folder: Path,
    engine: str,
    label: str,
    neighbour: Neighbour = NOBODY,
) -> Probe:
    """A probe "generation"."""
    file = folder / "documents.txt"
    file.write_text("\n".join(corpus.documents), encoding="utf-8")
    job = {"documents": str(file), "workload": workload.name, "effort": effort,
           "highest": neighbour.highest}  # fmt: skip
    probe = Probe("generation", workload.name, engine, label)
    try:
        with Worker(COMMAND, job, TIMEOUT) as worker:
            probe.cases = worker.wait()["cases"]
    except WorkerFailed as failure:
        probe.status, probe.reason = "error", str(failure)
    return probe


def trained(workload: Workload, corpus: Corpus) -> GPT:
    from pymicrogpt import Trainer

    trainer = Trainer(corpus, workload.config, batch_size=16, seed=workload.seed, threads=1,
                      **workload.optimizer)  # fmt: skip
    trainer.run()
    return trainer.model


def check(model: GPT, engine: str) -> None:
    """WrongResult where the first characters are not as frequent as the model says."""
    import numpy as np

    logits = model.logits([model.tokenizer.bos])[-1].astype(float)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    first = [d[:1] for d in model.generate(CHECKED, 1.0, seed=1, engine=engine)]
    for character, expected in zip((*model.tokenizer.alphabet, ""), CHECKED * p, strict=True):
        found = first.count(character)
        allowed = 5 * (expected * (1 - expected / CHECKED)) ** 0.5 + 1
        if not abs(found - expected) <= allowed:
            raise WrongResult(
                f"{engine} begins {found} of {CHECKED} documents with {character!r} instead of "
                f"{expected:.0f} (allowed is {allowed:.0f} off)"
            )


def tokens_per_second(draw: Callable[[int], int], seconds: float) -> float:
    """Of one round; `draw` gets the number of a draw and returns its tokens."""
    tokens, start, draws = 0, time.perf_counter(), 0
    while True:
        tokens += draw(draws)
        draws += 1
        elapsed = time.perf_counter() - start
        if elapsed >= seconds:
            return tokens / elapsed


def drawing(model: GPT, engine: str) -> Callable[[int], int]:
    import numpy as np

    from pymicrogpt import _core

    config = model.config
    generator = _core.Generator(
        engine, n_layer=config.n_layer, n_embd=config.n_embd, n_head=config.n_head,
        block_size=config.block_size, vocab_size=model.tokenizer.vocab_size, documents=DOCUMENTS,
    )  # fmt: skip
    generator.load(np.concatenate([a.ravel() for a in model.parameters.values()]))
    prompt = np.empty(0, np.int32)

    def draw(index: int) -> int:
        first = index * DOCUMENTS
        return len(
            generator.generate(first, DOCUMENTS, TEMPERATURE, 1, 0, prompt, config.block_size)
        )

    return draw


def start(job: dict[str, Any]) -> tuple[dict[str, Any], Answer]:
    import pymicrogpt

    effort, workload = EFFORTS[job["effort"]], WORKLOADS[job["workload"]]
    corpus = pymicrogpt.Corpus.from_file(job["documents"])
    model = trained(workload, corpus)

    def one_by_one(index: int) -> int:
        return len(model.sample(1, TEMPERATURE)[0]) + 1

    seconds = ROUND * effort.probe_seconds
    draws: dict[tuple[str, str], Callable[[int], int]]
    draws = {("", "NumPy, one at a time (GPT.sample)"): one_by_one}
    for info in pymicrogpt.engines():
        if info.available and info.generates:
            check(model, info.name)
            draws[info.name, info.label] = drawing(model, info.name)
    neighbour = Neighbour(paces(), job["highest"])
    measures = [partial(tokens_per_second, draw, seconds) for draw in draws.values()]
    subjects = take_turns(measures, effort.rounds, effort.repeats / 2, neighbour)
    cases: list[GenerationCase] = [
        {"engine": name, "label": label, "rates": of.values, "peak_shares": of.peak_shares,
         "repeats": of.repeats}
        for (name, label), of in zip(draws, subjects, strict=True)
    ]  # fmt: skip
    return {"cases": cases}, lambda request: {}


if __name__ == "__main__":
    serve(start)
