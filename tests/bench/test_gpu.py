"""Rows on a GPU: where they run, what their time has in it, and how the report shows them. Their
sessions run here on the CPU."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from synthetic import of_probes, of_rows, with_gpu
from test_report import drawings, no_label_is_clipped_or_covers_another

from bench.measure.effort import EFFORTS
from bench.measure.process import Worker
from bench.measure.rows import Measurement
from bench.report.findings import costs, ladder, memory, speedup
from bench.report.findings import gpu as finding
from bench.report.write import write
from bench.results import Results, Row
from bench.task.task import Task
from bench.task.workload import WORKLOADS
from bench.variants import gpu
from bench.variants.variant import Variant, load_variants

ROW = Variant("v", "v", "other", lambda task: None)
FAILS, WORKS = "raise SystemExit(3)", "pass"
AS_GPU = """
import time
from pkgutil import resolve_name
from bench.variants.variant import Variant

def opened(library, task):
    session = resolve_name(f"bench.variants.{library}.model:GpuSession")

    class OnCpu(session):
        device = platform = "cpu"

        def load(self):
            super().load()
            time.sleep(0.5)

    return OnCpu(task)

VARIANTS = [
    Variant(f"{name}-as-gpu", name, "other", lambda task, name=name: opened(name, task))
    for name in ("torch", "jax")
]
"""


@pytest.fixture
def corpus():
    import pymicrogpt

    names = ("emma", "olivia", "ava", "isabella", "sophia", "mia", "charlotte", "amelia", "jo")
    return pymicrogpt.Corpus.from_documents([a + b for a in names for b in names])


@pytest.mark.parametrize(
    ("installed", "driver", "program", "reason"),
    [
        (False, True, WORKS, "no v; pip install v"),
        (True, False, WORKS, "no GPU: there is no driver of NVIDIA"),
        (True, True, FAILS, "v sees none"),
        (True, True, WORKS, None),
    ],
)
def test_a_row_says_what_it_lacks(installed, driver, program, reason, monkeypatch):
    monkeypatch.setattr(gpu, "has_driver", lambda: driver)
    row = replace(ROW, available=lambda: None if installed else "no v; pip install v")
    found = gpu.on_gpu(row, program, "v sees none")
    assert found.available() == reason
    assert found.batches == ((1, 16, 256, 4096) if driver else (1,))


def test_no_library_is_asked_where_there_is_no_driver(monkeypatch):
    monkeypatch.setattr(gpu, "has_driver", lambda: False)
    monkeypatch.setattr(gpu, "succeeds", lambda program: pytest.fail("it was asked"))
    for name in ("torch-gpu", "jax-gpu"):
        assert load_variants()[name].available()
    assert load_variants()["jax-gpu"].label == "JAX, GPU"


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_what_runs_on_a_gpu_is_right_and_its_time_has_the_transfer(
    library, corpus, tmp_path, monkeypatch
):
    pytest.importorskip(library)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")  # sessions choose for themselves
    file = tmp_path / "as_gpu.py"
    file.write_text(AS_GPU, encoding="utf-8")
    task = Task.prepare(WORKLOADS["d16"], 32, corpus, tmp_path)
    name = f"{library}-as-gpu"
    variant = replace(ROW, name=name, timeout=300.0)
    row = Row(name, library, "other", "d16", 32)
    measurement = Measurement(row, variant, task, EFFORTS["quick"], [str(file)])
    job = {"variant": name, "task": str(task.file), "extra": [str(file)]}
    with Worker(["-m", "bench.measure.checked"], job, timeout=300.0) as worker:
        assert worker.wait()["info"]["gpu"] == "cpu"
        reply = worker.ask(steps=20)
        assert reply["loss"] == pytest.approx(task.losses[:20].mean(), rel=0.02)
        assert reply["seconds"] > 0.5  # that load() sleeps
        again = worker.ask(steps=20, restart=True)
        assert again["loss"] == pytest.approx(reply["loss"], rel=1e-3)
        measurement.worker = worker
        measurement.finish()
    assert row.ok, row.reason
    assert 0 < row.launch_floor < reply["seconds"]


def test_a_launch_floor_is_the_time_of_one_launch():
    calls = []
    seconds = gpu.launch_floor(lambda: calls.append(sum(range(3000))))
    assert len(calls) == 1.1 * gpu.LAUNCHES
    fast = gpu.launch_floor(lambda: None)
    assert 0 < fast < seconds


@pytest.fixture
def results() -> Results:
    found = with_gpu(of_rows())
    found.probes = [probe for probe in of_probes().probes if probe.name == "batch"]
    found.run["peak_gflops"] = 238.0
    return found


def test_the_report_has_the_rows_with_their_launch_floor(results, tmp_path):
    write(results, tmp_path)
    assert Results.load(tmp_path / "results.json") == results
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| PyTorch, GPU, batch (\d+) \| d64 \| A GPU With .*", text, re.M)
    assert lines == ["1", "16", "256", "4096"]
    row = results.find("d64", "torch-gpu", 16)
    core = results.find("d64", "avx512", 16)
    rows = [row for row in results.rows if row.on_gpu]
    table = {line[:2]: line for line in finding.table(results, rows)}
    assert table[row.title, "d64"][5:7] == ("8.00 µs", "0.5 µs")
    assert table[row.title, "d64"][9] == core.label
    title = drawings(results)["gpu"].wide.title
    ahead = "d64: JAX, GPU beats one core from batch 16 on"
    assert title == f"{ahead}; at batch 4096 it takes 0.092 µs per sample"
    lines = finding.collect(results, rows)
    *gpus, core = (line for line in lines if line.workload == "d64")
    fast = replace(core, found={16: gpus[-1].found[4096]})
    assert "JAX, GPU is behind one core at batch 16; at batch 4096" in finding.title([*gpus, fast])
    then = replace(core, found={16: core.found[16], 256: gpus[-1].found[4096]})
    assert "JAX, GPU is behind one core at batch 256; at" in finding.title([*gpus, then])
    assert finding.title(gpus).startswith("d64: JAX, GPU: at batch 4096 it takes")


def test_nothing_of_the_cpu_is_said_of_a_gpu(results):
    row = results.find("d64", "jax-gpu", 4096)
    lines = speedup.table(results, "d64")
    cells = next(line for line in lines if line[:2] == ("JAX, GPU", "4096"))
    of_peak = lines[0].index("of peak")
    assert cells[of_peak] == ""
    assert all(line[of_peak] for line in lines if line[0] == "AVX-512")
    assert costs.cycles(row) is None
    assert not [r for r in memory.collect(results) if r.on_gpu]
    assert not [line for line in memory.table(results) if "GPU" in line[0]]
    compared = ladder.pairs(results, "d64")
    assert compared
    assert not [pair for pair in compared if pair.row.on_gpu or pair.other.on_gpu]
    assert not results.fastest("d64").on_gpu  # which all others are held against


def test_without_a_gpu_there_is_no_section():
    assert not list(finding.parts(of_rows()))
    one = with_gpu(of_rows())
    one.rows = [row for row in one.rows if not row.on_gpu or row.batch == 1]
    (part,) = finding.parts(one)
    assert not part.drawings
    assert len(part.tables[0]) == 5


@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_labels_of_all_figures_have_room(results, narrow):
    no_label_is_clipped_or_covers_another(results, narrow)
