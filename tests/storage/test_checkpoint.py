"""Checkpoints: a training that stops and goes on is one that never stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from conftest import ENGINES, SIMD
from hypothesis import given, settings
from hypothesis import strategies as st

import pymicrogpt as mg
from pymicrogpt.storage.checkpoint import SLOTS, Checkpoint

NAMES = ["anna", "bert", "carla", "dora", "emil", "fritz", "gerda", "heinz", "ann", "berta"]
CORPUS = mg.Corpus.from_documents(NAMES)
CONFIG = mg.Config(n_layer=2, n_embd=12, n_head=3, block_size=5)
# Settings whose factors 1 - beta are no powers of two, small ones among them.
SETTINGS = {"batch_size": 3, "num_steps": 12, "beta1": 0.9, "beta2": 0.9999, "seed": 7}


def make(engine="scalar", corpus=CORPUS, config=None, **changes) -> mg.Trainer:
    if config is None:  # the reference is slow
        config = mg.Config(n_embd=4, n_head=2, block_size=3) if engine == "reference" else CONFIG
    return mg.Trainer(corpus, config, engine=engine, **{**SETTINGS, **changes})


def state(trainer: mg.Trainer) -> dict[str, bytes]:
    return {slot: trainer._engine.get(slot).tobytes() for slot in SLOTS}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("k", [0, 1, 5, 12])
def test_goes_on_to_the_bit(tmp_path, engine, k):
    through, first = make(engine), make(engine)
    before = through.run(k)
    assert first.run(k).tobytes() == before.tobytes()
    assert first.model.sample(2) == through.model.sample(2)
    first.notes["seen"] = ["é\ud800", 3, None]
    first.save(tmp_path)
    assert os.listdir(tmp_path) == ["checkpoint.safetensors"]

    second = mg.Trainer.resume(str(tmp_path), CORPUS)
    assert (second.engine, second.step, second.notes) == (engine, k, first.notes)
    assert second.documents == first.documents
    assert second.run().tobytes() == through.run().tobytes()
    assert state(second) == state(through)
    assert second.model.sample(4) == through.model.sample(4)


@pytest.mark.parametrize("engine", ENGINES)
def test_saved_again_is_the_same_file(tmp_path, engine):
    trainer = make(engine)
    trainer.run(4)
    trainer.save(tmp_path / "a")
    mg.Trainer.resume(tmp_path / "a", CORPUS).save(tmp_path / "b")
    a, b = (tmp_path / name / "checkpoint.safetensors" for name in "ab")
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("engine", SIMD)
def test_on_other_numbers_of_threads(tmp_path, engine):
    through = make(engine)
    through.run()
    first = make(engine, threads=2)
    first.run(5)
    first.save(tmp_path)
    for threads, expected in ((None, 2), (1, 1)):
        second = mg.Trainer.resume(tmp_path, CORPUS, threads=threads)
        assert second.threads == expected
        second.run()
        assert state(second) == state(through)
    make(engine, threads="auto").save(tmp_path)
    assert Checkpoint.load(tmp_path).settings["threads"] == "auto"


@pytest.mark.parametrize("n_embd, batch_size, threads", [(32, 1, 1), (48, 5, 2)])
@pytest.mark.parametrize("engine", SIMD)
def test_with_units_at_rest(tmp_path, engine, n_embd, batch_size, threads):
    """What a unit at rest has still to catch up with is in the checkpoint, whether zeros are
    skipped or not."""
    corpus = mg.Corpus._embedded("for a test")  # units rest where there is more than can be learnt
    config = mg.Config(n_layer=2, n_embd=n_embd)
    settings = {"batch_size": batch_size, "num_steps": 600, "beta2": 0.99, "threads": threads}
    through = make(engine, corpus, config, skip_zeros=False, **settings)
    losses = through.run()
    for skip_zeros in (True, False):
        first = make(engine, corpus, config, skip_zeros=skip_zeros, **settings)
        assert first.run(400).tobytes() == losses[:400].tobytes()
        assert (first.activity.resting > 0.0) == skip_zeros
        first.save(tmp_path)
        second = mg.Trainer.resume(tmp_path, corpus)
        assert second.skip_zeros == skip_zeros
        for trainer in (first, second):
            assert trainer.run().tobytes() == losses[400:].tobytes()
            assert state(trainer) == state(through)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "tape"])
def test_in_another_engine(tmp_path, engine):
    first = make(engine)
    through = make("tape", config=first.config)
    losses = through.run()
    first.run(6)
    first.save(tmp_path)
    second = mg.Trainer.resume(tmp_path, CORPUS, engine="tape")
    assert second.engine == "tape"
    # Twelve steps from equal parameters: float32 has left traces, the same training goes on.
    np.testing.assert_allclose(second.run(), losses[6:], rtol=1e-4)


def test_settings_go_on(tmp_path):
    changes = {"learning_rate": 0.03, "eps": 1e-7, "seed": 3}
    changes |= {"prefix_sharing": False, "skip_zeros": False}
    make(**changes).save(tmp_path)
    trainer = mg.Trainer.resume(tmp_path, CORPUS)
    for name, value in {**SETTINGS, **changes}.items():
        assert getattr(trainer, name) == value
    assert trainer.config == CONFIG


def test_describes_itself(tmp_path):
    trainer = make("tape")
    trainer.run(5)
    trainer.save(tmp_path)
    saved = Checkpoint.load(tmp_path)
    assert (saved.step, saved.next_document, saved.num_documents) == (5, 5, 10)
    assert (saved.engine, saved.source) == ("tape", "documents in memory")
    tensors = safetensors.numpy.load_file(tmp_path / "checkpoint.safetensors")
    for name, array in trainer.model.parameters.items():
        assert tensors[name].tobytes() == array.tobytes()
        assert tensors[f"first_moment.{name}"].shape == array.shape
        assert (tensors[f"second_moment.{name}"] >= 0).all()


@pytest.mark.parametrize("engine", ["scalar", "tape", "reference"])
def test_diverged_training_leaves_the_last_checkpoint(tmp_path, engine):
    trainer = make(engine)
    trainer.run(2)
    trainer.save(tmp_path)
    values = trainer._engine.get("parameter")
    values[7] = np.nan
    trainer._engine.set("parameter", values)
    with pytest.raises(mg.WeightsError, match=r"checkpoint\.safetensors: tensor wte holds NaN"):
        trainer.save(tmp_path)
    assert mg.Trainer.resume(tmp_path, CORPUS).step == 2


# What is refused


@pytest.mark.parametrize(
    "documents",
    [NAMES[:-1], [*NAMES, "max"], [*NAMES[1:], NAMES[0]], [*NAMES[:-1], "bert"]],
    ids=["fewer", "alphabet", "order", "one other"],
)
def test_another_corpus(tmp_path, documents):
    make().save(tmp_path)
    corpus = mg.Corpus.from_documents(documents)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors was trained on another corpus"):
        mg.Trainer.resume(tmp_path, corpus)
    with pytest.raises(TypeError, match="corpus must be a Corpus"):
        mg.Trainer.resume(tmp_path, documents)


def rewrite(directory, change, training=None):
    """A checkpoint whose parts fit each other, and were changed."""
    from pymicrogpt.storage.weights import open_tensors, write_tensors

    path = directory / "checkpoint.safetensors"
    tensors = safetensors.numpy.load_file(path)
    with open_tensors(path) as file:
        description = {k: v for k, v in file.description.items() if k != "sha256"}
    change(tensors, description)
    write_tensors(path, tensors, description)


def test_a_checkpoint_from_before_a_setting(tmp_path):
    first = make()
    first.run(5)
    first.save(tmp_path)
    rewrite(tmp_path, lambda _, d: d["training"]["settings"].pop("skip_zeros"))
    second = mg.Trainer.resume(tmp_path, CORPUS)
    assert second.skip_zeros is True
    assert second.run().tobytes() == first.run().tobytes()
    assert state(second) == state(first)


def test_an_engine_that_is_not_here(tmp_path):
    make().save(tmp_path)
    rewrite(tmp_path, lambda _, d: d["training"].update(engine="avx1024"))
    with pytest.raises(ValueError, match=r"'avx1024' is unknown; .*engine must name another"):
        mg.Trainer.resume(tmp_path, CORPUS)
    assert mg.Trainer.resume(tmp_path, CORPUS, engine="tape").engine == "tape"
    with pytest.raises(ValueError, match="engine 'x' is unknown"):
        mg.Trainer.resume(tmp_path, CORPUS, engine="x")


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t, d: t.pop("first_moment.wte"), r"tensor first_moment\.wte is missing"),
        (lambda t, d: t.update(x=np.zeros(3)), "tensor 'x' is not part of this model"),
        (lambda t, d: t.update(wpe=t["wpe"][1:]), r"tensor wpe must have shape \(5, 12\)"),
        (lambda t, d: d["training"].pop("step"), "step"),
        (lambda t, d: d["training"].update(step=13), "step must be at most 12"),
        (lambda t, d: d["training"].update(step="1"), "step must be an integer"),
        (lambda t, d: d["training"].update(next_document=4), "next_document"),
        (lambda t, d: d["training"].update(num_documents=0), "no state of a training"),
        (lambda t, d: d["training"].update(random_state=[3, [1, 2], None]), "no state"),
        (lambda t, d: d["training"].update(more=1), "more"),
        (lambda t, d: d.pop("notes"), "notes"),
        (lambda t, d: d.update(notes=[]), "notes"),
        (lambda t, d: d["training"].update(engine=1), "engine must be a name"),
        (lambda t, d: d["training"].update(settings=[]), "no state of a training"),
        (lambda t, d: d["training"]["settings"].pop("eps"), "settings must be .*eps"),
        (lambda t, d: d["training"]["settings"].update(batch_size=True), "batch_size is True"),
        (lambda t, d: d["training"]["settings"].update(skip_zeros=1), "skip_zeros is 1"),
        (lambda t, d: d["training"]["settings"].update(threads="x"), "threads is 'x'"),
        (lambda t, d: d["training"]["settings"].update(more=1), "settings must be .*skip_zeros"),
        (lambda t, d: d.update(training=[]), "no state of a training"),
        (lambda t, d: d["config"].update(n_head=5), "divisible"),
    ],
)
def test_another_content(tmp_path, change, words):
    make().save(tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(mg.WeightsError, match=rf"checkpoint\.safetensors.*{words}"):
        mg.Trainer.resume(tmp_path, CORPUS)


def test_a_broken_file(tmp_path):
    with pytest.raises(mg.WeightsError, match=r"checkpoint\.safetensors does not exist"):
        mg.Trainer.resume(tmp_path, CORPUS)
    trainer = make()
    trainer.save(tmp_path)
    path = tmp_path / "checkpoint.safetensors"
    data = path.read_bytes()
    rng = random.Random(3)
    cut = [data[: rng.randrange(len(data))] for _ in range(20)]
    flipped = []
    for _ in range(100):
        damaged = bytearray(data)
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        flipped.append(bytes(damaged))
    for broken in [b"", *cut, *flipped]:
        path.write_bytes(broken)
        with pytest.raises(mg.WeightsError, match=r"checkpoint\.safetensors"):
            mg.Trainer.resume(tmp_path, CORPUS)
    path.unlink()
    trainer.model.save(tmp_path)  # a model is no checkpoint
    (tmp_path / "model.safetensors").rename(path)
    with pytest.raises(mg.WeightsError, match=r"checkpoint\.safetensors"):
        mg.Trainer.resume(tmp_path, CORPUS)


# kill -9

SAVING = """
import sys
import pymicrogpt as mg
corpus = mg.Corpus.from_documents({documents!r})
trainer = mg.Trainer(corpus, mg.Config(n_embd=16), engine="scalar", num_steps=1_000_000, seed=7)
while True:
    trainer.run(1)
    trainer.save(sys.argv[1])
    trainer.model.save(sys.argv[1])
    print(trainer.step, flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_at_any_moment(tmp_path):
    """Of a process that does nothing but save, every kill leaves what was saved last, or next."""
    rng = random.Random(1)
    expected = mg.Trainer(
        CORPUS, mg.Config(n_embd=16), engine="scalar", num_steps=1_000_000, seed=7
    )
    states = [expected.model.parameters]
    program = SAVING.format(documents=NAMES)
    for trial in range(12):
        directory = tmp_path / str(trial)
        process = subprocess.Popen(
            [sys.executable, "-c", program, directory], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.1 * rng.random())
        process.send_signal(signal.SIGKILL)
        finished = [1, *map(int, process.stdout.read().split())][-1]
        process.wait()
        resumed = mg.Trainer.resume(directory, CORPUS)
        model = mg.GPT.load(directory)
        assert resumed.step in (finished, finished + 1)
        while len(states) <= finished + 1:
            expected.run(1)
            states.append(expected.model.parameters)
        for name, array in resumed.model.parameters.items():
            assert np.array_equal(array, states[resumed.step][name])
        steps = int(model.training["steps"].split()[0])
        assert steps in (finished, finished + 1) and steps <= resumed.step
        for name, array in model.parameters.items():
            assert np.array_equal(array, states[steps][name])
        resumed.save(directory)
        resumed.run(1)


# Any training


@settings(max_examples=15, deadline=None)
@given(
    documents=st.lists(
        st.text(st.characters() | st.sampled_from("\ud83d\ude00"), min_size=1, max_size=6).filter(
            str.strip
        ),
        min_size=1,
        max_size=5,
    ),
    batch_size=st.integers(1, 7),
    k=st.integers(0, 6),
    beta1=st.floats(0.0, 0.999),
    beta2=st.floats(0.9, 0.9999),  # with less, Adam may diverge, and NaN is not saved
    seed=st.integers(0, 2**40),
    engine=st.sampled_from([name for name in ENGINES if name != "reference"]),
)
def test_any_training_goes_on(tmp_path_factory, documents, k, engine, **changes):
    corpus = mg.Corpus.from_documents(documents)
    directory = tmp_path_factory.mktemp("training")
    through = make(engine, corpus, num_steps=6, **changes)
    losses = through.run()
    first = make(engine, corpus, num_steps=6, **changes)
    first.run(k)
    first.save(directory)
    second = mg.Trainer.resume(directory, corpus)
    assert second.run().tobytes() == losses[k:].tobytes()
    assert state(second) == state(through)


@settings(max_examples=50, deadline=None)
@given(header=st.binary(max_size=200) | st.text(max_size=100).map(json.dumps).map(str.encode))
def test_any_header_is_refused(tmp_path_factory, header):
    directory = tmp_path_factory.mktemp("training")
    data = struct.pack("<Q", len(header)) + header
    (directory / "checkpoint.safetensors").write_bytes(data)
    with pytest.raises(mg.WeightsError, match=r"checkpoint\.safetensors"):
        mg.Trainer.resume(directory, CORPUS)
