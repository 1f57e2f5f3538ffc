"""Finds anew what `pymicrogpt train --seconds` picks from, in some twelve minutes of one core.

The search of bench/measure/pareto.py, over names and words by the line and over prose and verse as
running text, each without a part that is held out, and from what the last search found. The best of
each time goes to pymicrogpt/data/recipes.json, with how, when and where it was found.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.cases import ParetoCase
from bench.command import Refused, say, writable
from bench.measure.machine import cpu_model
from bench.measure.pareto import TRIALS, Setting, search
from bench.task.workload import HELD_OUT, SPLIT_SEED
from bench.variants.variant import best_engine, load_variants

if TYPE_CHECKING:
    from pymicrogpt import Corpus

FILE = Path(str(files("pymicrogpt"))) / "data" / "recipes.json"
# For texts of which ten seconds teach about all there is, or that take the longest.
FEWER = {0.1: 10, 0.3: 7, 1.0: 8, 2.0: 5, 5.0: 4, 10.0: 2, 60.0: 1}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=FILE, metavar="FILE", help="another place than the package"
    )


def run(args: argparse.Namespace) -> int:
    from pymicrogpt import recipes
    from pymicrogpt.storage.files import write_atomically

    writable("--out", args.out, folder=False)
    engine = best_engine(load_variants()) or "autovec"
    found: list[dict[str, Any]] = []
    steps = []  # seconds of one of the original, in the midst of what else the machine does
    for name, (halves, text) in corpora().items():
        steps.append(recipes.step_of_original(engine, time.thread_time))
        start = Setting(block_size=32) if text else Setting()
        trials = TRIALS if name == "names" else FEWER
        cases = search(
            halves, engine, trials, say, start=start, running_text=text, known=found_before(name)
        )
        for budget, case in best_by_time(cases):
            train, _ = halves(case["block_size"])
            found.append(as_recipe(name, train, budget, case))
    about = {
        "by": "python -m bench recipes: the best held-out loss for each corpus and time",
        "on": f"{time.strftime('%Y-%m-%d')}, {cpu_model()}, CPU time of one thread of {engine}",
        "seconds_per_step": median(steps),
    }
    write_atomically(args.out, as_json(about, found).encode())
    return 0


def corpora() -> dict[str, tuple[Callable[[int], tuple[Corpus, Corpus]], bool]]:
    """By name: what to train on and what is held out, by block size, and whether it is running
    text. Prose and words are those of Python's help, which every machine has."""
    from pydoc_data.topics import topics

    from pymicrogpt import Corpus

    corpus = Corpus.load()
    if corpus.source.startswith("embedded"):
        raise Refused(f"needs names.txt, and has {corpus.source}; PYMICROGPT_CORPUS names it")
    names = corpus.split(HELD_OUT, SPLIT_SEED)
    prose = "\n".join(topics.values())
    words = sorted(set(re.findall(r"\b[a-z]{3,}\b", " ".join(topics.values()))))
    few = Corpus.from_documents(words).split(2 * HELD_OUT, SPLIT_SEED)
    verse = files("pymicrogpt").joinpath("data", "sonnets.txt").read_text(encoding="utf-8")
    return {
        "names": (lambda _: names, False),
        "words": (lambda _: few, False),
        "prose": (lambda size: paragraphs(prose, size, every=20, first=0), True),
        "verse": (lambda size: paragraphs(verse, size, every=11, first=5), True),
    }


def paragraphs(text: str, block_size: int, every: int, first: int) -> tuple[Corpus, Corpus]:
    """Running text to train on and the held-out one, in blocks, which is one paragraph of `every`,
    without characters that the rest has not."""
    from pymicrogpt import Corpus

    parts = text.split("\n\n")
    kept = "\n\n".join(part for i, part in enumerate(parts) if i % every != first)
    known = set(kept)
    held_out = "".join(c for c in "\n\n".join(parts[first::every]) if c in known)
    return Corpus.from_text(kept, block_size), Corpus.from_text(held_out, block_size)


def found_before(corpus: str) -> dict[float, Setting]:
    """By time, of the recipes of the package."""
    from pymicrogpt.recipes import recipes

    _, before = recipes()
    return {
        r.seconds: Setting(r.n_layer, r.n_embd, r.block_size, r.batch_size, r.learning_rate)
        for r in before
        if r.corpus == corpus
    }


def best_by_time(cases: Iterable[ParetoCase]) -> Iterator[tuple[float, ParetoCase]]:
    """Of each time, the shortest first, the training with the best loss, if it is better than those
    of less; and of the first time from which on none is, the best one of less."""
    best: ParetoCase | None = None
    enough: float | None = None  # time
    for budget, of_time in groupby(cases, key=lambda case: case["budget"]):
        found = min(of_time, key=held_out)
        if held_out(found) < (held_out(best) if best else math.inf):
            best, enough = found, None
            yield budget, best
        else:
            enough = enough or budget
    if best and enough:
        yield enough, best


def held_out(case: ParetoCase) -> float:
    return math.inf if case["held_out"] is None else case["held_out"]


def as_recipe(name: str, train: Corpus, budget: float, case: ParetoCase) -> dict[str, Any]:
    from pymicrogpt.recipes import extent

    predictions, per_document = extent(train, case["block_size"])
    kept = {n: case[n] for n in ("n_layer", "n_embd", "block_size")}  # type: ignore[literal-required]
    return {
        "corpus": name,
        "mode": train.mode,
        "predictions": round(predictions),
        "per_document": round(per_document, 2),
        "seconds": budget,
        "enough": case["budget"] < budget,
        "took": round(case["seconds"], 3),
        "steps": case["steps"],
        **kept,
        "batch_size": case["batch"],
        "learning_rate": case["learning_rate"],
        "held_out": round(held_out(case), 4),
        "active": round(case["active"], 3) if "active" in case else None,
    }


def as_json(about: dict[str, Any], found: list[dict[str, Any]]) -> str:
    """A recipe a line."""
    head = json.dumps(about, indent=1)[:-2]
    return head + ',\n "recipes": [\n  ' + ",\n  ".join(map(json.dumps, found)) + "\n ]\n}\n"
