from __future__ import annotations

import random
import warnings

import numpy as np
import pytest

import pymicrogpt as mg
from pymicrogpt.init import init_parameters
from pymicrogpt.reference import Reference

CONFIG = mg.Config(n_layer=2, n_embd=12, n_head=3, block_size=6)
TOKENIZER = mg.Tokenizer("abcd")


def parameters(std_factor=1.0):
    drawn = init_parameters(CONFIG, TOKENIZER.vocab_size, random.Random(11))
    return {name: std_factor * array for name, array in drawn.items()}


def reference_model(tensors) -> Reference:
    return Reference([], {n: a.tolist() for n, a in tensors.items()}, n_head=CONFIG.n_head)


def test_logits_are_those_of_the_reference():
    tensors = parameters(std_factor=5.0)  # attention far from uniform
    tokens = [4, 0, 3, 1, 1, 2]
    model = reference_model(tensors)
    keys, values = model.empty_cache()
    expected = [
        [v.data for v in model.forward(token, t, keys, values)] for t, token in enumerate(tokens)
    ]
    logits = mg.GPT(CONFIG, TOKENIZER, tensors).logits(tokens)
    assert logits.shape == (6, 5) and logits.dtype == np.float64
    # Two layers of sums of at most 48 terms: some hundred eps of the largest logit.
    np.testing.assert_allclose(logits, expected, atol=1e-13 * np.abs(expected).max())


def test_logits_do_not_look_ahead():
    model = mg.GPT(CONFIG, TOKENIZER, parameters(5.0))
    tokens = [4, 0, 3, 1, 1, 2]
    whole = model.logits(tokens)
    for n in range(1, 7):
        np.testing.assert_allclose(model.logits(tokens[:n]), whole[:n], atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 0.5, 2.0])
def test_samples_are_those_of_the_reference(temperature):
    tensors = parameters(2.0)
    theirs = random.Random(2)
    model = reference_model(tensors)
    expected = [TOKENIZER.decode(model.sample(theirs, temperature)) for _ in range(12)]
    ours = random.Random(2)
    assert mg.GPT(CONFIG, TOKENIZER, tensors, ours).sample(12, temperature) == expected
    assert ours.getstate() == theirs.getstate()
    assert len(set(expected)) > 3


def test_sampling_continues_its_stream():
    whole = mg.GPT(CONFIG, TOKENIZER, parameters(), random.Random(2)).sample(5)
    model = mg.GPT(CONFIG, TOKENIZER, parameters(), random.Random(2))
    assert model.sample(2) + model.sample(0) + model.sample(3) == whole


def test_extreme_temperatures():
    model = mg.GPT(CONFIG, TOKENIZER, parameters(5.0), random.Random(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(set(model.sample(5, temperature=1e-300))) == 1  # always the largest logit
        assert len(model.sample(5, temperature=1e300)) == 5


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf")])
def test_wrong_temperature(temperature):
    with pytest.raises(ValueError, match="temperature must be greater than 0 and finite"):
        mg.GPT(CONFIG, TOKENIZER, parameters()).sample(1, temperature)


def test_wrong_arguments_of_sample():
    model = mg.GPT(CONFIG, TOKENIZER, parameters())
    with pytest.raises(ValueError, match="n must be at least 0"):
        model.sample(-1)
    with pytest.raises(TypeError, match="n must be an integer"):
        model.sample(2.0)
    with pytest.raises(TypeError, match="temperature must be a number"):
        model.sample(1, "hot")


@pytest.mark.parametrize(
    "tokens, error, message",
    [
        ([], ValueError, "1 to 6 ids"),
        ([0] * 7, ValueError, "1 to 6 ids"),
        ([[0]], ValueError, "1 to 6 ids"),
        ([5], ValueError, r"0 \.\. 4"),
        ([0, -1], ValueError, r"0 \.\. 4"),
        ([0.0], TypeError, "must be integers"),
        (["a"], TypeError, "must be integers"),
    ],
)
def test_wrong_tokens(tokens, error, message):
    with pytest.raises(error, match=message):
        mg.GPT(CONFIG, TOKENIZER, parameters()).logits(tokens)


def test_parameters_are_copies_and_float64():
    tensors = {name: array.astype(np.float32) for name, array in parameters().items()}
    model = mg.GPT(CONFIG, TOKENIZER, tensors)
    tensors["wte"][0, 0] = 9.0
    assert model.parameters["wte"][0, 0] != 9.0
    assert all(array.dtype == np.float64 for array in model.parameters.values())
    assert list(model.parameters) == list(CONFIG.parameter_shapes(5))


def test_wrong_parameters():
    missing = parameters()
    del missing["layer1.mlp_fc2"]
    with pytest.raises(ValueError, match=r"missing: layer1\.mlp_fc2"):
        mg.GPT(CONFIG, TOKENIZER, missing)
    with pytest.raises(ValueError, match="unknown to this config: bias"):
        mg.GPT(CONFIG, TOKENIZER, {**parameters(), "bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"wpe must have shape \(6, 12\), not \(12, 6\)"):
        mg.GPT(CONFIG, TOKENIZER, {**parameters(), "wpe": np.zeros((12, 6))})


def test_one_position():
    config = mg.Config(n_embd=1, n_head=1, block_size=1)
    tokenizer = mg.Tokenizer("a")
    model = mg.GPT(
        config, tokenizer, init_parameters(config, 2, random.Random(1)), random.Random(1)
    )
    assert set(model.sample(50)) == {"", "a"}
