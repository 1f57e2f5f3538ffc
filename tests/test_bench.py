"""The benchmark harness: registry, command line, result file, figures, and rows that go wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from bench import published, report, tables
from bench.figures import draw_all, ladder, memory, scaling, speedup, style
from bench.results import Results, Round, Row
from bench.run_all import main, without_folders
from bench.runner import Effort, Measurement, Worker
from bench.task import Task, WrongResult, tolerance
from bench.variant import Variant, load_variants
from bench.worker import CheckedSession, peak_memory
from bench.workload import WORKLOADS

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _small_corpus(tmp_path, monkeypatch):
    """No network, whatever the test runs."""
    corpus = tmp_path / "corpus.txt"
    names = ("emma", "olivia", "ava", "isabella", "sophia", "mia", "charlotte", "amelia", "jo")
    corpus.write_text("".join(f"{a}{b}\n" for a in names for b in names), encoding="utf-8")
    monkeypatch.setenv("PYMICROGPT_CORPUS", str(corpus))
    monkeypatch.chdir(tmp_path)


def synthetic(workloads=("d16", "d64"), leave_out=(), wrong=(), more=0) -> Results:
    """A result as of a run on a machine without NEON, with numbers of the right size.

    `more` rows have a group that no other has.
    """
    at_16 = {
        "cpython": 171_000, "cpython-nogc": 88_000, "pypy": 30_100, "rust-tape": 104,
        "tape": 114, "tape32": 97, "scalar": 35, "autovec": 8, "avx2": 5.2, "avx512": 4.9,
        "avx2-nosparsity": 6, "avx512-nosparsity": 5.5, "avx2-plain": 7.5,
        "avx512-plain": 7, "numpy": 23, "torch-eager": 70,
        "torch-compile": 35, "jax": 15,
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
            for batch in variant.batches:
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
    }
    return Results(about, described, rows, published.PUBLISHED, published.SOURCE)


def run_bench(*args: str) -> tuple[int, Results | None]:
    """Exit code and result of a short run into ./out."""
    code = main(["--quick", "--workloads", "d16", "--out", "out", *args])
    return code, Results.load(Path("out/results.json")) if code < 2 else None


# Registry


def test_every_implementation_of_the_design_has_a_variant():
    expected = {"cpython", "cpython-nogc", "pypy", "tape", "tape32", "rust-tape", "scalar"}
    expected |= {
        "autovec",
        "avx2",
        "avx512",
        "neon",
        "numpy",
        "torch-eager",
        "torch-compile",
        "jax",
    }
    variants = load_variants()
    assert expected <= set(variants)
    for name, variant in variants.items():
        assert variant.name == name
        assert variant.variation_of in {"", *variants}
        reason = variant.available()
        assert reason is None or len(reason) > 10
    autograd = [v for v in variants.values() if v.group in ("pure Python", "autograd tape")]
    assert all(variant.batches == (1,) for variant in autograd)


def test_labels_tell_rows_apart():
    labels = [variant.label for variant in load_variants().values()]
    assert len(set(labels)) == len(labels)


def test_flops_of_a_step_counted_by_hand():
    # One document of 2 positions, C = 16, V = 5: 12 * 256 + 5 * 16 = 3152 weights, each in one
    # multiply and add forward and two backward; attention to 1 and 2 keys, 2 * 2 * 16 each.
    flops = WORKLOADS["d16"].flops(np.array([0, 3]), vocab_size=5)
    assert flops == 6 * 2 * 3152 + 3 * (4 * 16 * 1 + 4 * 16 * 2)


# Command line


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--variants", "nonsense"], "no variant 'nonsense'; there are cpython,"),
        (["--workloads", "d17"], "no workload 'd17'; there are d16,"),
        (["--out", "corpus.txt"], "--out corpus.txt is not a directory"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no list VARIANTS"),
        ("from bench.variants.pypy import VARIANTS", "there is a variant pypy already"),
    ],
)
def test_bad_variant_files_are_named(text, message, capsys):
    Path("extra.py").write_text(text, encoding="utf-8")
    assert main(["--list", "--extra", "extra.py"]) == 2
    assert message in capsys.readouterr().err


def test_list_names_every_variant(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(load_variants())


def test_report_tells_no_folders():
    assert without_folders("/home/me/data/names.txt") == "names.txt"
    assert without_folders("names.txt, cached at /a/b.txt") == "names.txt, cached at b.txt"
    url = "embedded given names (download of https://a.b/c/d.txt failed)"
    assert without_folders(url) == url


# Result file and report


def test_results_survive_the_file_and_pyperf_reads_it(tmp_path):
    pyperf = pytest.importorskip("pyperf")
    results = synthetic()
    file = tmp_path / "results.json"
    results.save(file)
    assert Results.load(file) == results

    suite = pyperf.BenchmarkSuite.load(str(file))
    row = results.find("d64", "avx512", 16)
    benchmark = suite.get_benchmark("d64/b16/avx512")
    assert benchmark.get_values() == tuple(row.values)
    assert benchmark.get_metadata()["cpu_model_name"] == results.run["cpu_model_name"]
    assert len(suite.get_benchmarks()) == sum(row.ok for row in results.rows)
    for command in (["stats", str(file)], ["compare_to", str(file), str(file)]):
        subprocess.run([sys.executable, "-m", "pyperf", *command], check=True, capture_output=True)


def test_a_run_without_any_figure_is_a_result_too(tmp_path):
    results = synthetic(leave_out=set(load_variants()))
    report.write(results, tmp_path / "out")
    assert Results.load(tmp_path / "out" / "results.json") == results
    assert not list((tmp_path / "out").glob("*.png"))


@pytest.mark.parametrize("text", ["", "{}", '{"benchmarks": [], "pymicrogpt": {"format": 99}}'])
def test_other_files_are_not_results(text, tmp_path):
    file = tmp_path / "results.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"results\.json is not a result file"):
        Results.load(file)


def test_report_has_each_row_reason_and_published_figure(tmp_path):
    results = synthetic(leave_out={"pypy"})
    stale = tmp_path / "speedup_d128.png"
    stale.touch()
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    report.write(results, tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for row in results.rows:
        assert f"| {row.label} | {row.batch} |" in text
    assert "unavailable: this CPU has none; buy another one" in text
    assert re.search(r"\| EEmicroGPT, SME2 \|.*\| 36.8 \|.*published elsewhere", text)
    assert "| 171,000 |" not in text.replace("174,000", "")  # the median, not the minimum
    for name in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (tmp_path / name).stat().st_size > 10_000
    assert not stale.exists()
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_without_cpython_there_is_no_speedup(tmp_path):
    results = synthetic(leave_out={"cpython"})
    assert all(results.speedup(row) is None for row in results.rows if row.ok)
    assert "No speed-up: CPython was not measured" in report.text_table(results, "d16")
    assert "ladder_d16.png" not in [figure.name for figure in draw_all(results, tmp_path)]


def test_the_report_says_what_each_row_was_timed_over(tmp_path):
    results = synthetic(workloads=("d16",))
    results.find("d16", "scalar", 16).coverage = 0.128
    report.write(results, tmp_path)
    words = {"cpython": "slices, ", "scalar": "first 128 of 1,000 steps, ", "tape": ""}
    for name in ("README.md", "index.html"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "timed over whole trainings of 1,000 steps from initialisation, since a" in text
    for name, batch in (("cpython", 1), ("scalar", 16), ("tape", 1)):
        row = results.find("d16", name, batch)
        found = f"{words[name]}3 rounds, interval of 75 %"
        assert tables.note(results, row) == f"{style.WARNING} {found}"
        assert f"| {style.WARNING} {found} |" in (tmp_path / "README.md").read_text("utf-8")


def test_rows_of_older_files_do_not_claim_whole_trainings(tmp_path):
    file = tmp_path / "results.json"
    synthetic(workloads=("d16",)).save(file)
    data = json.loads(file.read_text(encoding="utf-8"))
    data["pymicrogpt"]["format"] = 2
    for row in data["pymicrogpt"]["rows"]:
        del row["steady"], row["coverage"]
    file.write_text(json.dumps(data), encoding="utf-8")
    results = Results.load(file)
    assert tables.note(results, results.find("d16", "avx2", 16)).startswith(
        f"{style.WARNING} slices"
    )


def test_a_variation_explains_the_fastest_row_and_is_not_it():
    results = synthetic(workloads=("d16",))
    row = results.find("d16", "avx512-nosparsity", 16)
    row.values = [value / 2 for value in row.values]  # by chance, where nothing is skipped
    assert results.fastest("d16").name == "d16/b16/avx512"
    ((_, figure),) = speedup.draw(results)
    assert "AVX-512 at batch 16 is" in figure._suptitle.get_text().replace("\n", " ")
    compared = [c for c in tables.comparisons(results, "d16") if " over " in c.what]
    assert compared
    assert not [c for c in compared if c.row.variation_of or c.other.variation_of]


# Figures


def legend_texts(axes):
    return axes.get_legend().get_texts() if axes.get_legend() else []


def shown_texts(figure):
    axes = figure.axes[0]
    texts = [figure._suptitle, figure._supxlabel, *axes.texts, *legend_texts(axes)]
    for axis, at in ((axes.xaxis, 0), (axes.yaxis, 1)):
        low, high = sorted(axis.get_view_interval())
        labels = axis.get_ticklabels()  # of ticks outside of the view, too
        texts += [label for label in labels if low <= label.get_position()[at] <= high]
    return [text for text in texts if text.get_text()]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"workloads": tuple(WORKLOADS)},
        {"workloads": ("d16",), "more": 14},
        {"leave_out": ("cpython", "avx512")},
        {"workloads": ("d256",), "wrong": set(load_variants()) - {"tape"}},
    ],
)
@pytest.mark.parametrize("narrow", [False, True], ids=["wide", "narrow"])
def test_no_label_is_clipped_or_covers_another(settings, narrow):
    from matplotlib.text import Text  # without the arrow that an annotation adds

    results = synthetic(**settings)
    for draw in (speedup.draw, ladder.draw, scaling.draw, memory.draw):
        with style.layout(narrow):
            drawn = list(draw(results))
        for name, figure in drawn:
            figure.draw_without_rendering()
            boxes = {text: Text.get_window_extent(text) for text in shown_texts(figure)}
            page = figure.bbox
            for text, box in boxes.items():
                inside = page.x0 <= box.x0 and box.x1 <= page.x1
                inside = inside and page.y0 <= box.y0 and box.y1 <= page.y1
                assert inside, f"{name}: {text.get_text()!r} is clipped"
            for (a, box_a), (b, box_b) in combinations(boxes.items(), 2):
                assert not box_a.overlaps(box_b), f"{name}: {a.get_text()!r} on {b.get_text()!r}"


def test_titles_say_what_was_found():
    results = synthetic()
    best = results.find("d16", "avx512", 16)
    ((_, figure), *_) = speedup.draw(results)
    factor = style.digits(results.speedup(best).value)
    assert f"AVX-512 at batch 16 is {factor}" in figure._suptitle.get_text().replace("\n", " ")


def test_rungs_multiply_to_the_whole_speedup():
    results = synthetic(leave_out={"pypy"})
    steps = ladder.rungs(results, "d16")
    assert [rung.row.variant for rung in steps] == [
        "cpython", "cpython-nogc", "tape", "scalar", "autovec", "avx512-nosparsity", "avx512-plain",
        "avx512-nosparsity", "avx512",
    ]  # fmt: skip
    assert [rung.row.batch for rung in steps[-4:]] == [1, 16, 16, 16]
    fewer = ladder.rungs(synthetic(leave_out={"avx512-plain"}), "d16")
    assert [rung.tick for rung in fewer][-2:] == ["SIMD\nintrinsics", "batch\nof 16"]
    assert [(rung.row.variant, rung.row.batch) for rung in fewer][-2:] == [
        ("avx512", 1), ("avx512", 16),
    ]  # fmt: skip


def test_spread_keeps_order_and_distance():
    placed = scaling.spread([0.0, 0.1, 0.2, 5.0, 9.99], gap=1.0, low=0.0, high=10.0)
    assert all(b - a >= 1.0 - 1e-12 for a, b in pairwise(placed))
    assert placed[0] >= 0.0
    assert placed[-1] <= 10.0


# What is held against the truth


@pytest.fixture
def task(tmp_path) -> Task:
    import pymicrogpt

    return Task.prepare(WORKLOADS["d16"], 1, pymicrogpt.Corpus.load(), tmp_path)


def test_task_survives_its_file(task):
    loaded = Task.load(task.file)
    assert loaded.problem.exists()
    for name in ("tokens", "offsets", "parameters", "losses", "gradients"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(task, name))


def test_what_is_not_the_truth_is_wrong(task):
    losses = task.losses.tolist()
    for dtype in ("float32", "float64"):
        task.check_gradients(dtype, losses[0], task.gradients)
        task.check_losses(dtype, 0, [*losses, 2.0, 3.0])
        for step in (0, 1, len(losses) - 1):
            bad = losses.copy()
            bad[step] *= 1 + 2 * tolerance(dtype, step, 16)
            with pytest.raises(WrongResult, match=f"loss of step {step + 1} is"):
                task.check_losses(dtype, 0, bad)
            with pytest.raises(WrongResult, match=f"loss of step {step + 1} is"):
                task.check_losses(dtype, step, bad[step:])
        with pytest.raises(WrongResult, match="loss of step 1 is"):
            task.check_gradients(dtype, float("nan"), task.gradients)
        bad = task.gradients.copy()
        bad[-1024:] *= 1 + 2e-5
        with pytest.raises(WrongResult, match=r"gradient of layer0\.mlp_fc2 is off by 2\.0e-05"):
            task.check_gradients(dtype, losses[0], bad)
    with pytest.raises(WrongResult, match="not finite"):
        task.check_losses("float32", 500, [2.0, float("inf")])
    with pytest.raises(WrongResult, match="gradients instead of"):
        task.check_gradients("float32", losses[0], task.gradients[1:])


# Whole runs

BROKEN = """
import os, sys, time
from dataclasses import replace
from bench.session import EngineSession
from bench.variant import Variant

