"""The commands of bench: what they refuse before any work, and what they keep where work fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import of_rows

from bench import __main__ as commands
from bench import run_all
from bench.command import Refused
from bench.guard import compare
from bench.measure import machine
from bench.report import write
from bench.results import Results

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ended(main, args: list[str], capsys) -> tuple[int, list[str]]:
    """Exit code, and the lines on standard error."""
    try:
        code = main(args)
    except SystemExit as stop:  # argparse
        code = stop.code
    return code, capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", [*commands.COMMANDS, ""])
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        commands.main([name, "--help"] if name else ["--help"])
    assert stop.value.code == 0
    assert f"usage: python -m bench {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("main", "args", "message"),
    [
        (run_all.main, ["--workloads", ""], "argument --workloads: names nothing"),
        (run_all.main, ["--variants", ","], "argument --variants: names nothing"),
        (commands.main, ["compare", "HEAD", "--engines", ""], "--engines: names nothing"),
        (commands.main, ["compare", "HEAD", "--batches", ""], "--batches: names nothing"),
        (commands.main, ["compare", "HEAD", "--fail", "nan"], "must be above 0, not 'nan'"),
        (commands.main, ["compare", "HEAD", "--seconds", "inf"], "must be above 0, not 'inf'"),
        (commands.main, ["repeatability", "a", "b", "--limit", "-1"], "must be above 0"),
        (commands.main, ["pareto", "nowhere"], "there is no report in nowhere"),
        (commands.main, ["report", "nowhere"], "No such file or directory: 'nowhere'"),
        (commands.main, ["instructions", "nowhere"], "nowhere"),
        (commands.main, ["nonsense"], "invalid choice: 'nonsense'"),
        (commands.main, [], "the following arguments are required: COMMAND"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(main, args, message, capsys):
    code, lines = ended(main, args, capsys)
    assert code == 2
    assert message in lines[-1]
    assert "Traceback" not in " ".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("VARIANTS = [\n1 +* 2]", "extra.py, line 2: invalid syntax"),
        ("1 / 0", "extra.py cannot be loaded: ZeroDivisionError: division by zero"),
        ("VARIANTS = 3", "extra.py has no list VARIANTS"),
        ("VARIANTS = [3]", "extra.py: VARIANTS holds one of type int, which is no Variant"),
    ],
)
def test_a_file_of_variants_that_is_none_is_one_line(text, message, capsys):
    Path("extra.py").write_text(text, encoding="utf-8")
    code, (line,) = ended(run_all.main, ["--list", "--extra", "extra.py"], capsys)
    assert code == 2
    assert line.endswith(message)


def test_a_label_moves_no_cursor(capsys):
    text = "from bench.variants.variant import Variant\n"
    text += "VARIANTS = [Variant('v', '\\x1b[2Jgone', 'other', lambda task: None)]"
    Path("extra.py").write_text(text, encoding="utf-8")
    code, (line,) = ended(run_all.main, ["--list", "--extra", "extra.py"], capsys)
    assert code == 2
    assert line.endswith(r"label must not be '\x1b[2Jgone'")


def no_work(*args, **kwargs):
    raise AssertionError("work was begun")


@pytest.mark.parametrize("out", ["file", "file/reports", "file/a/reports"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(out, monkeypatch, capsys):
    Path("file").touch()
    monkeypatch.setattr(run_all.machine, "describe", no_work)
    monkeypatch.setattr(compare, "build", no_work)
    code, (line,) = ended(run_all.main, ["--out", out], capsys)
    assert code == 2
    assert line.startswith("bench.run_all: --out ") and "file" in line
    inside = ["compare", "HEAD", "--markdown", f"{out}/table.md"]
    code, (line,) = ended(commands.main, inside, capsys)
    assert code == 2
    assert line.startswith("bench compare: --markdown ")
    assert [path.name for path in Path().iterdir()] == ["file"]


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_what_was_measured_is_kept_where_the_report_fails(error, tmp_path, monkeypatch):
    def fail(*args):
        raise error

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(write.tempfile, "tempdir", None)
    monkeypatch.setattr(write, "write", fail)
    results = of_rows(workloads=("d16",))
    with pytest.raises(Refused, match=r"no report was written to out \(.+\); the results") as found:
        write.write_or_keep(results, Path("out"))
    words = str(found.value).split()
    assert Results.load(Path(words[words.index("report", words.index("bench")) + 1])) == results


def test_what_rows_found_is_kept_where_a_later_stage_fails(tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise RuntimeError("no memory")

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("anna\nbea\nclara\n" * 30, encoding="utf-8")
    monkeypatch.setenv("PYMICROGPT_CORPUS", str(corpus))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(write.tempfile, "tempdir", None)
    monkeypatch.setattr(run_all.quality, "run_quality", fail)
    args = ["--quick", "--workloads", "d16", "--variants", "scalar", "--out", "out"]
    code, (line,) = ended(run_all.main, args, capsys)
    assert code == 2
    assert line.startswith("bench.run_all: measuring ended (no memory); finished and kept: d16.")
    file = Path("out/unfinished.json")
    assert f"python -m bench report {file} " in line
    assert [len(row.values) for row in Results.load(file).rows] == [3, 3]


def result_file(path: Path, change) -> Path:
    of_rows(workloads=("d16",)).save(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.clear(), "the file has no 'pymicrogpt'"),
        (lambda d: d["pymicrogpt"].pop("format"), "'pymicrogpt' has no 'format'"),
        (lambda d: d["pymicrogpt"].update(format=99), "its format is 99; known are 1 to 5"),
        (lambda d: d["pymicrogpt"].pop("rows"), "'pymicrogpt' has no 'rows'"),
        (lambda d: d["pymicrogpt"].update(run=[]), "'run' is no object"),
        (lambda d: d["pymicrogpt"]["run"].pop("date"), "'run' has no 'date'"),
        (
            lambda d: d["pymicrogpt"]["workloads"]["d16"].pop("n_embd"),
            "'workloads' has no 'n_embd'",
        ),
        (lambda d: d["pymicrogpt"]["rows"][3].pop("label"), "row 3 has no 'label'"),
        (lambda d: d["pymicrogpt"]["rows"][3].update(colour=1), "row 3 has an unknown 'colour'"),
        (lambda d: d["pymicrogpt"].update(probes=[{"name": "x"}]), "probe 0 has no 'workload'"),
        (lambda d: d.pop("benchmarks"), "the file has no 'benchmarks'"),
        (lambda d: d["pymicrogpt"]["run"].update(peak=float("nan")), "NaN is no number of JSON"),
        (
            lambda d: d["pymicrogpt"]["workloads"]["d16"].update(n_embd="x"),
            "must be a whole number",
        ),
    ],
)
def test_a_damaged_result_file_is_named_with_what_is_wrong(change, message, capsys):
    file = result_file(Path("damaged.json"), change)
    code, (line,) = ended(commands.main, ["report", str(file), "--out", "out"], capsys)
    assert code == 2
    assert "damaged.json" in line
    assert message in line
    assert not Path("out").exists()


def test_a_row_without_its_rounds_is_an_error_and_the_others_are_drawn():
    file = result_file(Path("r.json"), lambda data: data["benchmarks"].pop())
    rows = Results.load(file).rows
    assert [row.reason for row in rows if row.status == "error"] == [
        "its rounds are not in the result file"
    ]
    assert sum(row.ok for row in rows) > 10


def test_what_is_no_number_is_null():
    results = of_rows(workloads=("d16",))
    results.run["peak"] = float("inf")
    results.rows[0].loss = float("nan")
    results.save(Path("results.json"))
    text = Path("results.json").read_text(encoding="utf-8")
    assert "NaN" not in text and "Infinity" not in text
    loaded = Results.load(Path("results.json"))
    assert (loaded.run["peak"], loaded.rows[0].loss) == (None, None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_standard_output_is_one_line():
    command = [sys.executable, "-m", "bench.run_all", "--list"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr == f"bench.run_all: [Errno 28] {os.strerror(28)}\n"


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_keep_what_rows_found_and_are_the_exit_code(name, tmp_path, monkeypatch, capsys):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    def measure(args, variants, workloads, corpus, results):
        results.rows += of_rows(workloads=("d16",)).rows
        results.workloads |= of_rows(workloads=("d16",)).workloads
        for _ in range(3):
            signal.raise_signal(getattr(signal, name))

    monkeypatch.setenv("PYMICROGPT_OFFLINE", "1")
    monkeypatch.setattr(write.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(run_all, "measure", measure)
    code, (line,) = ended(run_all.main, ["--out", "out"], capsys)
    assert code == 128 + getattr(signal, name)
    assert line.startswith("bench.run_all: measuring ended (interrupted); finished and kept: no")
    assert Results.load(Path("out/unfinished.json")).rows
    assert before == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
@pytest.mark.parametrize("command", [["bench.run_all", "--list"], ["bench", "report"]])
def test_ctrl_c_while_modules_load_is_no_traceback(command, tmp_path):
    (tmp_path / "numpy.py").write_text("import time; print('now', flush=True); time.sleep(9)\n")
    loading = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert loading.stdout.readline() == "now\n"
    loading.send_signal(signal.SIGINT)
    assert loading.communicate() == ("", "")
    assert loading.returncode == -signal.SIGINT


@pytest.mark.parametrize(("fact", "words"), [("cpu_model_name", "CPU"), ("corpus", "corpus")])
def test_a_search_is_not_put_into_the_report_of_another(fact, words, tmp_path, monkeypatch, capsys):
    results = of_rows()
    corpus = tmp_path / "names.txt"
    corpus.write_text("ann\nbob\n")
    results.run |= machine.describe() | {"corpus": "2 documents, names.txt"}
    results.run[fact] = "another"
    results.save(tmp_path / "results.json")
    monkeypatch.setattr("bench.measure.pareto.run_pareto", None)
    assert commands.main(["pareto", str(tmp_path), "--corpus", str(corpus)]) == 2
    assert (
        f"the {words} of the report in {tmp_path} is another; here it is" in capsys.readouterr().err
    )


def test_tapes_at_batch_16_are_refused_before_anything_is_built(monkeypatch, capsys):
    monkeypatch.setattr("bench.guard.compare.build", None)
    assert commands.main(["compare", "HEAD", "--engines", "tape32", "--batches", "16"]) == 2
    assert "a tape runs batch 1 alone: --batches 1" in capsys.readouterr().err
