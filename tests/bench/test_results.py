"""The result file; estimates with intervals; what is recorded beside each round."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import combinations_with_replacement
from statistics import median

import numpy as np
import pytest
from synthetic import of_rows

from bench.measure import machine
from bench.measure.machine import Watch
from bench.report.findings import speedup
from bench.report.format import WARNING, verdict
from bench.report.method import warnings
from bench.report.part import all_parts
from bench.results import (
    LEVEL,
    RESAMPLES,
    SEED,
    SPREAD_LIMIT,
    Results,
    Round,
    Row,
    estimate,
    over,
    quiet_rounds,
    ratio,
    ratio_of_centres,
)


def centre(values) -> float:
    """Of Hodges and Lehmann."""
    return median((a + b) / 2 for a, b in combinations_with_replacement(values, 2))


def test_interval_is_the_percentile_bootstrap_of_the_centre():
    values = [1.0, 1.1, 0.9, 1.3, 1.05, 0.95, 1.2, 1.0, 1.15]
    found = estimate(values)
    drawn = np.random.default_rng(SEED).integers(0, 9, (RESAMPLES, 9))
    centres = sorted(centre(np.array(values)[row].tolist()) for row in drawn)
    assert found.value == pytest.approx(centre(values)) == pytest.approx(1.075)
    assert found.low == pytest.approx(centres[round(0.025 * RESAMPLES)])
    assert found.high == pytest.approx(centres[round(0.975 * RESAMPLES) - 1])
    assert estimate(values) == found  # the same file gives the same figures
    assert estimate([1.0, 1.01, 1.02, 1.03, 9.0, 9.0, 1.0]).value < 1.05  # wild ones hardly count
    assert estimate([1.0, 1.1, 9.0]).value == 1.1


def measured(values, shares):
    rounds = [
        Round(v, 1, 1, 7, {"peak_share": share}) for v, share in zip(values, shares, strict=True)
    ]
    return Row("v", "V", "other", "d16", 1, rounds=rounds, values=list(values))


def test_rounds_beside_a_neighbour_do_not_count_where_there_are_others():
    values = [1.5, 1.0, 1.6, 1.1, 0.9]
    row = measured(values, [0.6, 0.9, 0.7, 0.95, 1.0])
    assert (quiet_rounds(row.peak_shares), row.crowded, row.microseconds) == (3, False, 1e6)
    assert (row.estimate.low, row.estimate.high, row.estimate.rounds) == (0.9e6, 1.1e6, 3)
    assert row.timed("abcde").counted == ["b", "d", "e"]
    assert row.estimate.doubts() == ["3 rounds, interval of 75 %"]
    two = measured(values, [0.6, 0.9, 0.7, 0.7, 1.0])
    assert (two.crowded, two.microseconds) == (False, 0.95e6)
    assert two.estimate.doubts() == ["2 rounds, interval of 50 %"]
    crowded = measured([1.5, 0.8, 1.6, 1.1, 0.9], [0.6, 0.7, 0.7, 0.7, 1.0])
    assert quiet_rounds(crowded.peak_shares) == 1
    assert (crowded.crowded, crowded.microseconds) == (True, 0.8e6)
    assert crowded.estimate.doubts() == ["fastest round, beside a neighbour"]
    one = measured([1.0], [1.0])
    assert not one.crowded and one.microseconds == 1e6


def test_a_factor_is_of_the_same_rounds_or_of_centres():
    quiet, half = [1.0] * 5, [0.6, 0.6, 1.0, 1.0, 1.0]
    one, two = [3.0, 4.0, 5.0, 6.0, 7.0], [1.0, 1.0, 1.0, 2.0, 7.0]
    same = over(measured(two, quiet), measured(one, quiet))
    assert same == ratio(one, two) and same.value == 3.0
    found = over(measured(two, half), measured(one, quiet))
    assert (found.value, found.rounds) == (2.5, 3)  # 5 over 2
    assert found.low < 2.5 / 1.5 and found.high > 2.5 * 1.5
    both = over(measured(two, half), measured(one, half))
    assert both == ratio(one[2:], two[2:])
    one_again = measured(one, quiet)
    one_again.rounds[2].activity["repeats"] = 1  # at another moment than round 2 of the other
    assert over(measured(two, quiet), one_again).value == 5.0 / 1.5
    assert over(one_again, one_again) == ratio(one, one)


def test_a_factor_of_a_row_beside_a_neighbour_says_so():
    crowded = measured([3.0, 4.0, 5.0, 6.0, 7.0], [0.6] * 5)
    other = measured([1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5)
    for found, value in ((over(other, crowded), 1.0), (over(crowded, other), 1.0)):
        assert (found.value, found.rounds, found.crowded) == (value, 1, True)
        assert found.doubts() == ["fastest round, beside a neighbour"]
    assert verdict(over(other, crowded)) == f"{WARNING} fastest round, beside a neighbour"
    assert (over(other, crowded) * 2).crowded
    of_other = measured([6.0, 8.0, 7.0], [0.6] * 3)
    assert over(crowded, of_other).value == 2.0  # the fastest of both


def test_the_interval_of_a_ratio_of_centres_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(200):
        above, below = rng.lognormal(0.7, 0.1, 9), rng.lognormal(0, 0.1, 7)
        found = ratio_of_centres(above, below)
        hits += found.low <= np.exp(0.7) <= found.high
    assert hits / 200 > LEVEL - 0.065
    wide = np.mean(above) / np.mean(below) * 0.1 * 2
    assert found.high - found.low < 4 * wide  # and not by holding everything


def test_the_report_says_where_a_neighbour_was_busy():
    results = of_rows()
    disturbed, crowded = results.rows[:2]
    assert not any("neighbour" in words for words in warnings(results))
    disturbed.values, disturbed.rounds = 2 * disturbed.values, 2 * disturbed.rounds
    disturbed.rounds = [replace(done, activity={}) for done in disturbed.rounds]
    disturbed.rounds[0].activity = {"peak_share": 0.7, "repeats": 4}
    [words] = [words for words in warnings(results) if "neighbour" in words]
    assert "before or after 1 of " in words and "4 times a round was done again" in words
    assert words.endswith("They do not count.")
    for done in crowded.rounds[:2]:
        done.activity["peak_share"] = 0.7
    [words] = [words for words in warnings(results) if "neighbour" in words]
    of = f"{crowded.workload}, {crowded.title}"
    assert words.endswith(f"a row has fewer than 2 others, its fastest round counts: {of}.")
    assert "beside a neighbour" in speedup.note(results, crowded)
    assert "beside a neighbour" not in speedup.note(results, disturbed)


@pytest.mark.parametrize("count", [3, 5, 9, 15])
def test_interval_holds_the_centre_as_often_as_it_says(count):
    rng = np.random.default_rng(1)
    trials = 200
    hits = 0
    for _ in range(trials):
        found = estimate(rng.lognormal(0, 0.1, count))
        hits += found.low <= 1 <= found.high
    # Three standard deviations of a share of 200 trials are 0.046 at 0.95 and 0.092 at 0.75; and
    # the bootstrap of few rounds is known to be a little narrow.
    assert hits / trials > found.level - (0.1 if count == 3 else 0.065)


def test_few_rounds_say_what_their_range_is_worth():
    assert estimate([2.0, 1.0, 4.0]).level == 0.75
    assert (estimate([2.0, 1.0, 4.0]).low, estimate([2.0, 1.0, 4.0]).high) == (1.0, 4.0)
    assert estimate([1.0] * 5).level == 0.9375
    assert estimate([1.0] * 6).level == LEVEL
    assert estimate([1.0]).level == 0
    assert estimate([1.0]).doubts() == ["one round, no interval"]
    assert estimate([1.0, 1.01, 1.02]).doubts() == ["3 rounds, interval of 75 %"]
    with pytest.raises(ValueError, match="no round"):
        estimate([])


def test_a_wide_spread_and_a_ratio_around_one_are_doubted():
    assert estimate([1.0, 1.01, 1.02] * 3).doubts() == []
    (doubt,) = estimate([1.0, 2.0, 3.0] * 3).doubts()
    assert doubt.startswith("spread of ±")
    assert estimate([0.99, 1.0, 1.02] * 3).doubts_as_ratio() == ["no difference shown"]
    assert estimate([1.01, 1.02, 1.03] * 3).doubts_as_ratio() == []
    exact = estimate([1.0, 1.0 + 2 * SPREAD_LIMIT] * 3)
    assert exact.spread < SPREAD_LIMIT or exact.doubts()


def test_ratios_are_formed_within_rounds():
    # A machine that slows down by 10 from round to round: the ratio of each round is 2.
    slow = [2.0 * 10**i for i in range(7)]
    fast = [1.0 * 10**i for i in range(7)]
    found = ratio(slow, fast)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)


def test_speedup_is_of_the_same_rounds():
    results = of_rows()
    row, base = results.find("d16", "avx512", 16), results.baseline("d16")
    row.values, base.values = [1.0, 2.0, 3.0], [10.0, 40.0, 90.0]
    assert results.speedup(row).value == 20.0  # the ratio of the medians, too, but:
    base.values = [100.0, 40.0, 30.0]
    assert results.speedup(row).value == 20.0
    assert over(base, row).value == 1 / 20.0


def test_a_watch_tells_what_else_went_on(monkeypatch):
    watch = Watch()
    # user, nice, system, idle, iowait, irq, softirq, steal
    watch.start = [60, 10, 20, 800, 90, 5, 5, 10]
    monkeypatch.setattr(machine, "cpu_ticks", lambda: [160, 20, 30, 830, 100, 15, 25, 20])
    facts = watch.facts()
    assert facts["steal_percent"] == 5.0
    assert facts["busy_cores"] == round((os.cpu_count() or 1) * 0.75, 2)


def test_warnings_name_what_a_reader_must_know():
    results = of_rows(wrong={"avx2"})
    words = "\n".join(warnings(results))
    assert "too few rounds" in words  # the synthetic ones have three
    assert "Error: d16, AVX2, batch 1: wrong: avx2" in words
    for row in results.rows:
        row.values, row.rounds = row.values * 3, row.rounds * 3
        for r in row.rounds:
            r.activity = {"busy_cores": 1.02}
    results.rows = [row for row in results.rows if row.status != "error"]
    assert warnings(results) == []
    results.run.update(steal_percent=2.5, load_avg_1min=1.7)
    for row in results.rows:
        for r in row.rounds:
            r.activity = {"busy_cores": 1.8}
    words = "\n".join(warnings(results))
    for said in ("0.8 cores busy", "2.5 % of the processor time"):
        assert said in words
    assert "load average" not in words
    for row in results.rows:
        for r in row.rounds:
            r.activity = {}
    assert "load average was 1.7" in "\n".join(warnings(results))
    results.find("d64", "scalar", 1).values = [1.0, 2.0, 3.0] * 3
    assert "d64, C++ scalar, batch 1" in "\n".join(warnings(results))


def test_files_of_the_first_format_load_without_their_wrong_memory(tmp_path):
    results = of_rows(workloads=("d16",))
    results.run |= {"steal_percent": 1.5, "load_avg_1min": 2.5}  # not to be taken for a round's
    for row in results.rows[1:]:
        for r in row.rounds:
            r.activity = {"steal_percent": 0.5, "busy_cores": 1.25, "load_avg_1min": 0.75}
    file = tmp_path / "results.json"
    results.save(file)
    assert Results.load(file) == results
    data = json.loads(file.read_text(encoding="utf-8"))
    data["pymicrogpt"]["format"] = 1
    for row in data["pymicrogpt"]["rows"]:
        row.pop("engine_memory", None)
    file.write_text(json.dumps(data), encoding="utf-8")
    assert {row.peak_memory for row in Results.load(file).rows} == {0}


def test_results_survive_the_file_and_pyperf_reads_it(tmp_path):
    pyperf = pytest.importorskip("pyperf")
    results = of_rows()
    file = tmp_path / "results.json"
    results.save(file)
    assert Results.load(file) == results

    suite = pyperf.BenchmarkSuite.load(str(file))
    row = results.find("d64", "avx512", 16)
    benchmark = suite.get_benchmark("d64/b16/avx512")
    assert benchmark.get_values() == tuple(row.values)
    assert benchmark.get_metadata()["cpu_model_name"] == results.run["cpu_model_name"]
    assert len(suite.get_benchmarks()) == sum(row.ok for row in results.rows)
    for command in (["stats", str(file)], ["compare_to", str(file), str(file)]):
        subprocess.run([sys.executable, "-m", "pyperf", *command], check=True, capture_output=True)


@pytest.mark.parametrize("text", ["", "{}", '{"benchmarks": [], "pymicrogpt": {"format": 99}}'])
def test_other_files_are_not_results(text, tmp_path):
    file = tmp_path / "results.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"results\.json is not a result file"):
        Results.load(file)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["pymicrogpt", "run", "date"], [1], "'date' of 'run' must be text, not [1]"),
        (["pymicrogpt", "run", "cpu_count"], {}, "'cpu_count' of 'run' must be text or a number"),
        (["pymicrogpt", "workloads", "d16", "n_embd"], -1, "'n_embd' of 'd16' of 'workloads' must"),
        (["pymicrogpt", "workloads"], None, "'workloads' must be an object, not null"),
        (["pymicrogpt", "published", "d16"], 3, "'d16' of 'published' must be an object, not 3"),
        (["pymicrogpt", "rows"], None, "the rows must be a list, not null"),
        (["pymicrogpt", "rows", 0, "label"], 1e300, "'label' of row 0 must be text, not 1e+300"),
        (["pymicrogpt", "rows", 0, "info"], {"a": None}, "'a' of 'info' of row 0 must be text"),
        (["pymicrogpt", "probes", 0, "cases"], {}, "the cases of probe 0 must be a list, not {}"),
        (["pymicrogpt", "probes", 0, "cases", 0], {}, "[0] of the cases of probe 0 has no 'batch'"),
        (["benchmarks", 0, "runs"], 7, "pyperf cannot read its benchmarks ("),
        (["benchmarks", 0, "runs", 0, "metadata", "steps"], -5, "a run of d16/b1/cpython must be"),
    ],
    ids=str,
)
def test_what_is_wrong_in_a_file_is_named(place, value, message, tmp_path):
    file = tmp_path / "results.json"
    of_rows().save(file)
    data = found = json.loads(file.read_text(encoding="utf-8"))
    probe = {"name": "phases", "workload": "d16", "engine": "avx2", "label": "AVX2"}
    data["pymicrogpt"]["probes"] = [{**probe, "cases": [{"batch": 1, "phases": {}}]}]
    for name in place[:-1]:
        found = found[name]
    found[place[-1]] = value
    file.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        all_parts(Results.load(file))


def test_rows_of_older_files_do_not_claim_whole_trainings(tmp_path):
    file = tmp_path / "results.json"
    of_rows(workloads=("d16",)).save(file)
    data = json.loads(file.read_text(encoding="utf-8"))
    data["pymicrogpt"]["format"] = 2
    for row in data["pymicrogpt"]["rows"]:
        row.pop("steady", None)
        row.pop("coverage", None)
    file.write_text(json.dumps(data), encoding="utf-8")
    results = Results.load(file)
    assert speedup.note(results, results.find("d16", "avx2", 16)).startswith(f"{WARNING} slices")


def test_result_file_is_strict_json(tmp_path):
    of_rows().save(tmp_path / "results.json")

    def refuse(name):
        raise AssertionError(name)

    json.loads((tmp_path / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
