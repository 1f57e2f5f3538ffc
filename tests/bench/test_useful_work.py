"""The figure of useful work against width and context."""

from __future__ import annotations

import numpy as np
from synthetic import of_rows

from bench.report.format import per_cent
from bench.report.part import all_parts
from bench.report.write import write
from bench.task.workload import WORKLOADS


def test_useful_work_is_drawn_where_contexts_differ_and_counted_by_hand(tmp_path):
    results = of_rows(workloads=("d64", "shakespeare"))
    facts = results.workloads["shakespeare"]
    offsets = np.array([0, 258, 516])  # 256 characters, and BOS on both sides
    facts["flops_per_sample"] = WORKLOADS["shakespeare"].flops(offsets, vocab_size=57)
    # 6 * positions * (12 L C^2 + V C), and attention's share: 6 L B T^2 C, but for the diagonal.
    by_hand = 6 * 256 * (12 * 6 * 384**2 + 57 * 384) + 6 * 6 * 256 * 257 * 384
    assert facts["flops_per_sample"] == by_hand
    row = results.find("shakespeare", "avx512", 1)
    (part,) = (part for part in all_parts(results) if part.heading == "Width and context")
    share = per_cent(by_hand / row.microseconds * 1e-3 / 238)
    (line,) = (line for line in part.tables[0] if line[0] == "shakespeare")
    assert line[:5] == ("shakespeare", "384", "256", "1", "AVX-512")
    assert line[6] == share
    assert line[7] == "JAX, jit of the whole loop"
    peer = results.find("shakespeare", "jax", 1)
    assert line[8] == per_cent(by_hand / peer.microseconds * 1e-3 / 238)
    (drawing,) = part.drawings
    title = drawing.wide.title
    assert title.startswith(f"At a context of 256, shakespeare does the useful work of {share} of")
    points = [line for line in drawing.wide.figure.axes[1].lines if line.get_marker() == "o"]
    assert sorted(float(point.get_xdata()[0]) for point in points) == [16, 16, 256]

    same = of_rows(workloads=("d16", "d64"))
    assert "Width and context" not in {part.heading for part in all_parts(same)}
    write(results, tmp_path)
    assert (tmp_path / "useful_work.png").stat().st_size > 5_000
    assert not (tmp_path / "scaling.png").exists()  # one width of documents
