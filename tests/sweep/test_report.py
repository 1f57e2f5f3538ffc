"""What is made of the rows."""

from __future__ import annotations

import math

import pytest

from pymicrogpt import sweep
from pymicrogpt.sweep import Space
from pymicrogpt.sweep.report import table


def made_up(seed, width, curve, error=None):
    [settings] = Space.grid(seeds=[seed], n_embd=width).trials
    return {
        **{name: None for name in ("num_steps", "engine", "worker", "started", "ended")},
        "key": f"{seed} {width}",
        "settings": settings,
        "num_params": width * 100,
        "train_seconds": curve[-1][1] if curve else None,
        "held_out_loss": curve[-1][2] if curve else None,
        "curve": curve,
        "error": error,
    }


ROWS = [
    made_up(42, 16, [[1, 0.1, 3.0], [2, 0.2, 2.5]]),
    made_up(43, 16, [[1, 0.1, 3.2], [2, 0.2, 2.7]]),
    made_up(42, 32, [[1, 0.2, 2.9], [2, 0.4, 2.1]]),
    made_up(43, 32, [[1, 0.2, 2.9], [2, 0.5, 2.3]]),
    made_up(42, 64, [[1, 0.3, 2.0]]),
    made_up(43, 64, [], "MemoryError: too large"),
    made_up(42, 9, [], "ValueError: no"),
]


def test_ranking_is_by_the_mean_over_seeds():
    standings = sweep.ranking(ROWS)
    assert [s.settings["n_embd"] for s in standings] == [32, 16, 64]  # 64 lost a seed
    assert standings[0].loss == pytest.approx(2.2)
    assert standings[0].deviation == pytest.approx(math.sqrt(0.02))
    assert standings[0].seconds == pytest.approx(0.45)
    assert standings[0].rows[0]["key"] == "42 32"
    header, lines = table(ROWS)
    assert header == ["", "held-out loss", "±", "seconds", "parameters", "n_embd", "seeds"]
    assert lines[0] == ["1", "2.200", "0.1414", "0.45", "3,200", "32", "2"]
    assert lines[2][-1] == "1 of 2"


def test_pareto_front_is_what_no_other_point_beats():
    front = [(seconds, loss) for seconds, loss, _ in sweep.pareto_front(ROWS)]
    assert front == [(0.1, 3.0), (0.2, 2.5), (0.3, 2.0)]
    assert sweep.pareto_front([ROWS[-1]]) == []


def test_report_files(tmp_path):
    import csv

    files = sweep.write_report(ROWS, tmp_path)
    assert tmp_path / "results.csv" in files
    with open(tmp_path / "results.csv", newline="") as file:
        read = list(csv.DictReader(file))
    assert [r["key"] for r in read] == [r["key"] for r in ROWS]
    assert [r["held_out_loss"] for r in read] == ["2.5", "2.7", "2.1", "2.3", "2.0", "", ""]
    assert read[-1]["error"] == "ValueError: no"
    sweep.write_report([], tmp_path)  # nothing to show is no error
    sweep.write_report(ROWS[-1:], tmp_path)


def test_report_as_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pip install '.[sweep]'")
    sweep.write_report(ROWS, tmp_path)
    read = parquet.read_table(tmp_path / "results.parquet").to_pylist()
    assert [r["held_out_loss"] for r in read] == [r["held_out_loss"] for r in ROWS]
    assert read[0]["curve"][1] == {"step": 2, "seconds": 0.2, "held_out_loss": 2.5}


def test_report_as_picture():
    pytest.importorskip("matplotlib", reason="needs pip install '.[sweep]'")
    from pymicrogpt.sweep import report

    figure = report.draw(ROWS)
    curves, width = figure.axes
    front = next(line for line in curves.lines if line.get_drawstyle() == "steps-post")
    assert list(front.get_xdata()) == [0.1, 0.2, 0.3] and list(front.get_ydata()) == [3, 2.5, 2]
    assert curves.get_xlabel().startswith("seconds of training") and curves.get_xscale() == "log"
    assert width.get_xlabel() == "n_embd"
    losses, lowest = width.lines
    assert len(losses.get_xdata()) == 5
    assert dict(zip(lowest.get_xdata(), lowest.get_ydata(), strict=True)) == {
        16: 2.5,
        32: 2.1,
        64: 2,
    }
    assert "2.200 after 0.45 s" in figure.get_suptitle()
    assert report.as_png(ROWS).startswith(b"\x89PNG")
