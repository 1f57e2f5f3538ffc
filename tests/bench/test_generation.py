"""Tokens per second: what is drawn is checked before it is timed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from synthetic import of_rows

import pymicrogpt
from bench.measure import generation
from bench.measure.effort import EFFORTS
from bench.report.findings import generation as finding
from bench.results import Probe
from bench.task.task import WrongResult
from bench.task.workload import WORKLOADS

ENGINES = [info.name for info in pymicrogpt.engines() if info.available and info.generates]
pytestmark = pytest.mark.skipif(not ENGINES, reason="no engine here generates")


@pytest.fixture
def corpus() -> pymicrogpt.Corpus:
    names = ("emma", "olivia", "ava", "isabella", "sophia", "mia", "charlotte", "amelia", "jo")
    return pymicrogpt.Corpus.from_documents([f"{a}{b}" for a in names for b in names])


def test_every_engine_has_a_rate_for_each_round(corpus, monkeypatch, tmp_path):
    monkeypatch.setitem(EFFORTS, "quick", replace(EFFORTS["quick"], rounds=2, probe_seconds=1e-4))
    file = tmp_path / "documents.txt"
    file.write_text("\n".join(corpus.documents), encoding="utf-8")
    job = {"documents": str(file), "workload": "d16", "effort": "quick", "highest": {}}
    cases = generation.start(job)[0]["cases"]
    assert [case["engine"] for case in cases] == ["", *ENGINES]
    assert all(len(case["rates"]) == 2 and min(case["rates"]) > 0 for case in cases)
    results = of_rows(workloads=("d16",))
    results.probes = [Probe("generation", "d16", ENGINES[0], "SIMD", cases=cases)]
    (part,) = finding.parts(results)
    assert len(part.tables[0]) == 1 + len(cases)
    assert "million tokens per second with one thread" in part.drawings[0].wide.title


def test_an_engine_that_draws_something_else_has_no_rate(corpus, monkeypatch):
    model = generation.trained(replace(WORKLOADS["d16"], num_steps=50), corpus)
    generation.check(model, ENGINES[0])
    draw = model.generate
    monkeypatch.setattr(model, "generate", lambda n, t, **how: draw(n, 0.8 * t, **how))
    with pytest.raises(WrongResult, match="documents with"):
        generation.check(model, ENGINES[0])


def test_a_failure_is_a_reason(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "COMMAND", ["-c", "raise SystemExit(3)"])
    probe = generation.run_generation(WORKLOADS["d16"], corpus, "quick", tmp_path, "avx2", "AVX2")
    assert (probe.status, probe.cases) == ("error", [])
    assert "exit code 3" in probe.reason
