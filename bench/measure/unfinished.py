"""A run that was interrupted goes on: what is finished is kept as it comes.

Beside the report stands the file UNFINISHED, a result file like any other, written anew whenever
all rounds of a workload or a probe are done, and removed when the report is written. Rounds of one
workload are interleaved, so that its factors are of one sitting: a workload of which the rounds did
not end is measured from the first round on. `run["whole"]` names the workloads that need no more.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.command import Refused
from bench.measure.process import ROOT
from bench.results import Results

if TYPE_CHECKING:
    from pymicrogpt import Corpus

UNFINISHED = "unfinished.json"
# What must be as it was, or factors would be of two things: the key in Results.run, and in words.
ALIKE = {
    "cpu_model_name": "processor",
    "cpu_count": "number of cores",
    "platform": "system",
    "python_version": "interpreter",
    "commit": "commit",
    "sources": "source (a checksum of bench/, pymicrogpt/ and the files of --extra)",
    "corpus": "corpus",
    "corpus_sha256": "corpus (its checksum)",
    "effort": "effort",
    "asked": "rows and workloads",
}


def identity(corpus: Corpus, extra: Iterable[str], asked: str) -> dict[str, str]:
    """For Results.run: what tells a run from another, beside the facts of the machine."""
    ours = [*(ROOT / "bench").rglob("*"), *(ROOT / "pymicrogpt").rglob("*")]
    files = [f for f in ours if f.is_file() and "__pycache__" not in f.parts]
    documents = "\n".join(corpus.documents).encode("utf-8", "surrogatepass")
    return {
        "sources": checksum(f.read_bytes() for f in [*sorted(files), *map(Path, extra)]),
        "corpus_sha256": checksum([documents]),
        "asked": asked,
    }


def checksum(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()[:16]


def keep(results: Results, out: Path) -> Path:
    """Writes the file, whole or not at all: whatever kills this process then, one of the two is
    there."""
    out.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".unfinished-", dir=out)
    os.close(handle)
    try:
        results.save(Path(name))
        os.replace(name, out / UNFINISHED)
    except BaseException:
        Path(name).unlink()
        raise
    return out / UNFINISHED


def remove(out: Path) -> None:
    """The report has it all."""
    for file in (out / UNFINISHED, *out.glob(".unfinished-*")):  # the latter of a killed process
        file.unlink(missing_ok=True)


def whole(results: Results) -> list[str]:
    """Workloads of which all rounds are done."""
    names: str = results.run.get("whole", "")
    return names.split(", ") if names else []


def set_whole(results: Results, workload: str) -> None:
    results.run["whole"] = ", ".join([*whole(results), workload])


def go_on(out: Path, about: dict[str, Any]) -> Results:
    """What an interrupted run has finished, to be gone on with. Refused where there is none, or
    where it was begun as something else than `about` says."""
    file = out / UNFINISHED
    if not file.exists():
        raise Refused(f"--resume: there is nothing to go on with in {out} (no {UNFINISHED})")
    results = Results.load(file)
    for key, what in ALIKE.items():
        before, now = results.run.get(key, "none"), about.get(key, "none")
        if before != now:
            raise Refused(
                f"--resume: {file} was begun with another {what}: {before}, now {now}. Go on with "
                "what it was begun with, or begin anew without --resume"
            )
    names = whole(results)
    results.rows = [row for row in results.rows if row.workload in names]
    results.workloads = {name: w for name, w in results.workloads.items() if name in names}
    sittings = [results.run["resumed"]] if "resumed" in results.run else []
    results.run["resumed"] = "; ".join([*sittings, f"{time.strftime('%Y-%m-%d %H:%M:%S')} after "
                                        f"{', '.join(names) or 'nothing'}"])  # fmt: skip
    return results
