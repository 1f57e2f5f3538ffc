"""Rows for other programs: Bencher's metric format, and pyperf's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyperf
import pytest
from synthetic import of_rows

from bench.__main__ import main
from bench.results import Results


@pytest.fixture
def results(tmp_path, monkeypatch) -> Results:
    monkeypatch.chdir(tmp_path)
    found = of_rows(wrong=("scalar",))
    Path("run").mkdir()
    found.save(Path("run/results.json"))
    return found


def is_bmf(found: object) -> bool:
    """As Bencher documents it: benchmark -> measure -> value, and lower and upper around it."""
    return isinstance(found, dict) and all(
        isinstance(benchmark, str)
        and measures
        and all(
            set(metric) <= {"value", "lower_value", "upper_value"}
            and all(type(value) is float for value in metric.values())
            and metric.get("lower_value", metric["value"]) <= metric["value"]
            and metric["value"] <= metric.get("upper_value", metric["value"])
            for metric in measures.values()
        )
        for benchmark, measures in found.items()
    )


def test_bmf_has_each_right_row_with_its_interval(results, capsys):
    assert main(["export", "run", "--format", "bmf"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert is_bmf(found)
    right = {row.name: row for row in results.rows if row.ok}
    assert list(found) == list(right)
    assert not any(name.split("/")[-1] == "scalar" for name in found)
    row = right["d16/b16/avx512"]
    assert found[row.name]["latency"] == {
        "value": pytest.approx(1e3 * row.microseconds),
        "lower_value": pytest.approx(1e9 * min(row.values)),
        "upper_value": pytest.approx(1e9 * max(row.values)),
    }
    assert found[row.name]["throughput"]["value"] == pytest.approx(1e6 / row.microseconds)
    assert found[row.name]["speedup-over-cpython"]["value"] == results.speedup(row).value
    assert found[row.name]["peak-memory"] == {"value": row.peak_memory}
    assert f"{sum(not row.ok for row in results.rows)} rows have no number" in err


def test_one_round_has_no_interval(results, capsys):
    for row in results.rows:
        del row.values[1:], row.rounds[1:]
    results.save(Path("run/results.json"))
    assert main(["export", "run", "--format", "bmf", "--rows", "d16/b1/numpy"]) == 0
    (measures,) = json.loads(capsys.readouterr().out).values()
    assert set(measures["latency"]) == {"value"}


def test_pyperf_reads_the_rows_asked_for(results):
    args = ["export", "run", "--format", "pyperf", "--rows", "d16/*/avx512,d64/b1/cpython"]
    assert main([*args, "--out", "rows.json"]) == 0
    suite = pyperf.BenchmarkSuite.load("rows.json")
    assert suite.get_benchmark_names() == ["d16/b1/avx512", "d16/b16/avx512", "d64/b1/cpython"]
    for benchmark in suite:
        row = next(row for row in results.rows if row.name == benchmark.get_name())
        assert list(benchmark.get_values()) == row.values
        assert benchmark.get_metadata()["variant"] == row.variant
    command = [sys.executable, "-m", "pyperf", "compare_to", "rows.json", "rows.json"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert json.loads(Path("rows.json").read_text("utf-8")).keys() >= {"version", "benchmarks"}


def test_a_row_that_is_none_is_named(results, capsys):
    assert main(["export", "run", "--format", "bmf", "--rows", "d16/b1/scalar"]) == 2
    assert (
        "no row d16/b1/scalar with a number; there are d16/b1/cpython," in capsys.readouterr().err
    )
