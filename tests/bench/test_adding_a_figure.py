"""A figure is added by one file: that of the documentation, which no other file knows of."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from synthetic import of_rows

from bench.report import findings
from bench.report.format import per_cent
from bench.report.write import write

ROOT = Path(__file__).parents[2]


def test_the_figure_of_the_documentation_is_in_the_report(tmp_path, monkeypatch):
    text = (ROOT / "docs" / "adding-a-figure.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    folder = tmp_path / "findings"
    folder.mkdir()
    (folder / "noise.py").write_text(example, encoding="utf-8")
    monkeypatch.setattr(findings, "__path__", [*findings.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, "bench.report.findings.noise", raising=False)
    stale = tmp_path / "out" / "noise_d16.png"
    stale.parent.mkdir()
    stale.touch()

    results = of_rows(workloads=("d16",))
    write(results, tmp_path / "out")
    assert (tmp_path / "out" / "noise.png").stat().st_size > 5_000
    assert not stale.exists()
    readme = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    row = results.find("d16", "avx512", 16)
    spread = per_cent(row.estimate.spread)
    assert f"| {row.title} | {spread} |" in readme
    headings = re.findall("^## (.*)", readme, re.MULTILINE)
    assert headings[headings.index("Memory") + 1] == "Noise"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<em>what a row is known to</em>" in page
    assert f"known to {spread}" in page
