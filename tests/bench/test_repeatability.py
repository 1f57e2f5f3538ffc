"""Whether two runs agree."""

from __future__ import annotations

from synthetic import of_rows

from bench.__main__ import main
from bench.guard.repeatability import of_last
from bench.report.findings import repeatability
from bench.report.write import write
from bench.results import Results


def test_repeatability_finds_a_row_that_changed(tmp_path, capsys):
    first, second = of_rows(workloads=("d16",)), of_rows(workloads=("d16",))
    for name, results in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        results.save(tmp_path / name / "results.json")
    runs = [str(tmp_path / "a"), str(tmp_path / "b" / "results.json")]
    assert main(["repeatability", *runs]) == 0
    assert "rows agree within 10 %" in capsys.readouterr().out
    row = second.find("d16", "avx512", 16)
    row.values = [value / 1.12 for value in row.values]
    second.save(tmp_path / "b" / "results.json")
    assert main(["repeatability", *runs]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "beyond" in line)
    assert line.startswith("d16/b16/avx512 ")
    assert "+12.0 %" in line
    assert main(["repeatability", *runs, "--limit", "15"]) == 0
    second.rows.remove(row)
    second.save(tmp_path / "b" / "results.json")
    assert main(["repeatability", *runs]) == 1
    assert "in one run alone" in capsys.readouterr().out
    assert main(["repeatability", runs[0], str(tmp_path / "missing.json")]) == 2
    second.rows.remove(second.baseline("d16"))
    second.save(tmp_path / "b" / "results.json")
    assert main(["repeatability", *runs]) == 1
    assert "CPython in one run alone" in capsys.readouterr().out
    assert main(["repeatability", runs[1], runs[1]]) == 0
    assert "µs per sample" in capsys.readouterr().out


def test_a_report_shows_what_the_one_before_had(tmp_path):
    first, second = of_rows(workloads=("d16",)), of_rows(workloads=("d16",))
    assert of_last(tmp_path, second) == []  # there is none
    first.save(tmp_path / "results.json")
    row = second.find("d16", "avx512", 16)
    row.values = [value / 1.12 for value in row.values]
    second.probes = of_last(tmp_path, second)
    write(second, tmp_path)
    cases = [case for _, case in Results.load(tmp_path).cases("repeatability")]
    assert len(cases) == sum(row.ok for row in second.rows) - 1  # not CPython
    assert repeatability.table(cases)[1:] == [
        ("d16, AVX-512, batch 16", "\N{MULTIPLICATION SIGN} CPython", "69,800", "78,200", "+12.0 %")
    ]
    assert (tmp_path / "repeatability.png").stat().st_size > 5000
    second.run["commit"] = "another"
    assert of_last(tmp_path, second) == []
