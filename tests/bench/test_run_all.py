"""The command that measures: its arguments, whole runs, and rows that go wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic import of_rows, old_report

from bench import run_all
from bench.measure.machine import corpus_facts, without_folders
from bench.results import Results
from bench.run_all import main
from bench.task.task import Task
from bench.task.workload import WORKLOADS
from bench.variants.variant import load_variants
from pymicrogpt import Corpus

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("small_corpus")


def run_bench(*args: str) -> tuple[int, Results | None]:
    """Exit code and result of a short run into ./out."""
    code = main(["--quick", "--workloads", "d16", "--out", "out", *args])
    return code, Results.load(Path("out/results.json")) if code < 2 else None


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--variants", "nonsense"], "no variant 'nonsense'; there are cpython,"),
        (["--workloads", "d17"], "no workload 'd17'; there are d16,"),
        (["--out", "corpus.txt"], "corpus.txt is not a directory"),
        (["--corpus", "missing.txt"], "missing.txt"),
        (["--extra", "missing.py"], "missing.py"),
        (["--quick", "--full"], "not allowed with"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_bad_arguments_are_named(args, message, capsys):
    try:
        code = main(args)
    except SystemExit as stop:  # argparse
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_list_names_every_variant(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(load_variants())


def test_the_embedded_corpus_is_named_and_why_it_is_told_apart():
    source = "embedded given names (download of https://a.b/c.txt failed: [Errno 2] (no))"
    assert corpus_facts(Corpus(("ann", "bob"), source)) == {
        "corpus": "2 documents, embedded given names",
        "corpus_reason": "download of https://a.b/c.txt failed: [Errno 2] (no)",
    }
    assert corpus_facts(Corpus(("ann",), "/a/names (1).txt")) == {
        "corpus": "1 documents, names (1).txt"
    }


def test_report_tells_no_folders():
    assert without_folders("/home/me/data/names.txt") == "names.txt"
    assert without_folders("names.txt, cached at /a/b.txt") == "names.txt, cached at b.txt"
    url = "embedded given names (download of https://a.b/c/d.txt failed)"
    assert without_folders(url) == url


BROKEN = """
import os, sys, time
from dataclasses import replace
from bench.variants.sessions import EngineSession
from bench.variants.variant import Variant

class Broken(EngineSession):
    def __init__(self, how, task):
        self.how = how
        if how == "optimizer":
            workload = replace(task.workload, learning_rate=0.0101)
            task = replace(task, workload=workload)
        super().__init__("tape32", task)
        print("a variant may print")
        if how == "info":
            self.info = {"compiler": ["a", "list"]}
    @property
    def nbytes(self):
        return "many" if self.how == "nbytes" else super().nbytes
    def verify(self):
        loss, gradients = super().verify()
        if self.how == "gradients":
            gradients[::7] *= 1.001
        return loss, gradients
    def run(self, steps):
        losses, seconds = super().run(steps)
        if self.how == "late" and self.core.step > 1:
            raise RuntimeError("in the second round")
        if self.how == "crash":
            os.abort()
        if self.how == "exit":
            sys.stderr.write("so long\\n"); sys.stderr.flush(); os._exit(3)
        if self.how == "hang":
            time.sleep(60)
        if self.how == "raise":
            raise RuntimeError("two\\nlines")
        if self.how == "nan":
            losses[-1] = float("nan")
        if self.how == "short":
            losses = losses[1:]
        if self.how == "clock":
            seconds = -seconds
        if self.how == "garbage":  # wherever the answers go
            for descriptor in range(3, 20):
                try:
                    os.write(descriptor, b"garbage\\n")
                except OSError:
                    pass
        if self.how == "words":
            raise RuntimeError("\\udc80")
        return losses, seconds

def variant(how):
    warmup = 0.0 if how == "late" else 0.3
    return Variant(how, how, "other", lambda task: Broken(how, task), batches=(1,), timeout=8.0,
                   warmup=warmup, steady=not warmup)

VARIANTS = [variant(how) for how in
            "optimizer gradients crash exit hang raise late nan short healthy "
            "clock garbage info nbytes words".split()]
