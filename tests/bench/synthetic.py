"""Results as of a run, with numbers of the right size: of rows, of probes, of trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from bench import published
from bench.measure import pareto, probes
from bench.results import Probe, Results, Round, Row, as_written
from bench.task.workload import WORKLOADS
from bench.variants import gpu
from bench.variants.variant import load_variants

BUDGET = 1.0


def of_rows(workloads=("d16", "d64"), leave_out=(), wrong=(), more=0) -> Results:
    """A result as of a run on a machine without NEON, with numbers of the right size.

    `more` rows have a group that no other has.
    """
    at_16 = {
        "cpython": 171_000, "cpython-nogc": 88_000, "pypy": 30_100, "rust-tape": 104,
        "tape": 114, "tape32": 97, "scalar": 35, "autovec": 8, "avx2": 5.2, "avx512": 4.9,
        "avx2-nosparsity": 6, "avx512-nosparsity": 5.5, "avx2-plain": 7.5,
        "avx512-plain": 7, "numpy": 23, "torch-eager": 70,
        "torch-compile": 35, "jax": 15, "numba": 33, "wasm-scalar": 80, "wasm-simd": 14,
    }  # fmt: skip
    rows, described = [], {}
    for workload in map(WORKLOADS.get, workloads):
        width = workload.n_embd / 16
        described[workload.name] = {
            **workload.describe(),
            "num_params": 4192,
            "mean_positions": 7.1,
            "flops_per_sample": 1.6e5 * width**2,
        }
        for variant in load_variants().values():
            for batch in variant.batches_on(workload):
                row = Row(
                    variant.name,
                    variant.label,
                    variant.group,
                    workload.name,
                    batch,
                    variant.variation_of,
                    variant.steady,
                )
                rows.append(row)
                if variant.name not in at_16 or variant.name in leave_out:
                    row.status, row.reason = "unavailable", "this CPU has none; buy another one"
                    continue
                if workload.running_text and workload.name not in variant.workloads:
                    row.status, row.reason = "skipped", "too slow to be of use"
                    continue
                if variant.name in wrong:
                    row.status, row.reason = "error", f"wrong: {variant.name} {'is off ' * 30}"
                    continue
                micro = at_16[variant.name] * width**1.7 / (2 if batch > 1 else 1)
                row.peak_memory = 40_000_000 + 10_000 * len(rows)
                row.engine_memory = 0 if "py" in variant.name else 700_000
                row.values = [micro * 1e-6 * noise for noise in (1.0, 1.02, 1.1)]
                row.rounds = [Round(value * 100, 50, 100, 713) for value in row.values]
                row.loss, row.loss_first_step, row.loss_last_step = 2.34, 951, 1000
                row.info = {"isa": "AVX\nand more", "compiler": ""}
    for i in range(more):
        row = replace(rows[-1], status="ok", reason="", variant=f"more{i}", loss=2.34)
        row.label, row.group, row.batch = f"A library of arrays, {i}", "other", 16 if i % 2 else 1
        row.values = [1e-4 * 0.8**i * noise for noise in (1.0, 1.3, 0.9)]
        row.rounds = [Round(1.0, 1, 1, 7)] * 3
        rows.append(row)
    about = {
        "cpu_model_name": "A Processor With A Rather Long Name @ 3.70GHz",
        "cpu_count": 2,
        "pymicrogpt_version": "0.1.0",
        "commit": "abc1234",
        "date": "2025-01-31 12:00:00",
        "corpus": "32,033 documents, names.txt",
        "build_flags": "one\ntwo",
        "peak_avx512_gfma_flops": 238.0,
        "peak_avx2_gfma_flops": 119.0,
    }
    results = Results(about, described, rows, published.PUBLISHED, published.SOURCE)
    results.variants = {
        name: {"label": v.label, "about": v.about, "source": v.source}
        for name, v in load_variants().items()
    }
    return rounded(results)


def rounded(results: Results) -> Results:
    """With the digits that a result file has."""
    results.workloads = as_written(results.workloads)
    for row in results.rows:
        row.values = as_written(row.values)
        for r in row.rounds:
            r.seconds = as_written(r.seconds)
    for probe in results.probes:
        probe.cases = as_written(probe.cases)
    return results


def with_gpu(results: Results) -> Results:
    """With its rows on a GPU measured, at all of their batch sizes."""
    others = [row for row in results.rows if row.variant not in ("torch-gpu", "jax-gpu")]
    found = {(r.workload, r.variant): r for r in results.rows if r not in others}
    results.rows = others
    for (workload, variant), row in found.items():
        for batch in gpu.BATCHES:
            microseconds = {"torch-gpu": 90, "jax-gpu": 40}[variant] / batch
            microseconds += 0.01 * (results.workloads[workload]["n_embd"] / 16) ** 1.5
            values = [microseconds * 1e-6 * noise for noise in (1.0, 1.02, 1.1)]
            rounds = [Round(v * 100, 50, 100, 713, {"clock_ghz": 2.5}) for v in values]
            results.rows.append(
                replace(
                    row, batch=batch, status="ok", reason="", values=values, rounds=rounds,
                    loss=2.3, loss_first_step=951, loss_last_step=1000, peak_memory=10**9,
                    launch_floor=8e-6, info={"gpu": "A GPU With A Name 80GB"},
                )
            )  # fmt: skip
    return rounded(results)


def of_probes(workloads=("d16", "d64")) -> Results:
    """A result whose probes have numbers of the right size."""
    noise = (1.0, 1.02, 1.1)
    widths = sorted({16, 32, 64, 128, *(WORKLOADS[name].n_embd for name in workloads)})
    described, rows, found = {}, [], []

    def probe(name, workload, cases):
        found.append(Probe(name, workload, "avx512", "AVX-512", cases=cases))

    for workload in map(WORKLOADS.get, workloads):
        width = workload.n_embd / 16
        described[workload.name] = {
            **workload.describe(),
            "num_params": round(3072 * width**2 + 1120 * width),
            "vocab_size": 27,
            "mean_positions": 7.1,
            "flops_per_sample": 1.5e5 * width**1.95,
        }
        micro = {1: 2.0 * width**1.6, 16: 0.9 * width**1.8}
        for size, value in micro.items():
            row = Row("avx512", "AVX-512", "SIMD", workload.name, size, loss=2.3)
            row.values, row.rounds = [value * 1e-6], [Round(0.1, 10, 160, 1140)]
            rows.append(row)
        names = ("batch and trie", "QKV", "embedding backward with Adam")
        probe("phases", workload.name, [
            {"batch": b, "phases": {name: [micro[b] * b * share * 1e-6 * x for x in noise]
             for name, share in zip(names, (0.05, 0.25, 0.7), strict=True)}}
            for b in (1, 16)
        ])  # fmt: skip
        probe("batch", workload.name, [
            {"batch": 2**i, "sharing": on, **({"rows_left": 1 - i / 20} if on else {}),
             "seconds": [micro[1] * 1e-6 * 0.8**i * (1 if on else 1 + i / 20) * x for x in noise]}
            for i in range(9) for on in (True, False)
        ])  # fmt: skip
        probe("threads", workload.name, [
            {"batch": b, "one": [micro[16] * 1e-6 * x for x in noise],
             "two": [micro[16] * 1e-6 / gain * x for x in (1.0, 1.1, 1.1)]}
            for b, gain in ((16, width**0.3), (256, 1.7))
        ])  # fmt: skip
    steps = [1, 5, 10, *range(25, 1001, 25)]
    probe("density", "", [
        {"n_embd": c, "batch": b, "learning_rate": rate, "steps": steps,
         "values": [max(0.5 * s**-gone, 0.4 / c) for s in steps],
         "units": [max(s**-gone, 0.8 / c) for s in steps], "resting": [s / 2000 for s in steps]}
        for c, b, rate, gone in [*((c, b, 0.01, c**0.5 / 20) for b in (16, 1) for c in widths),
                                 (64, 16, 0.003, 0.1), (64, 16, 0.001, 0.01)]
    ])  # fmt: skip
    probe("shapes", "", [
        {"n_layer": 1, "n_embd": c, "n_head": 4, "block_size": 16, "vocab_size": 27,
         "documents": "of the corpus", "flops_per_sample": 600 * c**2, "seconds": [c**2 * 3e-9]}
        for c in probes.WIDTHS
    ])  # fmt: skip
    about = {
        "cpu_model_name": "A Processor With A Rather Long Name @ 3.70GHz",
        "pymicrogpt_version": "0.1.0",
        "date": "2025-01-31 12:00:00",
        "corpus": "32,033 documents, names.txt",
        "peak_avx512_gfma_flops": 238.0,
        "peak_avx512_gl1_bytes": 440.0,
        "peak_avx512_gl2_bytes": 220.0,
        "peak_gflops": 238.0,
    }
    return rounded(Results(about, described, rows, {}, "", found))


def of_trainings(workloads=("d16", "d64")) -> Results:
    probes = []
    for workload in workloads:
        cases = []
        for i, variant in enumerate(load_variants().values()):
            for batch in variant.batches:
                if variant.variation_of:
                    continue
                points = [
                    {"seconds": s, "steps": round(9 * s), "train": 2.3, "held_out": 3.3 - 3 * s / i}
                    for s in np.geomspace(BUDGET / 500, BUDGET, 9).tolist()
                ] if i else []  # fmt: skip
                case = {"variant": variant.name, "label": variant.label, "group": variant.group}
                reason = "" if points else "it is broken"
                cases.append(case | {"batch": batch, "budget": BUDGET, "points": points,
                                     "reason": reason})  # fmt: skip
        probes.append(Probe("quality", workload, "avx512", "avx512", cases=cases))
    grid = [
        {"n_layer": 1, "n_embd": width, "block_size": 16, "batch": batch, "learning_rate": rate,
         "budget": budget, "steps": 1234, "seconds": budget * (1 + width / 1000),
         "held_out": None if rate > 0.02 and width > 100 else
         3 - 0.3 * budget**0.3 - width / 2000 + 10 * abs(rate - 0.01) / batch}
        for width in (16, 32, 64, 128) for batch in (1, 4, 16, 64) for rate in (0.003, 0.01, 0.03)
        for budget in pareto.TRIALS
    ]  # fmt: skip
    probes.append(Probe("pareto", "", "avx512", "AVX-512", cases=grid))
    about = {
        "cpu_model_name": "A Processor With A Rather Long Name @ 3.70GHz",
        "pymicrogpt_version": "0.1.0",
        "date": "2025-01-31 12:00:00",
        "corpus": "32,033 documents, names.txt",
    }
    described = {
        name: {**WORKLOADS[name].describe(), "num_params": 4192, "mean_positions": 7.1,
               "flops_per_sample": 1e5} for name in workloads
    }  # fmt: skip
    return rounded(Results(about, described, [], {}, "", probes))


def old_report(folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    files = {name: name.encode() for name in ("README.md", "results.json", "speedup_d16.png")}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return files
