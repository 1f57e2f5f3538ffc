from __future__ import annotations

import random
import warnings

import numpy as np
import pytest

import pymicrogpt as mg
from pymicrogpt._init import init_parameters
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


@pytest.mark.parametrize("temperature", [-1.0, float("nan"), float("inf")])
def test_wrong_temperature(temperature):
    with pytest.raises(ValueError, match="temperature must be at least 0 and finite"):
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


# Prompts, the most likely tokens, texts longer than the context


class Recorder(random.Random):
    """Keeps the weights that it is asked to draw by."""

    def __init__(self, seed):
        super().__init__(seed)
        self.weights = []

    def choices(self, population, weights=None, **rest):
        self.weights.append(list(weights))
        return super().choices(population, weights, **rest)


def recording(seed=0, n_layer=2, block_size=6):
    """A model that goes on for long, for BOS is unlikely, and what it drew by."""
    config = mg.Config(n_layer=n_layer, n_embd=12, n_head=3, block_size=block_size)
    drawn = init_parameters(config, TOKENIZER.vocab_size, random.Random(11))
    tensors = {name: 5.0 * array for name, array in drawn.items()}
    rng = Recorder(seed)
    return mg.GPT(config, TOKENIZER, tensors, rng), rng


def softmax(logits, temperature):
    weights = np.exp((logits - logits.max()) / temperature)
    return weights / weights.sum()


def test_unset_options_change_nothing():
    plain, given = recording()[0], recording()[0]
    assert plain.sample(9, 1.0) == given.sample(
        9, 1.0, prompt="", top_k=TOKENIZER.vocab_size, max_new_tokens=CONFIG.block_size
    )


@pytest.mark.parametrize("prompt", ["a", "dab", "abcda"])
def test_prompt(prompt):
    model, rng = recording()
    for text in model.sample(9, 0.7, prompt=prompt):
        assert text.startswith(prompt) and len(text) <= CONFIG.block_size
    expected = softmax(model.logits(TOKENIZER.encode(prompt)[:-1])[-1], 0.7)
    np.testing.assert_allclose(rng.weights[0], expected, rtol=1e-12)


def test_a_prompt_that_leaves_no_room():
    model, rng = recording()
    assert model.sample(2, prompt="abcdab") == ["abcdab"] * 2
    assert rng.weights == []
    with pytest.raises(ValueError, match=r"prompt has 7 characters, .* context is 6; give max_new"):
        model.sample(2, prompt="abcdabc")
    with pytest.raises(ValueError, match="character 'x' at position 1"):
        model.sample(2, prompt="ax")
    with pytest.raises(TypeError, match="str"):
        model.sample(2, prompt=["a"])


@pytest.mark.parametrize("k", [1, 2, 4])
def test_top_k(k):
    all_, some = recording()[1], recording()[1]
    for rng, top_k in ((all_, None), (some, k)):
        model = recording()[0]
        model.rng = rng
        model.sample(1, 1.3, top_k=top_k, prompt="a", max_new_tokens=1)
    likely = np.argsort(all_.weights[0])[-k:]
    expected = np.zeros(TOKENIZER.vocab_size)
    expected[likely] = np.array(all_.weights[0])[likely]
    # A sum of five rounded terms, twice.
    np.testing.assert_allclose(some.weights[0], expected / expected.sum(), rtol=1e-14)


def test_top_k_keeps_what_is_as_likely():
    tensors = {name: np.zeros(array.shape) for name, array in parameters().items()}
    rng = Recorder(0)
    mg.GPT(CONFIG, TOKENIZER, tensors, rng).sample(1, top_k=1)
    assert rng.weights[0] == [0.2] * 5


@pytest.mark.parametrize("option", ["top_k", "max_new_tokens"])
def test_bad_options(option):
    model = recording()[0]
    with pytest.raises(ValueError, match=f"{option} must be at least"):
        model.sample(1, **{option: -1})
    with pytest.raises(TypeError, match=f"{option} must be an integer"):
        model.sample(1, **{option: 1.5})


