"""The gate: engines timed against each other in one run must keep the floors of gates.toml."""

from __future__ import annotations

import pytest

from bench.guard.gates import FLOORS, Match, failures, required

ROUNDS = 40
EXTENSIONS = 3  # a slow engine stays slow; a disturbed one is found undisturbed in the end


@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("workload", ["d16", "d64"])
def test_gate(workload, batch, benchmark, tmp_path):
    match = Match.of(workload, batch, tmp_path)
    needed, kept = required(batch), FLOORS.get(f"{workload}-b{batch}", {})

    def judge():
        ratios = {engine: match.ratios(engine) for engine in needed}
        floors = {engine: match.floors_of(engine, kept) for engine in needed}
        return ratios, floors, failures(needed, floors, ratios)

    benchmark.pedantic(match.one_round, rounds=ROUNDS, iterations=1)
    ratios, floors, failed = judge()
    for _ in range(EXTENSIONS):
        if not failed:
            break
        match.reopen()
        for _ in range(ROUNDS):
            match.one_round()
        ratios, floors, failed = judge()
    benchmark.extra_info.update(
        workload=workload, batch=batch, engines=match.facts(), ratios=ratios, floors=floors
    )
    for engine, found in ratios.items():
        print(workload, batch, engine, {name: round(found[name], 2) for name in needed[engine]})
    assert failed == []
