"""Workloads of running text: the text, its truth, and the rows that train on it."""

from __future__ import annotations

import hashlib
from collections import Counter
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest
from synthetic import of_probes, of_rows

import pymicrogpt
from bench import run_all
from bench.command import Refused
from bench.measure import probes, quality
from bench.report.findings import roofline, scaling
from bench.run_all import new_row
from bench.task.task import Task, WrongResult
from bench.task.text import CHARACTERS, running_text, text_corpus
from bench.task.workload import RUNNING_TEXT, Workload
from bench.variants.sessions import EngineSession
from bench.variants.variant import load_variants

SMALL = Workload(
    "small", 16, n_layer=2, n_head=4, block_size=12, learning_rate=0.003, running_text=True
)


def test_text_is_the_same_everywhere_and_reads_like_the_sonnets():
    text = running_text()
    assert len(text) == CHARACTERS >= 500_000
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "19908d3b4f8d4ce805df19741d6ee2d76468cb7f1fbfca548d0b004ac9b37c44"
    assert running_text(1000, seed=43) != text[:1000] == running_text(1000)
    sonnets = files("pymicrogpt").joinpath("data", "sonnets.txt").read_text(encoding="utf-8")
    for width, least in ((1, 0.97), (2, 0.9)):  # characters, and pairs of them
        ours, theirs = (
            Counter(t[i : i + width] for i in range(len(t) - width + 1)) for t in (text, sonnets)
        )
        common = sum(min(n / len(sonnets), ours[c] / len(text)) for c, n in theirs.items())
        assert common > least
    assert len(set(text.split())) > 2 * len(set(sonnets.split()))
    corpus = text_corpus(64)
    assert "".join(corpus.documents) == text
    assert {len(document) for document in corpus.documents[:-1]} == {64}


@pytest.mark.parametrize("batch", [1, 3])
def test_truth_of_running_text_is_that_of_the_tape(batch, tmp_path):
    import pymicrogpt

    # The last block is shorter, and 8 blocks are less than the steps take.
    corpus = pymicrogpt.Corpus.from_text(running_text(90), SMALL.block_size)
    task = Task.prepare(SMALL, batch, corpus, tmp_path)
    tape = EngineSession("tape", task)
    loss, gradients = tape.verify()
    losses, _ = tape.run(20)
    task.check_gradients("float64", loss, gradients)
    task.check_losses("float64", 0, losses)
    assert len(task.losses) == 20
    assert not np.array_equal(task.gradients, gradients)  # computed in another way

    task.check_gradients("float32", loss, 1.005 * gradients)  # of a hidden value at the kink
    with pytest.raises(WrongResult, match=r"off by 2\.0e-02 relative, allowed is 1e-02"):
        task.check_gradients("float32", loss, 1.02 * gradients)


def test_rows_that_would_take_seconds_a_sample_say_so():
    variants = load_variants()
    for workload in RUNNING_TEXT.values():
        rows = [new_row(v, workload, workload.batch_size, "default") for v in variants.values()]
        skipped = {row.variant: row.reason for row in rows if row.status == "skipped"}
        assert {"cpython", "tape", "tape32", "scalar", "autovec"} <= set(skipped)
        assert set(skipped.values()) == {f"not run on {workload.name}: too slow to be of use"}
        trained = {v.name for v in variants.values() if workload.name in v.workloads}
        simd = {info.name for info in pymicrogpt.engines() if info.simd}
        assert simd | {"numpy", "torch-eager", "jax"} <= trained


def test_a_run_takes_text_in_its_blocks_at_its_batch_size_and_probes_documents_alone(
    tmp_path, monkeypatch
):
    prepared, probed, rows = [], [], []

    def prepare(workload, batch, corpus, folder):
        prepared.append((workload.name, batch, corpus.block_size))
        return SimpleNamespace(describe=dict)

    def run_quality(engine, variants, workloads, *_):
        probed.append(list(workloads))
        raise Refused("that is all")

    monkeypatch.setattr(Task, "prepare", prepare)
    monkeypatch.setattr(
        run_all, "run_workload", lambda found, *_: rows.extend(m.row.name for m in found)
    )
    monkeypatch.setattr(run_all, "best_engine", lambda variants: "autovec")
    monkeypatch.setattr(
        probes, "run_probes", lambda engine, tasks, *_: probed.append(list(tasks)) or []
    )
    monkeypatch.setattr(quality, "run_quality", run_quality)
    monkeypatch.setenv("PYMICROGPT_OFFLINE", "1")
    names = "nanogpt-cpu,d16,shakespeare"
    args = ["--workloads", names, "--variants", "autovec,numpy", "--out", str(tmp_path / "out")]
    assert run_all.main(args) == 2
    assert prepared == [
        ("d16", 1, None), ("d16", 16, None), ("nanogpt-cpu", 12, 64), ("shakespeare", 1, 256)
    ]  # fmt: skip
    assert rows == [
        "d16/b1/numpy", "d16/b16/numpy", "d16/b1/autovec", "d16/b16/autovec",
        "nanogpt-cpu/b12/numpy", "shakespeare/b1/numpy",
    ]  # fmt: skip
    assert probed == [["d16"], ["d16"]]


def test_figures_of_documents_leave_running_text_out():
    results = of_rows(workloads=("d16", "d64", "nanogpt-cpu"))
    lines = scaling.collect(results)
    assert {row.workload for line in lines for row in line} == {"d16", "d64"}
    assert "From n_embd 16 to 64" in scaling.title(results, [16, 64])
    results = of_probes(workloads=("d16", "nanogpt-cpu"))
    results.probes = [probe for probe in results.probes if probe.workload != "nanogpt-cpu"]
    assert {row.workload for row in roofline.collect(results)} == {"d16"}