@pytest.mark.parametrize("block_size", [1, 2, 5, 6])
@pytest.mark.parametrize("prompt", ["", "abcdabcdabcd"])
def test_texts_longer_than_the_context(block_size, prompt):
    """Every draw is by the logits after BOS and the last characters, and no fewer of these than
    half a context where there are so many."""
    model, rng = recording(block_size=block_size)
    model.parameters["lm_head"][TOKENIZER.bos] = 0.0
    texts = model.sample(8, 0.5, prompt=prompt, max_new_tokens=30)
    text = max(texts, key=len)
    assert len(text) > block_size + len(prompt) and text.startswith(prompt)
    start = 0
    for other in texts[: texts.index(text)]:
        start += min(len(other) - len(prompt) + 1, 30)
    least = min(block_size // 2, block_size - 1)
    for i in range(len(prompt), len(text)):
        contexts = [
            TOKENIZER.encode(text[i - n : i])[:-1]
            for n in range(min(least, i), min(block_size - 1, i) + 1)
        ]
        expected = [softmax(model.logits(context)[-1], 0.5) for context in contexts]
        found = rng.weights[start + i - len(prompt)]
        assert any(np.allclose(found, e, rtol=1e-9) for e in expected)
    assert model.sample(3, max_new_tokens=0, prompt="ab") == ["ab"] * 3


def test_running_text_is_learnt_with_its_lines():
    verse = "one\n  two\n\nthree\n" * 30
    config = mg.Config(n_layer=2, n_embd=16, block_size=24)
    trainer = mg.Trainer(mg.Corpus.from_text(verse, 24), config, num_steps=300, seed=1)
    losses = trainer.run()
    assert losses[-1] < 0.3 < losses[0]
    text = trainer.model.sample(1, 0.1, prompt="one\n  two\n", max_new_tokens=40)[0]
    assert text in verse
    assert "\n" in trainer.model.generate(1, 0.1, prompt="one")[0]


def test_temperature_0_is_greedy():
    model = mg.GPT(CONFIG, TOKENIZER, parameters(), random.Random(2))
    before = model.rng.getstate()
    assert model.sample(3, 0) == model.sample(3, 1e-300)[:1] * 3
    model.rng.setstate(before)
    model.sample(3, 0)
    assert model.rng.getstate() == before


def test_logprobs_are_those_of_the_logits():
    model = mg.GPT(CONFIG, TOKENIZER, parameters())
    T = CONFIG.block_size
    for document in ("", "ab", "ab" * T):
        ids = TOKENIZER.encode(document[:T])
        logits = model.logits(ids[: min(len(ids) - 1, T)])
        expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        found = model.logprobs(document)
        assert len(found) == (len(document) + 1 if len(document) < T else len(document))
        rows = expected[np.arange(len(expected)), ids[1 : len(expected) + 1]]
        np.testing.assert_allclose(found[: len(rows)], rows, rtol=1e-12)
    # Beyond the block it sees BOS and the later half, as sample() does.
    ids = TOKENIZER.encode("ab" * T)[: 2 * T]
    row = model.logits([TOKENIZER.bos, *ids[1 + T - T // 2 : 1 + T]])[-1]
    expected = row[ids[T + 1]] - np.log(np.exp(row).sum())
    assert model.logprobs("ab" * T)[T] == pytest.approx(expected, rel=1e-12)


def test_a_model_that_is_not_finite_says_so():
    model, _ = recording()
    model.parameters["lm_head"][0, 0] = np.nan
    for ask in (model.sample, lambda: model.sample(2, 0), lambda: model.logprobs("ab")):
        with pytest.raises(ValueError, match="the model holds numbers that are not finite"):
            ask()


def test_engines_that_do_not_generate():
    model, _ = recording()
    for engine, why in {"reference": "does not generate", "cuda": "is unknown"}.items():
        with pytest.raises(ValueError, match=f"engine '{engine}' {why}; (auto and|no engine)"):
            model.generate(1, engine=engine)
    with pytest.raises(TypeError, match="engine must be a name, not None"):
        model.generate(1, engine=None)


def test_a_file_is_no_model(tmp_path):
    (tmp_path / "poem.txt").write_text("a")
    with pytest.raises(mg.WeightsError, match=r"poem\.txt is not a directory"):
        mg.GPT.load(tmp_path / "poem.txt")
