"""What holds for any alphabet, text and shape."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pymicrogpt as mg
from pymicrogpt._init import init_parameters
from pymicrogpt._text import is_mostly_controls

characters = st.characters(codec=None) | st.sampled_from("ab\n\r\ud83d\ude00\x85\u2028 ")
words = st.text(characters, max_size=8)
utf8 = st.text(st.characters(codec="utf-8") | st.sampled_from("ab\n\r\x85\u2028\ufeff "))

# The tokenizer


@given(st.lists(words, min_size=1).filter(any))
def test_what_is_encoded_is_decoded(documents):
    tokenizer = mg.Tokenizer.from_documents(documents)
    assert list(tokenizer.alphabet) == sorted({c for d in documents for c in d})
    tokens, offsets = tokenizer.encode_all(documents)
    assert offsets[0] == 0 and offsets[-1] == len(tokens)
    for document, start, end in zip(documents, offsets, offsets[1:], strict=False):
        ids = tokenizer.encode(document)
        assert ids[0] == ids[-1] == tokenizer.bos == tokenizer.vocab_size - 1
        assert ids == tokens[start:end].tolist()
        assert tokenizer.decode(ids) == document
    without_start = [i for d in documents for i in tokenizer.encode(d)[1:]]
    assert tokenizer.decode_all(without_start) == documents


@given(words.filter(bool), words)
def test_an_unknown_character_is_named(known, document):
    tokenizer = mg.Tokenizer.from_documents([known])
    unknown = [c for c in document if c not in known]
    if unknown:
        for encode in (tokenizer.encode, lambda d: tokenizer.encode_all([known, d])):
            with pytest.raises(ValueError) as raised:
                encode(document)
            assert f"character {unknown[0]!r} at position" in str(raised.value)
    else:
        assert tokenizer.decode(tokenizer.encode(document)) == document


# The corpus


@given(utf8, st.integers(1, 9))
@example("\x1b", 1)
def test_files_are_read_as_python_reads_text(tmp_path_factory, text, block_size):
    path = tmp_path_factory.mktemp("corpus") / "c.txt"
    path.write_bytes(text.encode())
    if "\0" in text or is_mostly_controls(text.encode()):  # signs of UTF-16 without a mark
        with pytest.raises(mg.CorpusError, match="it is UTF-16 or no text"):
            mg.Corpus.from_file(path)
        return
    read = io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8-sig").read()
    lines = [line.strip() for line in read.split("\n") if line.strip()]
    if lines:
        assert list(mg.Corpus.from_file(path).documents) == lines
        assert mg.Corpus.from_documents(lines).documents == tuple(lines)
    else:
        with pytest.raises(mg.CorpusError, match=r"c\.txt"):
            mg.Corpus.from_file(path)
    if read:
        corpus = mg.Corpus.from_file(path, "stream", block_size)
        assert "".join(corpus.documents) == read
        assert {len(d) for d in corpus.documents[:-1]} <= {block_size}
        assert 1 <= len(corpus.documents[-1]) <= block_size


@given(
    st.lists(st.text("abc", min_size=1, max_size=3), min_size=1),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
    st.integers(0, 99),
)
def test_split_loses_nothing(documents, fraction, seed):
    corpus = mg.Corpus.from_documents(documents)
    try:
        train, held_out = corpus.split(fraction, seed)
    except mg.CorpusError:
        # Only where each document is the last to hold some character.
        others = [set("".join(documents[:i] + documents[i + 1 :])) for i in range(len(documents))]
        assert all(set(d) - rest for d, rest in zip(documents, others, strict=True))
        return
    assert sorted(train.documents + held_out.documents) == sorted(documents)
    assert train.alphabet == corpus.alphabet
    assert 1 <= len(held_out) <= max(1, round(fraction * len(documents)))


# The shape of a model


@given(*[st.integers(-2, 40)] * 4, st.integers(2, 50))
def test_a_shape_is_whole_or_refused(n_layer, n_embd, n_head, block_size, vocab_size):
    sound = min(n_layer, n_embd, n_head, block_size) >= 1 and n_embd % max(n_head, 1) == 0
    try:
        config = mg.Config(n_layer, n_embd, n_head, block_size)
    except ValueError:
        assert not sound
        return
    assert sound
    assert config.head_dim * config.n_head == n_embd
    shapes = config.parameter_shapes(vocab_size)
    assert len(shapes) == 3 + 6 * n_layer
    C = n_embd
    assert config.num_params(vocab_size) == C * (2 * vocab_size + block_size + 12 * C * n_layer)
    assert mg.Config(**vars(config)) == config


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 5), st.integers(0, 9)
)
def test_the_engines_have_the_parameters_that_were_drawn(n_layer, n_head, head_dim, T, seed):
    corpus = mg.Corpus.from_documents(["abc", "d"])
    config = mg.Config(n_layer, n_head * head_dim, n_head, T)
    trainer = mg.Trainer(corpus, config, engine="tape", seed=seed, batch_size=2)
    rng = random.Random(seed)
    rng.shuffle(list(corpus.documents))
    for name, array in init_parameters(config, 5, rng).items():
        assert (trainer.model.parameters[name] == array).all()