class Broken(EngineSession):
    def __init__(self, how, task):
        self.how = how
        if how == "optimizer":
            workload = replace(task.workload, learning_rate=0.0101)
            task = replace(task, workload=workload)
        super().__init__("tape32", task)
        print("a variant may print")
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
        return losses, seconds

def variant(how):
    warmup = 0.0 if how == "late" else 0.3
    return Variant(how, how, "other", lambda task: Broken(how, task), batches=(1,), timeout=8.0,
                   warmup=warmup, steady=not warmup)

VARIANTS = [variant(how) for how in
            "optimizer gradients crash exit hang raise late nan short healthy".split()]
"""


def test_what_goes_wrong_is_a_row_with_a_reason_and_no_number():
    Path("broken.py").write_text(BROKEN, encoding="utf-8")
    names = "optimizer,gradients,crash,exit,hang,raise,late,nan,short,healthy,tape"
    code, results = run_bench("--extra", "broken.py", "--variants", names)
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
    }
    for name, reason in reasons.items():
        assert rows[name].status == "error"
        assert re.fullmatch(reason, rows[name].reason), rows[name].reason
        assert not rows[name].values
        assert f"error: {rows[name].reason}" in Path("out/README.md").read_text(encoding="utf-8")
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


def test_a_run_over_more_than_a_training_stays_right(task):
    session = CheckedSession(load_variants()["tape32"], task)
    assert session.run(990)["loss_last_step"] == 990
    reply = session.run(30)  # 10 steps end the training, and 20 are held against the truth again
    assert (reply["steps"], reply["loss_first_step"], reply["loss_last_step"]) == (30, 951, 1000)
    assert session.step == 20
    assert reply["positions"] == task.positions(990, 10) + task.positions(0, 20)


def test_a_restart_is_untimed_and_trains_the_same_steps_again(task):
    session = CheckedSession(load_variants()["tape32"], task)
    assert session.run(60)["loss_last_step"] == 60
    losses = list(session.losses)
    session.restart()
    reply = session.run(60)
    assert session.losses == losses
    assert (reply["loss_first_step"], reply["loss_last_step"]) == (11, 60)
    assert reply["positions"] == task.positions(0, 60)


def test_a_worker_starts_again_or_goes_on(task):
    job = json.dumps({"variant": "tape32", "task": str(task.file), "extra": []})
    worker = Worker([sys.executable, "-m", "bench.worker", job], 60.0)
    try:
        worker.receive()
        replies = [worker.ask(request) for request in ("restart 60", "restart 60", 60)]
    finally:
        worker.kill()
    assert [reply["loss_last_step"] for reply in replies] == [60, 60, 120]
    assert replies[0]["loss"] == replies[1]["loss"]


class Scripted:
    """A worker whose steps take a time each, and who remembers what was asked for."""

    def __init__(self, seconds):
        self.seconds, self.asked = seconds, []

    def ask(self, request):
        self.asked.append(request)
        steps = int(str(request).split()[-1])
        shape = {"loss": 2.0, "loss_first_step": 1, "loss_last_step": steps}
        counts = {"steps": steps, "documents": steps, "positions": 7 * steps}
        return {"seconds": steps * self.seconds, **counts, **shape}


@pytest.mark.parametrize(
    ("seconds", "steady", "asked", "rounds", "coverage"),
    [
        (1e-5, False, "restart 50000", 3, 1.0),  # whole trainings, as many as fill a round
        (1e-3, False, "restart 1000", 3, 1.0),  # one is longer than a round
        (1.5e-3, False, "restart 1000", 2, 1.0),  # of which the budget has two
        (4e-3, False, "restart 256", 3, 0.256),  # the budget has none: its first steps
        (4e-3, True, 125, 3, 0.125),  # goes on, whatever the training
        (1e-1, True, 8, 3, 0.008),
    ],
)
def test_rounds_are_whole_trainings_from_initialisation(
    seconds, steady, asked, rounds, coverage, task
):
    variant = Variant("v", "v", "other", lambda task: None, steady=steady)
    row = Row("v", "v", "other", "d16", 1, steady=steady)
    effort = Effort(rounds=3, round_seconds=0.5, budget=3.2)
    measurement = Measurement(row, variant, task, effort, [])
    measurement.worker = Scripted(seconds)
    measurement._calibrate({"steps": 10, "seconds": 10 * seconds})
    for _ in range(effort.rounds):
        measurement.measure()
    assert measurement.worker.asked == [asked] * rounds
    assert row.coverage == coverage
    assert row.values == pytest.approx([seconds / 7 * measurement.mean_positions] * rounds)


def test_a_variant_without_a_warm_up_must_be_steady():
    Variant("v", "v", "other", lambda task: None, warmup=0.0, steady=True)
    with pytest.raises(ValueError, match="without a warm-up it must be steady"):
        Variant("v", "v", "other", lambda task: None, warmup=0.0)


def test_rows_without_sparsity_train_the_same_to_the_last_bit(tmp_path):
    import pymicrogpt

    engine = next((e.name for e in pymicrogpt.engines() if e.available and e.lanes > 1), None)
    if engine not in ("avx2", "avx512", "neon"):
        pytest.skip("no SIMD engine runs here")
    task = Task.prepare(WORKLOADS["d32"], 16, pymicrogpt.Corpus.load(), tmp_path)
    variants = load_variants()
    names = (engine, f"{engine}-nosparsity", f"{engine}-plain")
    losses = [variants[name].open(task).run(100)[0] for name in names]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]  # other sums
    np.testing.assert_allclose(losses[0][:5], losses[2][:5], rtol=1e-4)
    options = [variants[name].open.keywords for name in names]
    assert options[0] == {}
    assert options[1] == {"skip_zeros": False}
    assert options[2] == {"skip_zeros": False, "prefix_sharing": False}


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
        assert value == pytest.approx(r.seconds / r.positions * mean)
    assert 8 * 4192 < row.engine_memory < 10_000_000
    assert base.engine_memory == 0
    if Path("/proc/stat").exists():
        for r in row.rounds:
            assert set(r.activity) == {"steal_percent", "busy_cores", "load_avg_1min"}
            assert 0.5 < r.activity["busy_cores"] <= os.cpu_count()
        assert {"steal_percent", "load_avg_1min", "load_avg_1min_after"} <= set(results.run)
        assert base.peak_memory > 5_000_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_peak_memory_is_that_of_the_program_and_not_of_its_parent():
    ballast = np.ones(25_000_000)  # 200 MB; getrusage of the child would count them
    command = [sys.executable, "-c", "print(flush=True); input()"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as child:
        child.stdout.readline()  # it has begun
        assert 1_000_000 < peak_memory(child.pid) < 100_000_000
        child.communicate(b"\n")
    assert peak_memory(os.getpid()) > ballast.nbytes


def old_report(folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    files = {name: name.encode() for name in ("README.md", "results.json", "speedup_d16.png")}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return files


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
    assert "the report that was there is as it was" in errors
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert sorted(tmp_path.iterdir()) == listing
    if Path("/proc").is_dir():
        commands = [file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline")
                    if file.exists()]  # fmt: skip
        assert not [c for c in commands if str(tmp_path).encode() in c]


def test_a_figure_that_cannot_be_drawn_leaves_the_old_report_whole(tmp_path, monkeypatch):
    before = old_report(tmp_path / "out")

    def fail(results):
        raise RuntimeError("no ink")

    monkeypatch.setattr(scaling, "draw", fail)
    with pytest.raises(RuntimeError, match="no ink"):
        report.write(synthetic(), tmp_path / "out")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == before
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".out")] == []


def test_result_file_is_strict_json(tmp_path):
    synthetic().save(tmp_path / "results.json")

    def refuse(name):
        raise AssertionError(name)

    json.loads((tmp_path / "results.json").read_text(encoding="utf-8"), parse_constant=refuse)
