"""What a row costs beside its time: cycles, its start, and when that has paid."""

from __future__ import annotations

import pytest
from synthetic import of_rows

from bench.report.findings import costs
from bench.report.markdown import markdown
from bench.results import Results


@pytest.fixture
def results() -> Results:
    found = of_rows(workloads=("d16",))
    starts = {"cpython": 0.1, "numpy": 0.5, "numba": 9.0, "torch-compile": 30.0, "avx2": 0.4}
    for row in found.rows:
        row.cold_start = starts.get(row.variant, 0.0) if row.ok else 0.0
        for r in row.rounds:
            r.activity["clock_ghz"] = 2.5
    return found


def test_a_start_is_paid_when_the_row_has_overtaken_what_was_ready_sooner(results):
    numpy, numba = (results.find("d16", name, 1) for name in ("numpy", "numba"))
    cpython = results.baseline("d16")
    samples, other = costs.paid_after(results, numpy)
    assert other is cpython
    saved = 1e-6 * (cpython.microseconds - numpy.microseconds)
    assert samples * saved == pytest.approx(0.5 - 0.1)
    # AVX2 is ready sooner and faster: nothing is overtaken but CPython and NumPy
    assert costs.paid_after(results, results.find("d16", "avx2", 1))[1] is cpython
    numba.values = [2 * value for value in numpy.values]
    assert costs.paid_after(results, numba)[1] is cpython
    assert costs.paid_after(results, cpython) is None


def test_cycles_are_of_the_clock_of_each_round(results):
    row = results.find("d16", "avx2", 16)
    assert costs.cycles(row).value == pytest.approx(2.5e3 * row.microseconds)
    row.rounds[1].activity = {}
    assert costs.cycles(row) is None


def test_the_table_is_in_the_report_where_anything_is_known(results):
    (part,) = costs.parts(results)
    assert "paid for after" in markdown(results, [part], None)
    for row in results.rows:
        row.cold_start = 0.0
        for r in row.rounds:
            r.activity = {}
    assert not list(costs.parts(results))
