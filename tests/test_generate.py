"""Batched generation in the SIMD engines: the same distribution as sample(), by other means."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SIMD

import pymicrogpt as mg

pytestmark = pytest.mark.skipif(not SIMD, reason="no SIMD engine runs on this machine")

CONFIGS = [
    mg.Config(),
    mg.Config(n_layer=2, n_embd=24, n_head=3, block_size=7),
    mg.Config(n_embd=20, n_head=2, block_size=1),
    mg.Config(n_embd=8, n_head=1, block_size=21),
]


@pytest.fixture(scope="module", params=CONFIGS, ids=lambda c: f"C{c.n_embd}-T{c.block_size}")
def model(request):
    documents = ["anna", "bo", "cleo", "dada", "ed", "annabel", "bob", "c", "dan", "abba"] * 20
    trainer = mg.Trainer(mg.Corpus.from_documents(documents), request.param, num_steps=60)
    trainer.run()
    return trainer.model


def probabilities(model, text, temperature):
    """softmax(logits / temperature) after BOS and `text`, in float64."""
    logits = model.logits([model.tokenizer.bos, *model.tokenizer.encode(text)[1:-1]])[-1]
    weights = np.exp((logits - logits.max()) / temperature)
    return weights / weights.sum()


@pytest.mark.parametrize("engine", SIMD)
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_frequencies_are_the_models(model, engine, temperature):
    n = 40_000
    documents = model.generate(n, temperature, seed=11, engine=engine)
    prefixes = ["", "a"] if model.config.block_size > 1 else [""]
    for prefix in prefixes:
        continued = [d for d in documents if d.startswith(prefix)]
        p = probabilities(model, prefix, temperature)
        for i, character in enumerate(model.tokenizer.alphabet):
            share = sum(d[len(prefix) : len(prefix) + 1] == character for d in continued)
            # Five standard deviations of a binomial, and one document of slack where p n is tiny.
            bound = 5.0 * np.sqrt(len(continued) * p[i] * (1.0 - p[i])) + 1.0
            assert abs(share - len(continued) * p[i]) <= bound, (prefix, character)


@pytest.mark.parametrize("engine", SIMD)
def test_cold_is_greedy(model, engine):
    text = ""
    while len(text) < model.config.block_size:
        token = int(probabilities(model, text, 1.0).argmax())
        if token == model.tokenizer.bos:
            break
        text += model.tokenizer.alphabet[token]
    assert model.generate(3, 1e-4, engine=engine) == [text] * 3


def test_depends_on_seed_and_number_alone(model):
    many = model.generate(5000, seed=3)  # more than are drawn at a time
    assert model.generate(10, seed=3) == many[:10]
    assert model.generate(5000, seed=3) == many
    assert model.generate(5000, seed=4) != many
    assert model.generate(0) == []
    assert all(len(d) <= model.config.block_size for d in many)


def test_follows_its_parameters():
    corpus = mg.Corpus.from_documents(["ab", "ba", "aab"])
    model = mg.Trainer(corpus, num_steps=5).model
    before = model.generate(200)
    model.parameters["lm_head"] *= -3.0
    assert model.generate(200) != before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": -1}, "n must be"),
        ({"n": 1, "temperature": -1.0}, "temperature must be"),
        ({"n": 1, "seed": -1}, "seed must be"),
        ({"n": 1, "top_k": 0}, "top_k must be"),
        ({"n": 1, "prompt": "abc"}, "character 'c'"),
        ({"n": 1, "prompt": "ab" * 9}, "prompt has 18 characters"),
        ({"n": 1, "engine": "scalar"}, "does not generate"),
        ({"n": 1, "engine": "nonsense"}, "unknown"),
    ],
)
def test_bad_arguments(arguments, message):
    model = mg.Trainer(mg.Corpus.from_documents(["ab"]), num_steps=1).model
    with pytest.raises(ValueError, match=message):
        model.generate(**arguments)


@pytest.mark.parametrize("engine", SIMD)
def test_prompt_and_top_k(model, engine):
    """Every document begins with the prompt, goes on with one of the two most likely tokens, and
    with either about as often as the model says."""
    prompt = "an"[: model.config.block_size - 1]
    n = 20_000
    documents = model.generate(n, 1.0, prompt=prompt, top_k=2, seed=5, engine=engine)
    assert all(d.startswith(prompt) and len(d) <= model.config.block_size for d in documents)
    p = probabilities(model, prompt, 1.0)
    likely = np.argsort(p)[-2:]
    p = p[likely] / p[likely].sum()
    following = [d[len(prompt) : len(prompt) + 1] for d in documents]
    for token, share in zip(likely, p, strict=True):
        text = model.tokenizer.decode([token])
        assert abs(following.count(text) - n * share) <= 5.0 * np.sqrt(n * share * (1 - share)) + 1
    assert set(following) <= {model.tokenizer.decode([token]) for token in likely}


def test_the_most_likely_alone_is_greedy(model):
    assert model.generate(3, 1.0, top_k=1) == model.generate(3, 1e-4)
    assert model.generate(9, top_k=10**6, seed=2) == model.generate(9, seed=2)


def test_a_prompt_as_long_as_a_document(model):
    whole = ("abnd" * 6)[: model.config.block_size]
    assert model.generate(2, prompt=whole) == [whole] * 2


@pytest.mark.parametrize("engine", SIMD)
@pytest.mark.parametrize("length", [0, 1, 2, 5, 7, 8, 30])
def test_beyond_the_context(model, engine, length):
    """The window slides as in sample(), whose most likely text comes out, after any prompt."""
    prompt = ("annabelbodan" * 3)[:length]
    [greedy] = model.sample(1, 0, prompt=prompt, max_new_tokens=50)
    assert model.generate(3, 0, prompt=prompt, max_new_tokens=50, engine=engine) == [greedy] * 3
    assert model.generate(2, prompt=prompt, max_new_tokens=0, engine=engine) == [prompt] * 2


def test_long_texts_depend_on_seed_and_number_alone():
    """Of a model that hardly ever ends a document, so that the window slides many times."""
    corpus = mg.Corpus.from_documents(["abcd" * 40] * 5)
    trainer = mg.Trainer(corpus, mg.Config(n_embd=8, block_size=9), num_steps=200)
    trainer.run()
    model = trainer.model
    many = model.generate(300, 1.0, seed=3, max_new_tokens=100)
    assert max(map(len, many)) == 100
    assert model.generate(7, 1.0, seed=3, max_new_tokens=100) == many[:7]
    assert [d[:40] for d in many] == model.generate(300, 1.0, seed=3, max_new_tokens=40)


@pytest.mark.parametrize("temperature", [0, 1e-39, 1e-300])
def test_temperatures_beyond_float32_are_greedy(model, temperature):
    [greedy] = model.sample(1, 0)
    assert model.generate(3, temperature) == [greedy] * 3
    assert len(model.generate(3, 1e300)) == 3


def test_parameters_beyond_float32_are_refused():
    model = mg.Trainer(mg.Corpus.from_documents(["ab"]), num_steps=1).model
    model.parameters["wte"][0, 0] = 1e39
    with pytest.raises(ValueError, match="not finite in float32"):
        model.generate(1)
