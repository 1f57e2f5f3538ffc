from __future__ import annotations

import random

import numpy as np
import pytest

import pymicrogpt as mg


def test_ids_are_the_sorted_characters_and_bos_is_last():
    tokenizer = mg.Tokenizer.from_documents(["cab", "bad"])
    assert tokenizer.alphabet == ("a", "b", "c", "d")
    assert (tokenizer.vocab_size, tokenizer.bos) == (5, 4)
    assert tokenizer.encode("dab") == [4, 3, 0, 1, 4]
    assert tokenizer.decode([4, 3, 0, 1, 4]) == "dab"
    assert tokenizer.encode("") == [4, 4]


ALPHABETS = [
    "a",
    "zyx",
    "abcdefghijklmnopqrstuvwxyz",
    "éèüßñ",
    "一二三四五六七八九十",
    "a😀\u2028\x1f",
    "\ud800z",
]


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=ascii)
def test_encode_all_is_encode_of_each(alphabet):
    rng = random.Random(1)
    documents = ["".join(rng.choices(alphabet, k=rng.randrange(6))) for _ in range(50)]
    tokenizer = mg.Tokenizer(alphabet)
    tokens, offsets = tokenizer.encode_all(documents)
    assert tokens.dtype == np.int32 and offsets.dtype == np.int64
    assert len(offsets) == len(documents) + 1 and offsets[0] == 0 and offsets[-1] == len(tokens)
    for d, document in enumerate(documents):
        ids = tokens[offsets[d] : offsets[d + 1]].tolist()
        assert ids == tokenizer.encode(document)
        assert tokenizer.decode(ids) == document


def test_encode_all_of_nothing():
    tokens, offsets = mg.Tokenizer("ab").encode_all([])
    assert tokens.tolist() == [] and offsets.tolist() == [0]


@pytest.mark.parametrize("encode", [lambda t, d: t.encode(d), lambda t, d: t.encode_all(["ab", d])])
@pytest.mark.parametrize("document, character", [("abz", "z"), ("A", "A"), ("b😀", "😀")])
def test_unknown_character(encode, document, character):
    with pytest.raises(ValueError, match=f"'{character}' at position .* is not in the alphabet"):
        encode(mg.Tokenizer("abc"), document)


def test_unknown_id():
    with pytest.raises(ValueError, match=r"token id 3 is outside 0 \.\. 2"):
        mg.Tokenizer("ab").decode([0, 3])
    with pytest.raises(ValueError, match="token id -1"):
        mg.Tokenizer("ab").decode([-1])


def test_wrong_alphabets():
    with pytest.raises(ValueError, match="empty"):
        mg.Tokenizer([])
    with pytest.raises(ValueError, match="'b' more than once"):
        mg.Tokenizer("abcb")
    with pytest.raises(ValueError, match="single characters, not 'ab'"):
        mg.Tokenizer(["ab"])
    with pytest.raises(TypeError, match="not 7"):
        mg.Tokenizer(["a", 7])


def test_wrong_types():
    with pytest.raises(TypeError, match="a document is a str"):
        mg.Tokenizer("ab").encode(3)
    with pytest.raises(TypeError, match="a document is a str"):
        mg.Tokenizer("ab").encode_all(["a", None])


def test_equality():
    assert mg.Tokenizer("ab") == mg.Tokenizer(["a", "b"]) != mg.Tokenizer("ba")
    assert len({mg.Tokenizer("ab"), mg.Tokenizer("ab")}) == 1


def test_a_large_alphabet_is_not_printed_whole():
    tokenizer = mg.Tokenizer([chr(0x4E00 + i) for i in range(3000)])
    with pytest.raises(ValueError) as caught:
        tokenizer.encode("x" * 1000)
    assert str(caught.value).startswith("character 'x' at position 0 is not in the alphabet ")
    assert str(caught.value).endswith(" and 2,980 more") and len(str(caught.value)) < 120
