"""The gate: engines timed against each other in one run must keep the floors of gates.toml."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import median

import pytest

from bench.task import Task
from bench.variant import load_variants
from bench.worker import CheckedSession
from bench.workload import WORKLOADS

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10, where pytest brings tomli
    import tomli as tomllib

RATIOS = {"autovec/scalar", "simd/autovec", "simd/tape32"}
GATED = ("d16", "d64")
FLOORS = tomllib.loads(Path(__file__).with_name("gates.toml").read_text(encoding="utf-8"))
ROUNDS = 9
ROUND_SECONDS = 0.1


def failures(floors: dict[str, float], ratios: dict[str, float]) -> list[str]:
    """What is under its floor or missing on either side, in words."""
    words = [f"{name} has no floor in gates.toml" for name in sorted(RATIOS - set(floors))]
    for name, floor in floors.items():
        if name not in ratios:
            words.append(f"{name} was not measured")
        elif not ratios[name] >= floor:
            words.append(f"{name} is {ratios[name]:.2f}, under its floor of {floor}")
    return words


def best_simd() -> str:
    """The first of the compiled engines, best first, that is written with intrinsics."""
    import pymicrogpt

    variants = load_variants()
    for info in pymicrogpt.engines():
        if info.available and info.name in variants and variants[info.name].group == "SIMD":
            return info.name
    pytest.fail("no SIMD engine runs on this machine")


def open_sessions(workload: str, folder: Path) -> dict[str, CheckedSession]:
    """The engines of RATIOS, their first loss and gradients compared with the float64 tape."""
    import pymicrogpt

    corpus = pymicrogpt.Corpus.load()
    tasks = {b: Task.prepare(WORKLOADS[workload], b, corpus, folder) for b in (1, 16)}
    variants = load_variants()
    names = {"scalar": "scalar", "autovec": "autovec", "tape32": "tape32", "simd": best_simd()}
    return {
        key: CheckedSession(variants[name], tasks[max(variants[name].batches)])
        for key, name in names.items()
    }


@pytest.mark.parametrize("workload", GATED)
def test_gate(workload, benchmark, tmp_path):
    sessions = open_sessions(workload, tmp_path)
    steps = {}
    for key, session in sessions.items():
        warm = session.run(100)
        steps[key] = max(1, int(100 * ROUND_SECONDS / warm["seconds"]))
    times = defaultdict(list)  # seconds per position, one a round

    def one_round():
        for key, session in sessions.items():
            reply = session.run(steps[key])
            times[key].append(reply["seconds"] / reply["positions"])

    benchmark.pedantic(one_round, rounds=ROUNDS, iterations=1)
    ratios = {}
    for name in RATIOS:
        fast, slow = name.split("/")
        ratios[name] = median(b / a for a, b in zip(times[fast], times[slow], strict=True))
    benchmark.extra_info.update(ratios, simd=sessions["simd"].variant.name, workload=workload)
    print(workload, sessions["simd"].variant.name, {k: round(v, 2) for k, v in ratios.items()})
    assert failures(FLOORS.get(workload, {}), ratios) == []