"""


def test_what_goes_wrong_is_a_row_with_a_reason_and_no_number():
    Path("broken.py").write_text(BROKEN, encoding="utf-8")
    # Comes after the others, and fails in their processes alone.
    worse = "import sys\nVARIANTS = []\nif 'bench.run_all' not in sys.modules: sys.exit(9)\n"
    Path("worse.py").write_text(worse, encoding="utf-8")
    names = "optimizer,gradients,crash,exit,hang,raise,late,nan,short,clock,garbage,info,nbytes"
    names += ",words,healthy,tape"
    code, results = run_bench("--extra", "broken.py", "--extra", "worse.py", "--variants", names)
    assert code == 1
    rows = {row.variant: row for row in results.rows}
    reasons = {
        "optimizer": r"wrong: loss of step 2 is .* instead of .*",
        "gradients": r"wrong: gradient of wte is off by .*",
        "crash": r"its process ended with signal SIGABRT.*",
        "exit": r"its process ended with exit code 3: so long",
        "hang": r"no answer within 8 s",
        "raise": r"RuntimeError: two lines",
        "late": r"RuntimeError: in the second round",
        "nan": r"wrong: loss of step 1 is nan.*",
        "short": r"wrong: 0 losses for 1 steps",
        "clock": r"wrong: 1 steps in -.* s",
        "garbage": r"its answer is not one, but 'garbage\\n'",
        "info": r"TypeError: the info of its session must be texts by name",
        "nbytes": r"TypeError: 'str' object cannot be interpreted as an integer",
        "words": r"RuntimeError: \\udc80",
    }
    for name, reason in reasons.items():
        assert rows[name].status == "error"
        assert re.fullmatch(reason, rows[name].reason), rows[name].reason
        assert not rows[name].values
        if name not in ("garbage", "words"):  # which are escaped
            shown = Path("out/README.md").read_text(encoding="utf-8")
            assert f"error: {rows[name].reason}" in shown
    for name in ("healthy", "tape"):
        assert rows[name].ok
        assert len(rows[name].values) == 3


def test_the_variant_of_the_documentation_works():
    text = (ROOT / "docs" / "adding-a-variant.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples[0].splitlines()) <= 20
    Path("added.py").write_text(examples[0], encoding="utf-8")
    Path("program.py").write_text(examples[1], encoding="utf-8")
    code, results = run_bench(
        "--extra", "added.py", "--extra", "program.py",
        "--variants", "scalar,scalar-nosharing,zig-tape",
    )  # fmt: skip
    assert code == 0
    rows = {row.name: row for row in results.rows}
    assert rows["d16/b16/scalar-nosharing"].ok
    assert rows["d16/b1/zig-tape"].status == "unavailable"


def test_the_truth_is_computed_for_rows_that_run_here_alone(monkeypatch):
    Path("extra.py").write_text(
        "from bench.variants.variant import Variant\n"
        "VARIANTS = [Variant('v', 'v', 'other', print, lambda: 'it is not here', batches=(512,))]",
        encoding="utf-8",
    )
    asked, prepare = [], Task.prepare

    def remembered(workload, batch, *rest):
        asked.append(batch)
        return prepare(workload, batch, *rest)

    monkeypatch.setattr(Task, "prepare", remembered)
    code, _ = run_bench("--variants", "tape32,v", "--extra", "extra.py")
    assert code == 0
    assert set(asked) == {1}


def test_cpython_and_engines_in_one_run():
    code, results = run_bench("--variants", "cpython,cpython-nogc,tape,autovec")
    assert code == 0
    assert all(row.ok for row in results.rows)
    for row in results.rows:
        assert row.steady == row.variant.startswith("cpython")
        if not row.steady:
            assert row.coverage == 1.0
            assert all(r.steps % 1000 == 0 and r.steps for r in row.rounds)
            assert (row.loss_first_step, row.loss_last_step) == (951, 1000)
    base = results.baseline("d16")
    assert results.speedup(base).value == 1.0
    assert results.speedup(results.find("d16", "autovec", 16)).low > 10
    row = results.find("d16", "tape", 1)
    mean = results.workloads["d16"]["mean_positions"]
    for value, r in zip(row.values, row.rounds, strict=True):
        assert value == pytest.approx(r.seconds / r.positions * mean, rel=1e-5)  # six digits
    for row in results.rows:
        assert row.cold_start > 0
        assert all(0 < r.activity["clock_ghz"] < 10 for r in row.rounds)
    row = results.find("d16", "tape", 1)
    assert 8 * 4192 < row.engine_memory < 10_000_000
    assert base.engine_memory == 0
    if Path("/proc/stat").exists():
        for r in row.rounds:
            assert {"steal_percent", "busy_cores"} <= set(r.activity)
            assert 0.5 < r.activity["busy_cores"] <= os.cpu_count()
        assert {"steal_percent", "load_avg_1min", "load_avg_1min_after"} <= set(results.run)
        assert base.peak_memory > 5_000_000


def test_by_default_what_is_slow_runs_on_two_sizes_alone():
    args, variants = run_all.parse([]), load_variants()
    args.few = run_all.FEW
    results = of_rows(workloads=("d16",))
    found = {row.name: row for row in results.rows}
    found["d16/b1/tape"].values = [1.5e-3] * 3
    found["d16/b1/scalar"].status, found["d16/b1/scalar"].reason = "skipped", "2 ms a sample"
    found["d16/b1/numpy"].cold_start, found["d16/b16/numpy"].cold_start = 30.0, 20.0
    found["d16/b1/autovec"].cold_start, found["d16/b16/autovec"].cold_start = 30.0, 2.0
    d32 = {row.name: row for row in run_all.new_rows(args, variants, WORKLOADS["d32"], results)}
    assert not any(variants[row.variant].variation_of for row in d32.values())
    reasons = {
        "d32/b1/cpython": "over a millisecond a sample",
        "d32/b1/tape": "1.5 ms a sample",
        "d32/b1/scalar": "2 ms a sample",
        "d32/b1/numpy": "20 s to start",  # the faster start of the two
        "d32/b16/numpy": "20 s to start",
    }
    for name, reason in reasons.items():
        assert d32[name].status == "skipped", name
        assert d32[name].reason.startswith(reason), d32[name].reason
    assert all(d32[name].ok for name in ("d32/b16/scalar", "d32/b1/autovec", "d32/b1/tape32"))
    d64 = run_all.new_rows(args, variants, WORKLOADS["d64"], results)
    assert all(row.ok or row.status == "unavailable" for row in d64)
    args.few = ()  # --full, or --workloads
    d32 = {row.name: row for row in run_all.new_rows(args, variants, WORKLOADS["d32"], results)}
    assert d32["d32/b1/tape"].ok and d32["d32/b1/cpython"].ok


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_ctrl_c_leaves_the_old_report_whole_and_no_process(tmp_path):
    out = tmp_path / "out"
    before = old_report(out)
    listing = sorted(tmp_path.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.run_all", "--workloads", "d16", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has its children ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stdout:
        if "verifying" in line:
            break
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "bench.run_all: interrupted; what was there before is as it was" in errors
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert sorted(tmp_path.iterdir()) == listing
    if Path("/proc").is_dir():
        commands = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline")
                    if file.exists()]  # fmt: skip
        assert not [c for c in commands if str(tmp_path).encode() in c]
