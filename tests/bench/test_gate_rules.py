"""The gates fail when they should: on an engine that is slow, broken or not measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import pymicrogpt as mg
from bench.guard import gates
from bench.guard.gates import FLOORS, Match, Subject, failures, required
from bench.task.task import Task, WrongResult
from bench.task.workload import WORKLOADS
from bench.variants.sessions import EngineSession
from bench.variants.variant import load_variants

NEEDED = {"fast": {"slow", "peak"}}


def test_under_a_floor_or_missing_on_either_side_fails():
    floors = {"fast": {"slow": 1.2, "peak": 0.3}}
    good = {"fast": {"slow": 2.0, "peak": 0.3, "another": 0.1}}
    assert failures(NEEDED, floors, good) == []
    slow = {"fast": {"slow": 1.19, "peak": 0.3}}
    assert failures(NEEDED, floors, slow) == ["fast over slow is 1.19, under its floor of 1.2"]
    assert failures(NEEDED, floors, {"fast": {"slow": float("nan"), "peak": 0.3}}) != []
    assert failures(NEEDED, floors, {"fast": {"slow": 2.0}}) == ["fast over peak was not measured"]
    assert len(failures(NEEDED, floors, {})) == 2
    assert failures(NEEDED, {"fast": {"slow": 1.2}}, good) == [
        "fast over peak has no floor in gates.toml"
    ]
    assert len(failures(NEEDED, {}, good)) == 2


def test_every_engine_and_baseline_of_every_architecture_has_a_floor(monkeypatch):
    simd = [info.name for info in mg.engines() if info.simd]
    monkeypatch.setattr(gates, "simd_engines", lambda: simd)
    match = Match({}, lambda engine: 1e9)
    for workload in ("d16", "d64"):
        for batch in (1, 16):
            floors = FLOORS[f"{workload}-b{batch}"]
            needed = required(batch)
            assert {name: set(match.floors_of(name, floors)) for name in needed} == needed
            for name in set(floors) - set(needed) - {"simd"}:
                assert set(floors[name]) <= set(floors[name.removesuffix("-twice")])
            assert "avx512-twice" in floors


def test_floors_depend_on_the_units_of_the_cpu(task):
    played = match(task, EngineSession)
    floors = {"avx512": {"peak": 0.5, "scalar": 6.0}, "avx512-twice": {"peak": 0.3}}
    floors |= {"avx2": {"autovec": 1.5}, "avx2-twice": {"autovec": 1.1}}
    played.peaks = {"avx512": {0: 118e9}, "avx2": {0: 118e9}}
    assert played.floors_of("avx512", floors) == {"peak": 0.5, "scalar": 6.0}
    assert played.floors_of("avx2", floors) == {"autovec": 1.5}
    played.peaks = {"avx512": {0: 179e9}, "avx2": {0: 112e9}}
    assert played.floors_of("avx512", floors) == {"peak": 0.3, "scalar": 6.0}
    assert played.floors_of("avx2", floors) == {"autovec": 1.1}
    assert match(task, EngineSession).floors_of("avx512", floors) == {"peak": 0.5, "scalar": 6.0}
    played.simd = ["avx3"]
    assert played.floors_of("avx3", floors | {"simd": {"peak": 0.1}}) == {"peak": 0.1}
    assert played.floors_of("autovec", floors | {"simd": {"peak": 0.1}}) == {}


def test_a_moment_of_a_faster_machine_does_not_raise_the_peak(task):
    found = iter([100e9] * 5 + [200e9] + [100e9] * 33 + [50e9])
    played = match(task, EngineSession)
    played.simd, played.measure_peak = ["autovec"], lambda engine: next(found)
    for _ in range(40):
        played.one_round()
    assert played.peak("autovec") == pytest.approx(20 / (19 / 100e9 + 1 / 200e9))
    assert played.peak("scalar") is None


def test_an_engine_that_was_left_out_of_the_build_is_still_required(monkeypatch):
    present = mg.engines()
    expected = set(required(16))
    assert {info.name for info in present if info.available} >= expected
    gone = [replace(info, available=False, reason="left out of this build") for info in present]
    monkeypatch.setattr(mg, "engines", lambda: gone)
    assert set(required(16)) >= expected
    lacking = [replace(info, available=False, supported=False) for info in present]
    monkeypatch.setattr(mg, "engines", lambda: lacking)
    assert set(required(16)) == {"scalar", "autovec"}


@pytest.fixture
def task(tmp_path) -> Task:
    corpus = mg.Corpus.from_documents(["anna", "bea", "clara", "dora", "emilia"] * 40)
    return Task.prepare(WORKLOADS["d16"], 16, corpus, tmp_path)


class Slow(EngineSession):
    """Every slice takes eight times as long."""

    def run(self, steps):
        losses, seconds = super().run(steps)
        return losses, 8 * seconds


class Broken(EngineSession):
    def verify(self):
        loss, gradients = super().verify()
        return loss, gradients * 1.001


def match(task: Task, session) -> Match:
    variants = load_variants()
    fake = replace(variants["autovec"], open=lambda task: session("autovec", task))
    subjects = {"autovec": Subject(fake, task), "scalar": Subject(variants["scalar"], task)}
    return Match(subjects, lambda engine: 1e9)


def test_a_slow_engine_fails_and_the_same_engine_at_its_own_pace_does_not(task):
    found = {}
    for session in (EngineSession, Slow):
        played = match(task, session)
        for _ in range(15):
            played.one_round()
        found[session] = {"autovec": played.ratios("autovec")}
    needed, floors = {"autovec": {"scalar"}}, FLOORS["d16-b16"]
    assert failures(needed, floors, found[EngineSession]) == []
    assert failures(needed, floors, found[Slow]) != []
    facts = json.loads(json.dumps(played.facts()))["scalar"]  # as --benchmark-json writes them
    assert facts["isa"] and facts["loss"] > 0 and facts["gflops"] > 0


def test_a_broken_engine_is_an_error_before_anything_is_timed(task):
    with pytest.raises(WrongResult, match="gradient of wte"):
        match(task, Broken)
