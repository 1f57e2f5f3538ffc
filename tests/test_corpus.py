from __future__ import annotations

import hashlib
import os
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pymicrogpt as mg
from pymicrogpt import corpus as module

FAKE_NAMES = b"anna\nbert\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """No corpus given, an empty cache, and a network that answers with FAKE_NAMES."""
    for name in ("PYMICROGPT_CORPUS", "PYMICROGPT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "NAMES_SHA256", hashlib.sha256(FAKE_NAMES).hexdigest())
    monkeypatch.setattr(module, "_fetch", lambda: FAKE_NAMES)
    return monkeypatch


def no_network():
    raise AssertionError("the network was asked")


def cached(tmp_path):
    return tmp_path / "cache" / "pymicrogpt" / "names.txt"


def write(path, data: bytes):
    path.write_bytes(data)
    return path


# Reading a file


@pytest.mark.parametrize(
    "data, documents",
    [
        (b"anna\nbert\n", ["anna", "bert"]),
        (b"anna\nbert", ["anna", "bert"]),
        (b"\n anna \n\n\tbert\n \n", ["anna", "bert"]),
        (b"anna\r\nbert\r\n", ["anna", "bert"]),
        (b"anna\rbert", ["anna", "bert"]),  # as a text file of Python's
        (b"\xef\xbb\xbfanna\n", ["anna"]),
        ("zoë\n中文\n😀".encode(), ["zoë", "中文", "😀"]),
        ("an\u2028na\nb\x1cc\x85d\x0be\n".encode(), ["an\u2028na", "b\x1cc\x85d\x0be"]),
        (b"a b\n", ["a b"]),
    ],
)
def test_documents_are_the_stripped_lines(tmp_path, data, documents):
    path = write(tmp_path / "c.txt", data)
    corpus = mg.Corpus.from_file(path)
    assert list(corpus.documents) == documents
    assert len(corpus) == len(documents)
    assert corpus.source == str(path)
    with open(path, encoding="utf-8-sig") as file:  # what the original does
        assert documents == [line.strip() for line in file if line.strip()]


def test_path_as_string(tmp_path):
    assert len(mg.Corpus.from_file(str(write(tmp_path / "c.txt", b"a\n")))) == 1


@pytest.mark.parametrize("data", [b"\n \r\n\t\n", b"\xef\xbb\xbf", b" "])
def test_no_documents(tmp_path, data):
    with pytest.raises(mg.CorpusError, match=r"c\.txt holds no documents"):
        mg.Corpus.from_file(write(tmp_path / "c.txt", data))


def test_empty_file(tmp_path):
    with pytest.raises(mg.CorpusError, match=r"c\.txt is empty"):
        mg.Corpus.from_file(write(tmp_path / "c.txt", b""))


@pytest.mark.parametrize(
    "data, offset, line",
    [
        (b"anna\nb\xffrt\n", 6, 2),
        (b"\xef\xbb\xbfa\n\nb\xe9", 7, 3),
        ("anna".encode("utf-16"), 0, 1),
        (b"\xed\xa0\x80", 0, 1),
    ],
)
def test_not_utf8(tmp_path, data, offset, line):
    with pytest.raises(mg.CorpusError, match=f"not UTF-8: byte .* offset {offset}, line {line} "):
        mg.Corpus.from_file(write(tmp_path / "c.txt", data))


def test_directory(tmp_path):
    with pytest.raises(mg.CorpusError, match="is a directory"):
        mg.Corpus.from_file(tmp_path)


def test_missing_file(tmp_path):
    for error in (mg.CorpusNotFoundError, FileNotFoundError, ValueError):
        with pytest.raises(error, match=r"none\.txt does not exist"):
            mg.Corpus.from_file(tmp_path / "none.txt")


def test_from_documents():
    corpus = mg.Corpus.from_documents([" bob ", "", "abe"])
    assert corpus.documents == ("bob", "abe")
    assert corpus.alphabet == ("a", "b", "e", "o")
    assert corpus.describe() == (
        "2 documents of 3 to 3 characters (mean 3.0), 4 distinct; source: documents in memory"
    )
    with pytest.raises(mg.CorpusError, match="no documents"):
        mg.Corpus.from_documents([" "])
    with pytest.raises(TypeError, match="document 1 must be a str, not 3"):
        mg.Corpus.from_documents(["a", 3])
    with pytest.raises(TypeError, match="not one string"):
        mg.Corpus.from_documents("anna")


# The order of sources


def test_given_path_comes_first(machine, tmp_path):
    machine.setenv("PYMICROGPT_CORPUS", str(write(tmp_path / "env.txt", b"env\n")))
    assert mg.Corpus.load(write(tmp_path / "given.txt", b"given\n")).documents == ("given",)
    assert mg.Corpus.load().documents == ("env",)


def test_a_given_path_is_never_replaced(machine, tmp_path):
    machine.setenv("PYMICROGPT_CORPUS", str(tmp_path / "none.txt"))
    with pytest.raises(mg.CorpusNotFoundError):
        mg.Corpus.load()


def test_download_then_cache(machine, tmp_path):
    corpus = mg.Corpus.load()
    assert corpus.documents == ("anna", "bert")
    assert corpus.source == f"names.txt, downloaded to {cached(tmp_path)}"
    assert os.listdir(cached(tmp_path).parent) == ["names.txt"]  # nothing temporary is left
    machine.setattr(module, "_fetch", no_network)
    assert mg.Corpus.load().source == f"names.txt, cached at {cached(tmp_path)}"


def test_a_damaged_cache_is_replaced(machine, tmp_path):
    cached(tmp_path).parent.mkdir(parents=True)
    cached(tmp_path).write_bytes(FAKE_NAMES[:-3])
    assert "downloaded" in mg.Corpus.load().source
    assert cached(tmp_path).read_bytes() == FAKE_NAMES


def assert_embedded(reason):
    corpus = mg.Corpus.load()
    assert corpus.source.startswith("embedded given names (")
    assert reason in corpus.source
    assert len(corpus) >= 4000


def test_offline_by_choice(machine):
    machine.setattr(module, "_fetch", no_network)
    machine.setenv("PYMICROGPT_OFFLINE", "1")
    assert_embedded("PYMICROGPT_OFFLINE is set")


def test_no_network(machine, tmp_path):
    def fail():
        raise OSError("no route")

    machine.setattr(module, "_fetch", fail)
    assert_embedded("no route")
    assert not cached(tmp_path).exists()


@pytest.mark.parametrize("answer", [b"", b"<html>log in</html>", FAKE_NAMES + b"x"])
def test_wrong_download_is_not_used(machine, tmp_path, answer):
    machine.setattr(module, "_fetch", lambda: answer)
    assert_embedded("SHA-256 differs")
    assert not cached(tmp_path).exists()


def test_hanging_network(machine):
    machine.setattr(module, "DOWNLOAD_SECONDS", 0.05)
    machine.setattr(module, "_fetch", lambda: time.sleep(5) or FAKE_NAMES)
    assert_embedded("no answer within 0.05 s")


def test_cache_that_cannot_be_written(machine, tmp_path):
    (tmp_path / "cache").write_bytes(b"a file where the directory should be")
    corpus = mg.Corpus.load()
    assert corpus.documents == ("anna", "bert")
    assert "not cached" in corpus.source


def test_interrupted_write_leaves_nothing(machine, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    machine.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        mg.Corpus.load()
    assert os.listdir(cached(tmp_path).parent) == []


def test_no_home(machine):
    machine.delenv("XDG_CACHE_HOME")
    machine.setattr(sys, "platform", "linux")

    def no_home():
        raise RuntimeError("no home")

    machine.setattr(module.Path, "home", no_home)
    assert "not cached: there is no home directory" in mg.Corpus.load().source


def test_embedded_corpus():
    corpus = mg.Corpus._embedded("test")
    lengths = [len(name) for name in corpus.documents]
    assert len(set(corpus.documents)) == len(corpus) >= 4000
    assert corpus.alphabet == tuple("abcdefghijklmnopqrstuvwxyz")
    assert min(lengths) >= 2 and max(lengths) <= 15
    assert 5 <= sum(lengths) / len(lengths) <= 7


# Running text


@pytest.mark.parametrize(
    "data, block_size, documents",
    [
        (b"to be\n\n or not", 4, ["to b", "e\n\n ", "or n", "ot"]),
        (b"  \n\t", 2, ["  ", "\n\t"]),
        (b"abcd", 4, ["abcd"]),
        (b"ab", 100, ["ab"]),
        (b"a\r\nb\rc\n", 3, ["a\nb", "\nc\n"]),  # as a text file of Python's
        (b"\xef\xbb\xbf" + "é😀中\u2028".encode(), 1, ["é", "😀", "中", "\u2028"]),
    ],
)
def test_running_text_in_blocks(tmp_path, data, block_size, documents):
    path = write(tmp_path / "c.txt", data)
    corpus = mg.Corpus.from_file(path, mode="stream", block_size=block_size)
    assert list(corpus.documents) == documents
    assert (corpus.source, corpus.block_size, corpus.mode) == (str(path), block_size, "stream")
    text = path.read_text(encoding="utf-8-sig")
    assert "".join(corpus.documents) == text
    assert mg.Corpus.from_text(text, block_size).documents == corpus.documents


def test_running_text_that_is_none(tmp_path):
    for data in (b"", b"\xef\xbb\xbf"):
        with pytest.raises(mg.CorpusError, match=r"c\.txt (is empty|holds no documents)"):
            mg.Corpus.from_file(write(tmp_path / "c.txt", data), "stream", 8)
    with pytest.raises(mg.CorpusError, match=r"c\.txt is not UTF-8: byte 0xff at offset 3"):
        mg.Corpus.from_file(write(tmp_path / "c.txt", b"ab\n\xff"), "stream", 8)
    with pytest.raises(mg.CorpusError, match="the text is empty"):
        mg.Corpus.from_text("", 8)


def test_arguments_of_running_text(tmp_path):
    path = write(tmp_path / "c.txt", b"abc")
    lines = mg.Corpus.from_file(path, "lines", block_size=2)  # which has no use for it
    assert (lines.documents, lines.mode, lines.block_size) == (("abc",), "lines", None)
    with pytest.raises(ValueError, match="mode must be 'lines' or 'stream', not 'words'"):
        mg.Corpus.from_file(path, "words")
    with pytest.raises(TypeError, match="block_size must be an integer, not None"):
        mg.Corpus.from_file(path, "stream")
    with pytest.raises(ValueError, match="block_size must be at least 1"):
        mg.Corpus.from_text("abc", 0)
    with pytest.raises(TypeError, match="text must be a str, not list"):
        mg.Corpus.from_text(["abc"], 8)


def test_blocks_are_of_the_models_size():
    corpus = mg.Corpus.from_text("to be or not to be", 8)
    with pytest.raises(ValueError, match=r"blocks of 8 characters .* block_size is 16; they must"):
        mg.Trainer(corpus, mg.Config(block_size=16))
    assert mg.Trainer(corpus, mg.Config(block_size=8)).corpus is corpus


# Held-out documents


def test_split():
    documents = [f"name{i}" for i in range(100)]
    corpus = mg.Corpus.from_documents(documents)
    train, rest = corpus.split(0.1, seed=3)
    assert (len(train), len(rest)) == (90, 10)
    assert sorted([*train.documents, *rest.documents]) == sorted(documents)
    for part in (train, rest):
        assert sorted(part.documents, key=documents.index) == list(part.documents)
    assert corpus.split(0.1, seed=3) == (train, rest)
    assert corpus.split(0.1, seed=4)[1] != rest
    assert rest.source == "documents in memory (10 of 100 documents)"
    blocks = mg.Corpus.from_text("to be or not to be " * 9, 8).split(0.5)
    assert [part.block_size for part in blocks] == [8, 8]


@pytest.mark.parametrize("fraction, held_out", [(1e-9, 1), (0.5, 2), (0.999, 3)])
def test_split_leaves_something_on_both_sides(fraction, held_out):
    train, rest = mg.Corpus.from_documents(["aa"] * 4).split(fraction)
    assert (len(train), len(rest)) == (4 - held_out, held_out)


def test_held_out_characters_are_in_training():
    corpus = mg.Corpus.from_documents(["ab", "bc", "cd", "da", "xa"] * 2 + ["z", "y"])
    for seed in range(50):
        train, rest = corpus.split(0.9, seed)
        assert train.alphabet == corpus.alphabet
        assert not {"z", "y"} & set(rest.documents)


def test_split_that_is_none():
    with pytest.raises(mg.CorpusError, match="nothing can be held out of 2 documents"):
        mg.Corpus.from_documents(["ab", "bc"]).split(0.5)
    with pytest.raises(mg.CorpusError, match="nothing can be held out of 1 documents"):
        mg.Corpus.from_documents(["ab"]).split(0.5)
    for fraction in (0.0, 1.0, -1, float("nan")):
        with pytest.raises(ValueError, match="fraction must be greater than 0 and less than 1"):
            mg.Corpus.from_documents(["a", "a"]).split(fraction)


@given(text=st.text(min_size=1), block_size=st.integers(1, 9))
def test_blocks_keep_every_character(text, block_size):
    corpus = mg.Corpus.from_text(text, block_size)
    assert "".join(corpus.documents) == text
    assert {len(document) for document in corpus.documents[:-1]} <= {block_size}
    assert 1 <= len(corpus.documents[-1]) <= block_size


@given(
    documents=st.lists(st.text("abcde", min_size=1, max_size=4), min_size=2, max_size=12),
    fraction=st.floats(0.0, 1.0, exclude_min=True, exclude_max=True),
    seed=st.integers(),
)
def test_any_split(documents, fraction, seed):
    corpus = mg.Corpus.from_documents(documents)
    try:
        train, rest = corpus.split(fraction, seed)
    except mg.CorpusError:  # rightly: whatever is taken out, a character is lost
        for i in range(len(documents)):
            others = set("".join([*documents[:i], *documents[i + 1 :]]))
            assert set(documents[i]) - others
        return
    assert sorted(train.documents + rest.documents) == sorted(documents)
    assert train.alphabet == corpus.alphabet
    assert 1 <= len(rest) <= max(1, round(fraction * len(corpus))) and len(train) >= 1
