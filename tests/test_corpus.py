from __future__ import annotations

import hashlib
import os
import pickle
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pymicrogpt as mg
from pymicrogpt import _names, _text
from pymicrogpt._documents import Documents
from pymicrogpt._init import init_parameters, shuffled
from pymicrogpt.storage.checkpoint import digest_of

FAKE_NAMES = b"anna\nbert\n"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """No corpus given, an empty cache, and a network that answers with FAKE_NAMES."""
    for name in ("PYMICROGPT_CORPUS", "PYMICROGPT_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_names, "SHA256", hashlib.sha256(FAKE_NAMES).hexdigest())
    monkeypatch.setattr(_names, "_fetch", lambda: FAKE_NAMES)
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
    machine.setattr(_names, "_fetch", no_network)
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
    machine.setattr(_names, "_fetch", no_network)
    machine.setenv("PYMICROGPT_OFFLINE", "1")
    assert_embedded("PYMICROGPT_OFFLINE is set")


def test_no_network(machine, tmp_path):
    def fail():
        raise OSError("no route")

    machine.setattr(_names, "_fetch", fail)
    assert_embedded("no route")
    assert not cached(tmp_path).exists()


@pytest.mark.parametrize("answer", [b"", b"<html>log in</html>", FAKE_NAMES + b"x"])
def test_wrong_download_is_not_used(machine, tmp_path, answer):
    machine.setattr(_names, "_fetch", lambda: answer)
    assert_embedded("SHA-256 differs")
    assert not cached(tmp_path).exists()


def test_hanging_network(machine):
    machine.setattr(_names, "DOWNLOAD_SECONDS", 0.05)
    machine.setattr(_names, "_fetch", lambda: time.sleep(5) or FAKE_NAMES)
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

    machine.setattr(_names.Path, "home", no_home)
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
    with pytest.raises(mg.CorpusError, match="out of 1 document: it takes two or more"):
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
    seed=st.integers(0, 2**64 - 1),
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


# Large files


def large_and_small(data: bytes, size: int | None = None):
    """The documents of a file in one array, and the same as a tuple of strings."""
    text = _text._text(data).read()
    small = _text.blocks(text, size) if size else _text.lines(data)
    return _text._large(data, size), small


@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize(
    "alphabet",
    [
        "ab \n\t",
        "ab\r\n \x0b\x0c\x1c\x85\xa0é",
        "aж中 \n\r\u2028\u3000",
        "a\N{GRINNING FACE}\n 中\u2003",
    ],
    ids=["ascii", "latin", "bmp", "all"],
)
def test_a_large_file_is_read_like_a_small_one(alphabet, size):
    rng = random.Random(1)
    for _ in range(60):
        text = "a" + "".join(rng.choices(alphabet, k=rng.randrange(1, 150)))
        large, small = large_and_small(rng.choice(["", "\ufeff"]).encode() + text.encode(), size)
        assert large == small and small == large
        assert large[-1] == small[-1] and large[1:3] == small[1:3]
        assert hash(large) == hash(small)
        assert large.characters == sum(map(len, small))
        assert mg.Corpus(large, "").alphabet == mg.Corpus(small, "").alphabet
        parts = []
        for documents in (large, small):
            try:
                parts.append(mg.Corpus(documents, "x", size).split(0.3, seed=5))
            except mg.CorpusError as error:
                parts.append(str(error))
        assert parts[0] == parts[1]
        # Shuffled, with the random numbers after it, and as tokens and a digest.
        orders = []
        for documents in (large, small):
            rng_of_training = random.Random(7)
            mixed = shuffled(documents, rng_of_training)
            tokens = mg.Tokenizer.from_documents(documents).encode_all(mixed)
            tokens = [array.tolist() for array in tokens]
            orders.append((tuple(mixed), rng_of_training.getstate(), tokens, digest_of(mixed)))
        assert orders[0] == orders[1]


def test_from_4_mb_on_documents_are_one_array(tmp_path, monkeypatch):
    lines = [f"{i:06d}" for i in range(700)]
    path = write(tmp_path / "lines.txt", "\n".join(lines).encode())
    small = mg.Corpus.from_file(path)
    monkeypatch.setattr(_text, "LARGE", 4000)
    large = mg.Corpus.from_file(path)
    assert type(small.documents) is tuple and type(large.documents) is Documents
    assert large == small and large.describe() == small.describe()
    assert pickle.loads(pickle.dumps(large)) == small
    first, second = (mg.Trainer(c, num_steps=3, engine="scalar") for c in (small, large))
    assert first.run().tolist() == second.run().tolist()
    assert first.documents_sha256 == second.documents_sha256
    assert first.model.sample(3) == second.model.sample(3)
    assert first.evaluate(small) == second.evaluate(large)
    slow = mg.Trainer(large, mg.Config(n_embd=4), num_steps=1, engine="reference", batch_size=1)
    assert slow.run()[0] == pytest.approx(
        mg.Trainer(small, mg.Config(n_embd=4), num_steps=1, engine="tape", batch_size=1).run()[0]
    )
    with pytest.raises(ValueError, match="character 'x' at position 1"):
        first.tokenizer.encode_all(_text._large(b"012\n0x1\n", None))


def test_parameters_are_those_of_random_gauss():
    config = mg.Config(n_layer=2, n_embd=12)
    for calls in (0, 1):  # an odd number of calls leaves one of two numbers for the next
        ours, python = random.Random(3), random.Random(3)
        for rng in (ours, python):
            for _ in range(calls):
                rng.gauss(0, 1)
        for block_size in (16, 5):
            config = mg.Config(n_embd=3, n_head=1, block_size=block_size)
            found = init_parameters(config, 27, ours)
            for name, (rows, cols) in config.parameter_shapes(27).items():
                drawn = [[python.gauss(0, 0.08) for _ in range(cols)] for _ in range(rows)]
                assert found[name].tolist() == drawn
            assert ours.getstate() == python.getstate()


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_numbers_for_any_line_end(ends, tmp_path):
    text = ends.join(["anna", "bert", ""]).encode()
    for wrong, message in ((b"a\xff", "is not UTF-8: byte 0xff"), (b"a\0", "holds a NUL")):
        with pytest.raises(mg.CorpusError, match=f"{message} at offset {len(text) + 1}, line 3"):
            mg.Corpus.from_file(write(tmp_path / "wrong.txt", text + wrong))


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("text", ["anna\nbert\n", "Див\nЖив\n", "中文\n"])
def test_utf_16_is_no_text_full_of_nuls(codec, text, tmp_path):
    with pytest.raises(mg.CorpusError, match="save it as UTF-8"):
        mg.Corpus.from_file(write(tmp_path / "wrong.txt", text.encode(codec)))


@pytest.mark.parametrize("word", ["приветмир", "Աննա", "สวัสดี"])
def test_utf_16_without_nuls_is_no_text_either(word, tmp_path):
    path = write(tmp_path / "c.txt", (word * 20).encode("utf-16-le"))
    assert b"\0" not in path.read_bytes() and path.read_bytes().decode()  # nor is it bad UTF-8
    with pytest.raises(mg.CorpusError, match=r"c\.txt is mostly control characters: it is UTF-16"):
        mg.Corpus.from_file(path)
    colours = b"\x1b[1ma\x1b[0m\nb\x1b[1mc\x1b[0m\n"  # a few are text
    assert len(mg.Corpus.from_file(write(tmp_path / "c.txt", colours))) == 2


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero")
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_a_device_without_end(device):
    limits = "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 30,) * 2)\n"
    code = f"from pymicrogpt.corpus import Corpus\nCorpus.from_file({device!r})"
    done = subprocess.run([sys.executable, "-c", limits + code], capture_output=True, text=True)
    expected = "zero holds a NUL at offset 0" if device == "/dev/zero" else "urandom is not UTF-8"
    assert expected in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("seed", [float("nan"), 1.5, "a", None, True])
def test_split_by_a_seed_that_is_no_integer(seed):
    with pytest.raises(TypeError, match="seed must be an integer"):
        mg.Corpus.from_documents(["aa"] * 4).split(0.5, seed)


def test_what_is_no_corpus():
    with pytest.raises(TypeError, match="documents must be a sequence of str, not None"):
        mg.Corpus.from_documents(None)
    assert mg.Corpus((), "x").describe() == "0 documents; source: x"
    with pytest.raises(ValueError, match="seed must be at least 0, not -5"):
        mg.Corpus.from_documents(["aa"] * 4).split(0.5, -5)
