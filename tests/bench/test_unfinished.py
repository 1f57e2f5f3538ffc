"""A run that is interrupted keeps what is finished, and goes on with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.measure import unfinished
from bench.results import Results
from bench.run_all import main

ROOT = Path(__file__).parents[2]
ARGS = ["--quick", "--workloads", "d16,d32", "--variants", "autovec"]

pytestmark = pytest.mark.usefixtures("small_corpus")


def interrupted(out: Path, number: int, stage: str) -> tuple[int, str]:
    """Exit code and last words of a run that gets a signal as a stage begins."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.run_all", *ARGS, "--out", str(out)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout:
            if line.startswith(stage):
                process.send_signal(number)
                break
        _, errors = process.communicate(timeout=60)
    return process.returncode, errors


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_an_interrupted_run_goes_on(how, tmp_path):
    out, number = tmp_path / "out", getattr(signal, how)
    code, errors = interrupted(out, number, "d32: round 1")
    if number == signal.SIGTERM:
        assert code == 128 + number
        assert "measuring ended (interrupted); finished and kept: d16. The same" in errors
    before = {row.name: row for row in Results.load(out / unfinished.UNFINISHED).of("d16")}
    assert [len(row.values) for row in before.values()] == [3, 3]
    assert main([*ARGS, "--out", str(out), "--resume"]) == 0
    results = Results.load(out)
    assert {row.name: row for row in results.of("d16")} == before  # round for round
    assert all(row.values for row in results.of("d32"))
    assert "after d16" in results.run["resumed"]
    assert "The run was interrupted, and went on at" in (out / "README.md").read_text("utf-8")
    assert not [file.name for file in out.iterdir() if "unfinished" in file.name]


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_what_a_probe_found_is_not_asked_again(tmp_path):
    out = tmp_path / "out"
    interrupted(out, signal.SIGKILL, "d32: loss after")
    before = Results.load(out / unfinished.UNFINISHED)
    assert [probe.workload for probe in before.probes] == ["d16"]
    assert main([*ARGS, "--out", str(out), "--resume"]) == 0
    results = Results.load(out)
    assert results.rows == before.rows
    assert results.probes[:1] == before.probes
    assert [probe.workload for probe in results.probes] == ["d16", "d32"]


def test_what_differs_is_said(tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise RuntimeError("no memory")

    monkeypatch.setattr("bench.measure.quality.run_quality", fail)
    args = ["--quick", "--workloads", "d16", "--variants", "scalar"]
    assert main(args) == 2
    capsys.readouterr()

    def refused(*more: str) -> str:
        assert main([*args, "--resume", *more]) == 2
        return capsys.readouterr().err

    assert "with another rows and workloads" in refused("--variants", "scalar,tape32")
    other = tmp_path / "other.txt"
    other.write_text(Path("corpus.txt").read_text(encoding="utf-8") + "anna\n", encoding="utf-8")
    assert "another corpus: 81 documents, corpus.txt, now 82" in refused("--corpus", str(other))
    Path("corpus.txt").write_text("b\n" * 81, encoding="utf-8")
    assert "another corpus (its checksum): " in refused()
    assert "there is nothing to go on with in elsewhere" in refused("--out", "elsewhere")
    extra = tmp_path / "more.py"
    extra.write_text("VARIANTS = []", encoding="utf-8")
    assert "another source (a checksum of" in refused("--extra", str(extra))
    monkeypatch.setattr("bench.measure.machine.cpu_model", lambda: "Another One")
    assert "another processor: " in refused()
