"""What a training does, tells and leaves in its folder."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import get_golden

import pymicrogpt as mg
from pymicrogpt.cli import train
from pymicrogpt.cli.arguments import option
from pymicrogpt.storage.checkpoint import Checkpoint

from .command import NAMES, SMALL, command, events, process, weights

pytestmark = pytest.mark.usefixtures("folder")


def test_without_arguments_it_is_the_original(capsys, monkeypatch, tmp_path):
    golden = get_golden("d16")
    (tmp_path / "golden.txt").write_text("\n".join(golden.corpus.documents))
    monkeypatch.setenv("PYMICROGPT_CORPUS", str(tmp_path / "golden.txt"))
    steps = [] if golden.num_steps == 1000 else ["--max-steps", str(golden.num_steps)]
    assert command("train", *steps) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.removeprefix(f"sample {i:2d}: ") for i, line in enumerate(lines[-20:], 1)]
    assert names[: len(golden.samples)] == golden.samples
    assert mg.GPT.load("out").config == golden.config

    tape = ["--engine", "tape", "--out-dir", "tape", "--json", "--log-interval", "1"]
    assert command("train", *steps, *tape) == 0
    told = events(capsys.readouterr().out)
    losses = [event["loss"] for event in told if event["event"] == "progress"]
    np.testing.assert_allclose(losses, golden.losses, rtol=0, atol=1e-9)
    assert [event["text"] for event in told if event["event"] == "sample"][
        : len(golden.samples)
    ] == (golden.samples)


def test_options_reach_the_trainer(folder):
    (folder / "other.txt").write_text("abc\nbcd\ncde\n" * 4)
    options = {
        "n_layer": 2,
        "n_embd": 12,
        "n_head": 3,
        "block_size": 5,
        "batch_size": 4,
        "learning_rate": 0.02,
        "seed": 7,
        "engine": "tape",
    }
    args = [text for k, v in options.items() for text in (option(k), str(v))]
    assert command("train", "other.txt", "--max-steps", "9", *args) == 0
    shape = {k: options.pop(k) for k in ("n_layer", "n_embd", "n_head", "block_size")}
    trainer = mg.Trainer(
        mg.Corpus.from_file("other.txt"), mg.Config(**shape), num_steps=9, **options
    )
    trainer.run()
    model = mg.GPT.load("out")
    assert model.training["corpus"] == "other.txt"
    for name, array in trainer.model.parameters.items():
        assert model.parameters[name].tolist() == array.astype("f4").tolist()


def test_json_lines(capsys):
    assert command("train", *SMALL, "--max-steps", "20", "--eval-interval", "5", "--json") == 0
    start, *progress, end, one, two, three = events(capsys.readouterr().out)
    assert (start["event"], start["documents"], start["held_out"]) == ("start", 27, 3)
    assert [event["step"] for event in progress] == [5, 10, 15, 20]
    for event in progress:
        assert event["loss"] > 0 and event["val_loss"] > 0 and event["samples_per_second"] > 0
    assert progress[-1]["seconds_left"] == 0
    best = min(progress, key=lambda event: event["val_loss"])
    assert (end["reason"], end["step"]) == ("finished", 20)
    assert (end["best_step"], end["best_val_loss"]) == (best["step"], best["val_loss"])
    assert [event["number"] for event in (one, two, three)] == [1, 2, 3]


@pytest.mark.parametrize("n_embd", [8, 32])  # where nothing is skipped, and where units rest
def test_activity_of_the_last_step(n_embd, capsys):
    Path("many.txt").write_text("\n".join(mg.Corpus._embedded("for a test").documents))
    args = ["train", "many.txt", "--n-embd", str(n_embd), "--num-samples", "0", "--overwrite"]
    args += ["--max-steps", "600", "--eval-interval", "200"]
    corpus, _ = mg.Corpus.from_file("many.txt").split(0.1, seed=42)
    trainer = mg.Trainer(corpus, mg.Config(n_embd=n_embd), batch_size=1, num_steps=600)
    trainer.run()
    expected = trainer.activity and vars(trainer.activity)
    assert command(*args, "--json") == 0
    end = next(e for e in events(capsys.readouterr().out) if e["event"] == "end")
    assert end["activity"] == expected  # not of the evaluation, which comes after the step
    assert command(*args) == 0
    lines = capsys.readouterr().out.splitlines()
    after = lines.index(next(line for line in lines if line.startswith("finished at step 600"))) + 1
    if expected:
        values, units, resting = (100 * expected[name] for name in ("values", "units", "resting"))
        at_rest = f"; {resting:.0f} % of the units at rest" if n_embd > 16 else ""
        assert lines[after] == (
            f"hidden values not zero in the last step: {values:.1f} %, "
            f"in {units:.0f} % of the units{at_rest}"
        )
    assert command(*args, "--engine", "scalar", "--json") == 0
    end = next(e for e in events(capsys.readouterr().out) if e["event"] == "end")
    assert end["activity"] is None
    assert command(*args, "--engine", "scalar") == 0
    assert "hidden values" not in capsys.readouterr().out


def test_the_best_model_by_held_out_loss_is_kept(capsys):
    # One document to learn by heart, which makes the others less likely with every step.
    Path("few.txt").write_text("abcd\ndcba\n")
    args = ["train", "few.txt", *SMALL, "--eval-interval", "10", "--val-fraction", "0.5"]
    assert command(*args, "--max-steps", "300", "--patience", "5", "--json") == 0
    told = events(capsys.readouterr().out)
    progress = [event for event in told if event["event"] == "progress"]
    end = next(event for event in told if event["event"] == "end")
    losses = [event["val_loss"] for event in progress]
    assert end["reason"] == "patience"
    assert len(losses) == 1 + int(np.argmin(losses)) + 5
    assert end["best_val_loss"] == min(losses) < losses[-1]
    assert Checkpoint.load("out").step == end["step"] > end["best_step"]

    _, held_out = mg.Corpus.from_file("few.txt").split(0.5, seed=42)
    model = mg.GPT.load("out")
    ids = model.tokenizer.encode(held_out.documents[0])[:5]
    logits = model.logits(ids[:4])
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    loss = -np.mean(log_probabilities[np.arange(4), ids[1:]])
    assert loss == pytest.approx(end["best_val_loss"], rel=1e-5)  # float32
    assert command("train", "--resume") == 2
    assert "was ended by --patience 5 at step" in capsys.readouterr().err
    assert command("train", "--resume", "--n-embd", "4") == 2
    assert "was begun with --n-embd 8" in capsys.readouterr().err
    assert command("train", "--resume", "--patience", "7") == 0
    assert Checkpoint.load("out").step == end["step"] + 20


def test_running_text(capsys):
    Path("text.txt").write_text("To be,\nor not to be:\nthat is the question.\n" * 20)
    args = ["train", "text.txt", "--mode", "stream", "--max-steps", "200", "--eval-interval", "50"]
    assert command(*args, "--n-embd", "8", "--batch-size", "4") == 0
    assert "\n" in mg.GPT.load("out").tokenizer.alphabet
    capsys.readouterr()
    assert command("sample", "--num-samples", "2") == 0
    assert capsys.readouterr().out.count("---------------\n") == 2


def test_lines_that_the_context_has_no_room_for_are_told(capsys, monkeypatch):
    Path("long.txt").write_text("ab\n" + 15 * "a" + "\n" + 16 * "a" + "\n" + 40 * "b" + "\n")
    words = "of 2 documents only the beginning is learned; --block-size 41 has room for all"
    for large in (10**6, 1):  # the second time as one array of characters
        monkeypatch.setattr("pymicrogpt._text.LARGE", large)
        assert command("train", "long.txt", "--max-steps", "1", "--overwrite") == 0
        assert words in capsys.readouterr().out.splitlines()
    assert (
        command("train", "long.txt", "--block-size", "41", "--max-steps", "1", "--overwrite") == 0
    )
    assert "only the beginning" not in capsys.readouterr().out
    args = ["train", "long.txt", "--mode", "stream", "--block-size", "8", "--max-steps", "1"]
    assert command(*args, "--overwrite") == 0
    assert "only the beginning" not in capsys.readouterr().out


def test_where_the_text_lies_is_not_in_the_card(tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    cached = home / ".cache/pymicrogpt/names.txt"
    cached.parent.mkdir(parents=True)
    cached.write_text("\n".join(NAMES))
    monkeypatch.setenv("PYMICROGPT_CORPUS", str(cached))
    assert command("train", "--max-steps", "1", "--overwrite") == 0
    assert "- corpus: names.txt\n" in Path("out/README.md").read_text()
    assert command("sweep", "--max-steps", "1", "--seeds", "1") == 0
    assert str(home) not in Path("sweep/best/README.md").read_text()
    monkeypatch.delenv("PYMICROGPT_CORPUS")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("pymicrogpt._names.cache_file", lambda: cached)
    monkeypatch.setattr("pymicrogpt._names.read_cached", lambda file: file.read_bytes())
    assert command("train", "--max-steps", "1", "--overwrite") == 0
    card = Path("out/README.md").read_text().replace("\\", "")  # of Markdown
    assert "cached at ~/.cache/pymicrogpt/names.txt\n" in card


def test_plot():
    pytest.importorskip("matplotlib", reason="the figure needs matplotlib")
    args = [*SMALL, "--max-steps", "20"]
    assert command("train", *args, "--plot") == 0
    assert Path("out/loss.png").read_bytes().startswith(b"\x89PNG")
    Path("out/loss.png").unlink()
    assert command("train", *args, "--plot", "--eval-interval", "5", "--overwrite") == 0
    assert Path("out/loss.png").read_bytes().startswith(b"\x89PNG")


def test_the_plot_is_there_before_the_samples(monkeypatch):
    pytest.importorskip("matplotlib", reason="the figure needs matplotlib")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pymicrogpt.GPT.sample", interrupted)
    assert command("train", *SMALL, "--plot") == 130
    assert Path("out/loss.png").stat().st_size > 1000


def test_plot_without_matplotlib(capsys, monkeypatch):
    monkeypatch.setattr(train, "find_spec", lambda name: None)
    assert command("train", "--plot") == 2
    assert "pymicrogpt[plot]" in capsys.readouterr().err
    assert not Path("out").exists()


def test_divergence(capsys):
    assert command("train", *SMALL, "--learning-rate", "1e38") == 2
    err = capsys.readouterr().err
    assert "diverged" in err and "--learning-rate" in err and err.count("\n") == 1
    assert not Path("out/model.safetensors").exists()


ENGINES = [*(info.name for info in mg.engines() if not info.simd), "auto"]


@pytest.mark.parametrize(
    ("engine", "rate"), [("reference", "10"), *((engine, "1e38") for engine in ENGINES)]
)
def test_divergence_has_one_message(engine, rate, capsys):
    args = ["train", *SMALL, "--engine", engine, "--learning-rate", rate, "--max-steps", "60"]
    assert command(*args) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(
        r"pymicrogpt: the training diverged: the loss is -?(nan|inf) at step \d+; "
        r"a --learning-rate smaller than \S+ may help\n",
        err,
    )


def test_names_of_others_are_no_markup(capsys):
    name = "<b>x<b> _y_ [z](http:a) `q`.txt"
    Path(name).write_text("anna\nbert\n")
    assert command("train", name, *SMALL, "--max-steps", "5") == 0
    card = Path("out/README.md").read_text()
    assert r"- corpus: &lt;b&gt;x&lt;b&gt; \_y\_ \[z\]\(http:a\) \`q\`.txt" in card
    assert "<b>" not in card and mg.GPT.load("out").training["corpus"] == name


def test_standard_input_is_a_corpus(capsys, monkeypatch):
    text = "\n".join(NAMES)
    done = process("train", "-", *SMALL, "--max-steps", "50", stdin=subprocess.PIPE)
    out, err = done.communicate(text)
    assert (done.returncode, err) == (0, "") and out.startswith("standard input\n")
    assert command("train", *SMALL, "--max-steps", "50", "--out-dir", "file") == 0
    assert weights_of("out") == weights_of("file")
    monkeypatch.setattr(sys, "stdin", None)
    assert command("train", "-", "--out-dir", "other") == 2
    assert "standard input is closed" in capsys.readouterr().err


def weights_of(out_dir: str) -> dict[str, list]:
    return {name: array.tolist() for name, array in mg.GPT.load(out_dir).parameters.items()}


def test_nothing_but_json_is_written(capsys):
    assert command("train", *SMALL, "--max-steps", "5") == 0
    model = mg.GPT.load("out")
    before = weights("out")
    for value in (float("nan"), [float("inf")]):
        model.training["loss"] = value
        with pytest.raises(ValueError, match="training must be of JSON values"):
            model.save("out")
    assert weights("out") == before


def test_more_threads_than_cores_are_warned_of(capsys, monkeypatch):
    from pymicrogpt import engines

    monkeypatch.setattr(engines_module(), "available_cores", lambda: 1)
    assert callable(engines)
    assert command("train", *SMALL, "--max-steps", "5", "--threads", "2") == 0
    assert "warning: --threads 2 on 1 core: " in capsys.readouterr().err
    assert command("train", *SMALL, "--max-steps", "5", "--overwrite") == 0
    assert capsys.readouterr().err == ""


def engines_module():
    return sys.modules["pymicrogpt.engines"]


def test_dead_units_are_warned_of(capsys):
    Path("many.txt").write_text("\n".join(mg.Corpus._embedded("for a test").documents))
    args = ["train", "many.txt", "--n-embd", "64", "--batch-size", "16", "--num-samples", "0"]
    for rate, dead in (("0.01", True), ("0.001", False)):
        args = [*args[:8], "--max-steps", "1000", "--learning-rate", rate, "--out-dir", rate]
        assert command(*args) == 0
        out = capsys.readouterr().out
        engine = re.search(r"engine (\w+)", out)[1]
        simd = engine in ("avx512", "avx2", "neon", "sme")  # others count none
        assert ("hidden values" in out) == simd
        assert ("of the hidden units no longer take part" in out) == (dead and simd)
