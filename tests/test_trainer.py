"""The interface of Trainer, in every engine of this machine. The numbers are in test_parity.py."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import ENGINES, SIMD

import pymicrogpt as mg
from pymicrogpt.reference import Reference
from pymicrogpt.trainer import DivergedError, check_finite

NAMES = ["anna", "bert", "carla", "dora", "emil", "fritz", "gerda", "heinz", "ann", "berta"]
CORPUS = mg.Corpus.from_documents(NAMES)
CONFIG = mg.Config(n_embd=8, n_head=2, block_size=4)


def make(engine="reference", corpus=CORPUS, config=CONFIG, **settings) -> mg.Trainer:
    settings = {"batch_size": 2, "num_steps": 6, **settings}
    return mg.Trainer(corpus, config, engine=engine, **settings)


@pytest.fixture(params=ENGINES)
def engine(request) -> str:
    return request.param


def test_documents_are_shuffled_by_the_seed():
    expected = list(NAMES)
    random.Random(42).shuffle(expected)
    assert make().documents == tuple(expected)
    assert make(seed=1).documents != tuple(expected)
    assert CORPUS.documents == tuple(NAMES)


def test_documents_are_taken_in_turn_however_far_on():
    """Also where the steps times the batch size are beyond 64 bits."""
    from pymicrogpt import _core

    some = make("tape")
    tokens, offsets = some.tokenizer.encode_all(some.documents)
    core = _core.Trainer(
        "tape", tokens, offsets, n_layer=1, n_embd=8, n_head=2, block_size=4, batch_size=7,
        vocab_size=some.tokenizer.vocab_size, learning_rate=0.01, beta1=0.85, beta2=0.99, eps=1e-8,
        num_steps=2**62, threads=1, prefix_sharing=True,
    )  # fmt: skip
    core.set("parameter", np.random.default_rng(1).normal(size=some.num_params))

    def loss(step):
        core.step = step
        return core.gradients()[0]

    far = 2**62 - 1
    assert loss(far) == loss(far % len(NAMES)) != loss((far + 1) % len(NAMES))


def test_defaults():
    trainer = mg.Trainer(CORPUS)
    assert trainer.config == mg.Config()
    assert (trainer.batch_size, trainer.learning_rate, trainer.num_steps) == (16, 0.01, 1000)
    assert (trainer.seed, trainer.threads) == (42, 1)
    assert (trainer.prefix_sharing, trainer.skip_zeros) == (True, True)
    assert (trainer.beta1, trainer.beta2, trainer.eps) == (0.85, 0.99, 1e-8)


def test_attributes(engine):
    trainer = make(engine)
    info = next(info for info in mg.engines() if info.name == engine)
    assert (trainer.engine, trainer.isa) == (engine, info.isa)
    assert trainer.num_params == CONFIG.num_params(trainer.tokenizer.vocab_size)
    assert trainer.num_params <= trainer.nbytes < 10_000_000
    assert trainer.corpus is CORPUS
    assert trainer.tokenizer == mg.Tokenizer.from_documents(NAMES)
    assert trainer.step == 0


def test_run(engine):
    whole = make(engine).run()
    assert whole.dtype == np.float64 and whole.shape == (6,)
    trainer = make(engine)
    parts = [trainer.run(2), trainer.run(0), trainer.run(np.int64(3))]
    assert [len(part) for part in parts] == [2, 0, 3]
    assert trainer.step == 5
    assert np.concatenate([*parts, trainer.run()]).tolist() == whole.tolist()
    assert trainer.step == 6
    assert trainer.run().shape == (0,)


def test_run_beyond_num_steps(engine):
    trainer = make(engine)
    trainer.run(4)
    with pytest.raises(ValueError, match="cannot run 3 steps: 2 of num_steps=6 are left"):
        trainer.run(3)
    assert trainer.step == 4
    with pytest.raises(ValueError, match="k must be at least 0"):
        trainer.run(-1)
    with pytest.raises(TypeError, match="k must be an integer"):
        trainer.run(1.0)


def test_gradients_change_nothing(engine):
    trainer = make(engine)
    before = trainer.model.parameters
    loss, gradients = trainer.loss_and_gradients()
    again = trainer.gradients()
    assert list(gradients) == list(CONFIG.parameter_shapes(trainer.tokenizer.vocab_size))
    for name, array in gradients.items():
        assert array.dtype == np.float64 and array.shape == before[name].shape
        assert array.tolist() == again[name].tolist()
        assert trainer.model.parameters[name].tolist() == before[name].tolist()
    assert trainer.step == 0
    assert trainer.run(1)[0] == pytest.approx(loss, rel=1e-6)


def test_model_is_a_copy(engine):
    trainer = make(engine)
    model = trainer.model
    before = {name: array.copy() for name, array in model.parameters.items()}
    trainer.run(2)
    for name, array in before.items():
        assert model.parameters[name].tolist() == array.tolist()
        assert trainer.model.parameters[name].tolist() != array.tolist()


def test_model_continues_the_stream_of_the_trainer():
    first, second = make(), make()
    assert first.model.sample(2) + first.model.sample(3) == second.model.sample(5)


def test_evaluate(engine):
    trainer = make(engine)
    trainer.run(3)
    documents = ["anna", "e", "gerdagerda"]
    logits = [
        trainer.model.logits(trainer.tokenizer.encode(d)[:4][: len(d) + 1]) for d in documents
    ]
    losses = []
    for document, rows in zip(documents, logits, strict=True):
        target = trainer.tokenizer.encode(document)[1 : len(rows) + 1]
        log_total = np.log(np.exp(rows).sum(axis=1))
        losses.append(np.mean(log_total - rows[np.arange(len(rows)), target]))
    # f32 engines: the bound of one loss evaluation.
    assert trainer.evaluate(documents) == pytest.approx(np.mean(losses), rel=1e-6)
    assert trainer.evaluate(mg.Corpus.from_documents(documents)) == trainer.evaluate(documents)
    assert trainer.step == 3
    with pytest.raises(ValueError, match="'x' at position 1 of 'axel' is not in the alphabet"):
        trainer.evaluate(["anna", "axel"])
    with pytest.raises(mg.CorpusError, match="no documents"):
        trainer.evaluate([])


def test_evaluate_more_documents_than_a_batch(engine):
    trainer = make(engine)
    each = [trainer.evaluate([name]) for name in NAMES]
    # Means of ten losses, each good to 1e-6.
    assert trainer.evaluate(NAMES) == pytest.approx(np.mean(each), rel=2e-6)


def test_evaluate_leaves_training_as_it_was(engine):
    trainer = make(engine)
    losses = [trainer.run(1)[0]]
    for _ in range(5):
        trainer.evaluate(NAMES)
        trainer.gradients()
        losses.append(trainer.run(1)[0])
    assert losses == make(engine).run().tolist()


# Activity of the MLP


def activity_of(trainer: mg.Trainer) -> mg.Activity:
    activity = trainer.activity
    assert isinstance(activity, mg.Activity)
    for share in (activity.values, activity.units, activity.resting):
        assert isinstance(share, float) and 0.0 <= share <= 1.0
    # A unit with a value that is not zero is active, and an active one is not at rest.
    assert activity.values <= activity.units <= 1.0 - activity.resting + 1e-12
    return activity


@pytest.mark.parametrize("engine", SIMD)
@pytest.mark.parametrize("batch_size", [1, 16])
def test_activity_falls(engine, batch_size):
    """Of names, too many to learn by heart. Few stay far denser."""
    config = mg.Config(n_layer=2, n_embd=32)
    settings = {"batch_size": batch_size, "learning_rate": 0.01, "num_steps": 1000}
    names = mg.Corpus._embedded("for a test")
    trainer = make(engine, names, config, **settings)
    assert trainer.activity is None
    trainer.run(1)
    first = activity_of(trainer)
    # At first the sign of a hidden value is chance, and most units are active in some row.
    assert 0.4 < first.values < 0.6 < first.units
    assert first.resting < 0.05  # units that the first document did not reach
    trainer.run()
    last = activity_of(trainer)
    assert 0.0 < last.values < 0.2 * first.values
    assert last.units < 0.8 * first.units
    assert last.resting > 0.1

    without = make(engine, names, config, skip_zeros=False, **settings)
    without.run()
    expected = mg.Activity(last.values, last.units, 0.0)  # every unit is computed
    assert without.activity == expected


@pytest.mark.parametrize("engine", SIMD)
def test_activity_is_of_the_step(engine, tmp_path):
    """What comes between a step and the question, and wakes units or brings other rows, does not
    count."""
    names = mg.Corpus._embedded("for a test")
    config = mg.Config(n_layer=2, n_embd=32)
    disturb = [
        lambda trainer: trainer.model,
        lambda trainer: trainer.evaluate(["eee"]),
        lambda trainer: trainer.gradients(),
        lambda trainer: trainer.save(tmp_path),
    ]
    for between in disturb:
        trainer, other = (make(engine, names, config, num_steps=601) for _ in range(2))
        between(other)
        assert other.activity is None
        trainer.run(600)
        other.run(600)
        between(other)
        assert other.activity == activity_of(trainer)
        assert other.activity.resting > 0.0
    resumed = mg.Trainer.resume(tmp_path, names)  # at step 600
    assert resumed.activity is None
    assert resumed.run().tobytes() == trainer.run().tobytes()
    assert activity_of(resumed).values == activity_of(trainer).values


@pytest.mark.parametrize("engine", [name for name in ENGINES if name not in SIMD])
def test_engines_without_activity(engine):
    trainer = make(engine)
    assert trainer.activity is None
    trainer.run(2)
    assert trainer.activity is None


# Arguments


@pytest.mark.parametrize("name", ["batch_size", "num_steps", "threads"])
def test_whole_numbers(name):
    for wrong in (True, 2.0, "2", None):
        with pytest.raises(TypeError, match=f"{name} must be an integer"):
            make(**{name: wrong})
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        make(**{name: 0})
    with pytest.raises(ValueError, match=f"{name} must be at most"):
        make(**{name: 2**40})


@pytest.mark.parametrize("seed", [1.5, "a", None, False])
def test_seed(seed):
    with pytest.raises(TypeError, match="seed must be an integer"):
        make(seed=seed)


@pytest.mark.parametrize("name", ["learning_rate", "eps"])
def test_positive_numbers(name):
    for wrong in (0, -1e-3, float("nan"), float("inf"), 10**400):
        with pytest.raises(ValueError, match=f"{name} must be greater than 0 and finite"):
            make(**{name: wrong})
    for wrong in ("0.1", None, True, [1]):
        with pytest.raises(TypeError, match=f"{name} must be a number"):
            make(**{name: wrong})


@pytest.mark.parametrize("name", ["beta1", "beta2"])
def test_betas(name):
    for wrong in (-0.1, 1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"{name} must be at least 0 and less than 1"):
            make(**{name: wrong})
    make(**{name: 0})


def test_corpus_config_and_switches():
    with pytest.raises(TypeError, match=r"corpus must be a Corpus, not list; see Corpus\.load"):
        mg.Trainer(NAMES)
    with pytest.raises(TypeError, match="config must be a Config, not dict"):
        mg.Trainer(CORPUS, {"n_embd": 8})
    for name in ("prefix_sharing", "skip_zeros"):
        for wrong in (1, None, "no"):
            with pytest.raises(TypeError, match=f"{name} must be True or False, not {wrong!r}"):
                make(**{name: wrong})
        assert getattr(make(**{name: np.False_}), name) is False


# Engines


def test_unknown_engine():
    with pytest.raises(
        ValueError, match="'cuda' is unknown; this machine has auto, reference"
    ) as e:
        make("cuda")
    assert all(name in str(e.value) for name in ENGINES)
    with pytest.raises(TypeError, match="engine must be a name"):
        make(None)


def test_engine_that_cannot_run_here():
    absent = [info for info in mg.engines() if not info.available]
    assert absent, "AVX and NEON never come together"
    for info in absent:
        assert info.reason
        with pytest.raises(ValueError, match=f"'{info.name}' cannot run here") as e:
            make(info.name)
        assert info.reason in str(e.value) and "this machine has auto, reference" in str(e.value)


def test_auto_takes_the_best(monkeypatch):
    monkeypatch.delenv("PYMICROGPT_ISA", raising=False)
    best = next(i.name for i in mg.engines() if i.available and i.name != "reference")
    assert make("auto").engine == best


def test_environment_forces_auto(monkeypatch):
    monkeypatch.setenv("PYMICROGPT_ISA", "scalar")
    assert make("auto").engine == "scalar"
    assert make("tape").engine == "tape"
    monkeypatch.setenv("PYMICROGPT_ISA", "mmx")
    with pytest.raises(ValueError, match="PYMICROGPT_ISA 'mmx' is unknown; this machine has"):
        make("auto")


def test_an_engine_can_do_what_engines_says_of_it(engine):
    """And nothing else of it."""
    info = next(info for info in mg.engines() if info.name == engine)
    assert info.supported and info.label

    def can(call):
        try:
            call()
        except ValueError as error:
            assert re.search("SIMD|does not generate|one thread", str(error))
            return False
        return True

    def trained(**settings):
        trainer = make(engine, batch_size=10, **settings)
        trainer.run(6)
        return np.concatenate([p.ravel() for p in trainer.model.parameters.values()])

    assert can(lambda: make(engine, threads=2)) == info.threads
    trainer = make(engine)
    trainer.run(1)
    assert (trainer.activity is not None) == info.skip_zeros
    if engine != "reference":
        assert can(lambda: make(engine)._engine.profile(1)) == info.phases
        assert can(lambda: make(engine).model.generate(1, engine=engine)) == info.generates
    assert np.any(trained() != trained(prefix_sharing=False)) == info.prefix_sharing


def test_engine_infos():
    infos = mg.engines()
    assert infos[0].name == "reference"
    assert [i.name for i in infos if i.dtype == "float64"] == ["reference", "tape"]
    for info in infos:
        assert info.available != bool(info.reason)
        assert not info.available or (info.lanes >= 1 and info.isa)


# Ctrl-C


def test_interrupted_reference_stays_whole(monkeypatch):
    expected = make().run()

    class Interrupted(Reference):
        def update(self):
            signal.raise_signal(signal.SIGINT)  # at the worst moment: some parameters updated
            super().update()

    trainer = make()
    with monkeypatch.context() as m:
        m.setattr(trainer._engine._model, "__class__", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    assert trainer.step == 1
    assert trainer.run().tolist() == expected[1:].tolist()


def test_interrupted_backward_is_repeated(monkeypatch):
    expected = make().run()
    trainer = make()
    loss = Reference.loss
    calls = []

    def interrupted(self, document):
        calls.append(document)
        if len(calls) == 4:  # the second document of the second step
            raise KeyboardInterrupt
        return loss(self, document)

    with monkeypatch.context() as m:
        m.setattr(Reference, "loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trainer.run()
    assert trainer.step == 1
    assert trainer.run().tolist() == expected[1:].tolist()


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "reference"])
def test_interrupted_engine_stays_whole(engine):
    many = 10**7
    trainer = make(engine, num_steps=many)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    timer.join()
    assert trainer.step > 0
    other = make(engine, num_steps=many)
    other.run(trainer.step)
    for name, array in other.model.parameters.items():
        assert trainer.model.parameters[name].tolist() == array.tolist()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 1e39),
        ("learning_rate", 1e-39),
        ("beta1", 1 - 1e-9),
        ("beta2", 1 - 1e-9),
        ("eps", 1e-50),
        ("eps", 1e39),
    ],
)
def test_numbers_beyond_float32_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must lie in .*, the numbers of float32"):
        mg.Trainer(CORPUS, **{name: value})


def test_a_loss_that_is_no_number_names_its_step():
    losses = np.array([2.0, float("nan"), 1.0])
    with pytest.raises(DivergedError, match=r"nan at step 8; a learning_rate smaller than 0\.5 "):
        check_finite(losses, 7, 0.5)
    check_finite(losses[:1], 7, 0.5)


def bytes_on_huge_pages() -> int:
    """What this process has asked huge pages for, whether it got any or not."""
    mapping = r"^Size: +(\d+) kB$(?:\n(?!VmFlags).*)*\nVmFlags:.* hg"
    smaps = Path("/proc/self/smaps").read_text()
    return sum(int(size) * 1024 for size in re.findall(mapping, smaps, re.MULTILINE))


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="no huge pages here"
)
@pytest.mark.parametrize("engine", SIMD)
def test_a_large_state_is_on_huge_pages(engine):
    before = bytes_on_huge_pages()
    small = make(engine)
    assert bytes_on_huge_pages() == before
    large = make(engine, config=mg.Config(n_embd=128), batch_size=16)
    assert bytes_on_huge_pages() - before > 4 << 20
    large.run(2)
    del large
    assert bytes_on_huge_pages() == before
    assert small.run(1)


def test_nothing_of_the_corpus_is_worked_out_twice(tmp_path, monkeypatch):
    from pymicrogpt import trainer as module

    held_out = mg.Corpus.from_documents(["ann", "bert"])
    trainer = mg.Trainer(CORPUS, num_steps=9)
    work = []
    digest, encode = module.digest_of, mg.Tokenizer.encode_all
    monkeypatch.setattr(module, "digest_of", lambda d: work.append("digest") or digest(d))
    monkeypatch.setattr(
        mg.Tokenizer, "encode_all", lambda self, d: work.append("encode") or encode(self, d)
    )
    for _ in range(3):
        trainer.run(2)
        trainer.save(tmp_path)
        trainer.evaluate(held_out)
    assert sorted(work) == ["digest", "encode"]


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="seed must be at least 0, not -5"):
        make(seed=-5)


@pytest.mark.parametrize("notes", [None, [1], {"x": {1}}, {"x": float("nan")}])
def test_notes_that_are_no_json_keep_the_checkpoint(notes, tmp_path):
    trainer = make()
    trainer.save(tmp_path)
    trainer.notes = notes
    with pytest.raises((TypeError, ValueError), match="notes must be"):
        trainer.save(tmp_path)
    assert mg.Trainer.resume(tmp_path, CORPUS).notes == {}
