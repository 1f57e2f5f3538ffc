"""Models on disk: what is saved is what is loaded, and nothing else is."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import stat
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

import pymicrogpt as mg
from pymicrogpt._init import init_parameters
from pymicrogpt.storage import files, weights

CONFIG = mg.Config(n_layer=2, n_embd=12, n_head=3, block_size=6)
# What text tools trip over: lines, a pair of lone surrogates that would make one character,
# beyond 16 bits, marks that combine, NUL.
ALPHABET = ["\0", "\n", "\r", '"', "\\", "`", "a", "\u0301", "\ud83d", "\ude00", "😀"]


def make(config=CONFIG, alphabet=ALPHABET, seed=1, training=None) -> mg.GPT:
    tokenizer = mg.Tokenizer(alphabet)
    drawn = init_parameters(config, tokenizer.vocab_size, random.Random(seed))
    single = {name: array.astype(np.float32) for name, array in drawn.items()}
    return mg.GPT(config, tokenizer, single, random.Random(seed), training)


def assert_same(model: mg.GPT, other: mg.GPT) -> None:
    assert same(model, other)


def same(model: mg.GPT, other: mg.GPT) -> bool:
    return (
        (model.config, model.tokenizer, model.training)
        == (other.config, other.tokenizer, other.training)
    ) and all(
        array.tobytes() == other.parameters[name].tobytes()
        for name, array in model.parameters.items()
    )


@pytest.fixture
def saved(tmp_path):
    make().save(tmp_path)
    return tmp_path


def rewrite(directory: Path, change, metadata=None) -> None:
    """Changes the tensors of a model and writes them with another program."""
    path = directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path, metadata)


def metadata_of(directory: Path) -> dict[str, str]:
    with safetensors.safe_open(directory / "model.safetensors", framework="numpy") as file:
        return file.metadata()


# What is written


def test_saved_is_loaded(tmp_path):
    training = {"corpus": "naïve\n|names| \udcff", "steps": 3, "held_out_loss": 2.0625}
    model = make(training=training)
    directory = tmp_path / "made" / "for this"
    model.save(directory)
    loaded = mg.GPT.load(str(directory))
    assert_same(loaded, model)
    assert loaded.logits([3, 1, 4]).tobytes() == model.logits([3, 1, 4]).tobytes()
    names = {"README.md", "config.json", "model.safetensors"}
    assert set(os.listdir(directory)) == names
    model.save(directory)  # the same again
    assert set(os.listdir(directory)) == names


def test_equal_models_are_equal_files(tmp_path):
    make().save(tmp_path / "a")
    make().save(tmp_path / "b")
    for name in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_plain_safetensors_reads_it(saved):
    tensors = safetensors.numpy.load_file(saved / "model.safetensors")
    shapes = CONFIG.parameter_shapes(len(ALPHABET) + 1)
    assert {name: array.shape for name, array in tensors.items()} == shapes
    for name, array in tensors.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, make().parameters[name])


def test_config_file(saved):
    assert json.loads((saved / "config.json").read_text()) == {
        "format_version": 1,
        "n_layer": 2,
        "n_embd": 12,
        "n_head": 3,
        "block_size": 6,
        "vocab_size": 12,
        "alphabet": ALPHABET,
    }


def test_arrays_in_any_order_of_memory(tmp_path):
    model = make()
    for name, array in model.parameters.items():
        model.parameters[name] = np.asfortranarray(array)
    model.save(tmp_path)
    assert np.array_equal(mg.GPT.load(tmp_path).logits([1, 2]), make().logits([1, 2]))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_permissions_are_those_of_any_new_file(tmp_path):
    before = os.umask(0o027)
    try:
        make().save(tmp_path)
    finally:
        os.umask(before)
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_model_card(tmp_path, monkeypatch):
    corpus = mg.Corpus.from_documents(["anna", "bert", "carla"])
    trainer = mg.Trainer(corpus, CONFIG, num_steps=9, batch_size=2, learning_rate=0.02)
    trainer.run(4)
    model = trainer.model
    model.training["held_out_loss"] = 2.345
    model.save(tmp_path)
    card = (tmp_path / "README.md").read_text()
    for fact in ("documents in memory", "steps: 4 of 9", "learning rate: 0.02", "seed: 42"):
        assert fact in card
    assert "held out loss: 2.345" in card and "'abcelnrt'" in card
    code = re.search(r"```python\n(.*?)```", card, re.S)[1]
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    assert_same(names["model"], mg.GPT.load(tmp_path))
    assert len(code.strip().splitlines()) == 5


def test_the_readme_of_others_stays(tmp_path):
    (tmp_path / "README.md").write_text("# My project\n")
    make().save(tmp_path)
    make(seed=2).save(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# My project\n"
    assert_same(mg.GPT.load(tmp_path), make(seed=2))


@pytest.mark.parametrize("text, words", [('{"name": "x"}', "not from pymicrogpt"), ("[", "JSON")])
def test_the_config_of_others_stays(tmp_path, text, words):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(mg.WeightsError, match=rf"config\.json .*{words}"):
        make().save(tmp_path)
    assert os.listdir(tmp_path) == ["config.json"]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_not_finite_is_not_saved(saved, value):
    model = make(seed=2)
    model.parameters["layer1.attn_wk"][3, 4] = value
    with pytest.raises(mg.WeightsError, match=r"model\.safetensors: tensor layer1\.attn_wk holds"):
        model.save(saved)
    assert_same(mg.GPT.load(saved), make())


def test_what_json_does_not_hold_is_not_saved(saved):
    with pytest.raises(TypeError, match="JSON"):
        make(training={"x": object()}).save(saved)
    assert_same(mg.GPT.load(saved), make())


def test_values_that_are_nested_too_deeply(saved):
    nested: list = []
    for _ in range(500):
        nested = [nested]
    model = make(training={"more": nested})
    with pytest.raises(ValueError, match="training must be of JSON values: they are nested too"):
        model.save(saved)
    assert_same(mg.GPT.load(saved), make())
    header = json.loads(metadata_of(saved)["pymicrogpt"])
    header["training"]["more"] = nested
    rewrite(saved, lambda tensors: None, {"pymicrogpt": json.dumps(header)})
    (saved / "config.json").unlink()
    with pytest.raises(mg.WeightsError, match="its header holds values that are nested too deepl"):
        mg.GPT.load(saved)


# Whenever it stops, one model is there


class Stop:
    """Ends the process at the n-th operation on files, as kill -9 would."""

    def __init__(self, n: int) -> None:
        self.left = n

    def before(self, operation):
        def wrapped(*args, **kwargs):
            self.left -= 1
            if self.left < 0:
                os._exit(9)
            return operation(*args, **kwargs)

        return wrapped

    def install(self) -> None:
        for name in ("replace", "fsync", "unlink"):
            setattr(os, name, self.before(getattr(os, name)))
        Path.unlink = self.before(Path.unlink)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork with threads
@pytest.mark.parametrize("other", [mg.Config(n_embd=8), CONFIG], ids=["shape", "weights"])
def test_killed_at_any_operation(tmp_path, other):
    old = make(training={"seed": 1})
    new = make(other, "xyz" if other != CONFIG else ALPHABET, seed=2, training={"seed": 2})
    seen = set()
    for n in range(100):
        directory = tmp_path / str(n)
        old.save(directory)
        child = os.fork()
        if child == 0:
            try:
                Stop(n).install()
                new.save(directory)
            finally:
                os._exit(0)
        finished = os.waitpid(child, 0)[1] == 0
        loaded = mg.GPT.load(directory)
        assert same(loaded, old) or same(loaded, new)
        seen.add(same(loaded, new))
        card = directory / "README.md"
        if card.exists():
            assert f"seed: {loaded.training['seed']}" in card.read_text()
        if (directory / "config.json").exists():
            described = json.loads((directory / "config.json").read_text())
            assert described["n_embd"] == loaded.config.n_embd
        new.save(directory)  # and nothing is in the way of the next
        assert_same(mg.GPT.load(directory), new)
        if finished:
            break
    assert finished and n > 5 and seen == {False, True}


def test_a_full_disk(saved, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*model\.safetensors"):
        make(seed=2).save(saved)
    monkeypatch.undo()
    assert_same(mg.GPT.load(saved), make())
    assert set(os.listdir(saved)) == {"README.md", "config.json", "model.safetensors"}


@pytest.mark.parametrize("number, kept", [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_syncs_no_directories(tmp_path, monkeypatch, number, kept):
    intact = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, "no")
        intact(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    if kept:
        make().save(tmp_path)
        assert_same(mg.GPT.load(tmp_path), make())
    else:
        with pytest.raises(OSError, match="no"):
            make().save(tmp_path)


@pytest.mark.parametrize("lost", ["a bit", "the header"])
def test_what_reads_back_differently_is_not_kept(saved, monkeypatch, lost):
    intact = safetensors.numpy.save

    def damaged(tensors, metadata):
        if lost == "the header":
            return intact(tensors)
        data = bytearray(intact(tensors, metadata))
        data[-1] ^= 1
        return bytes(data)

    monkeypatch.setattr(safetensors.numpy, "save", damaged)
    with pytest.raises(mg.WeightsError, match=r"damaged|did not read back"):
        make(seed=2).save(saved)
    assert_same(mg.GPT.load(saved), make())


def test_leftovers_of_killed_writers(tmp_path):
    old, young = tmp_path / ".model.safetensors.0.tmp", tmp_path / ".model.safetensors.1.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1e9, 1e9))
    make().save(tmp_path)
    assert not old.exists() and young.exists()


def test_write_atomically_replaces(tmp_path):
    path = tmp_path / "a" / "file"
    for data in (b"one", b"", b"three"):
        files.write_atomically(path, data)
        assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["file"]


# What is refused


def delete(tensors):
    del tensors["layer1.mlp_fc1"]


def add(tensors):
    tensors["layer2.mlp_fc1"] = tensors["layer1.mlp_fc1"].copy()


def reshape(tensors):
    tensors["layer0.mlp_fc1"] = np.ascontiguousarray(tensors["layer0.mlp_fc1"].T)


def widen(tensors):
    tensors["wpe"] = tensors["wpe"].astype(np.float64)


def halve(tensors):
    tensors["wpe"] = tensors["wpe"].astype(np.float16)


def poison(tensors):
    tensors["lm_head"][2, 5] = np.nan


@pytest.mark.parametrize("with_header", [False, True])
@pytest.mark.parametrize(
    "change, words",
    [
        (delete, r"tensor layer1\.mlp_fc1 is missing"),
        (add, r"tensor 'layer2\.mlp_fc1' is not part of this model"),
        (reshape, r"tensor layer0\.mlp_fc1 must have shape \(48, 12\), not \(12, 48\)"),
        (widen, "tensor wpe must be F32, not F64"),
        (halve, "tensor wpe must be F32, not F16"),
        (poison, "tensor lm_head holds NaN or infinity"),
    ],
)
def test_other_tensors(saved, change, words, with_header):
    rewrite(saved, change, metadata_of(saved) if with_header else None)
    with pytest.raises(mg.WeightsError, match=rf"model\.safetensors: {words}"):
        mg.GPT.load(saved)


def test_weights_by_other_programs(saved):
    def scale(tensors):
        tensors["wte"] *= 2

    rewrite(saved, scale)
    model = make()
    model.parameters["wte"] *= 2
    assert_same(mg.GPT.load(saved), model)
    (saved / "config.json").unlink()
    with pytest.raises(mg.WeightsError, match=r"does not say which model .*config\.json does not"):
        mg.GPT.load(saved)


def test_changed_under_the_same_header(saved):
    def change(tensors):
        tensors["wte"][0, 0] += 1

    rewrite(saved, change, metadata_of(saved))
    with pytest.raises(mg.WeightsError, match=r"model\.safetensors is damaged.*SHA-256"):
        mg.GPT.load(saved)


def change_config(directory: Path, **changes) -> None:
    path = directory / "config.json"
    described = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in described.items() if v is not None}))


CONFIG_CHANGES = [
    ({"n_head": 4}, r"n_head is 4 there and 3 in the weights", None),
    ({"n_layer": 2_000_000_000}, "n_layer is", r"15 tensors, too few for n_layer = 2000000000"),
    ({"n_embd": 2**40}, "n_embd is", "at most 2147483647"),
    ({"n_embd": 24}, "n_embd is", r"tensor wte must have shape \(12, 24\), not \(12, 12\)"),
    ({"n_head": 5}, "n_head is", "divisible"),
    ({"block_size": None}, "block_size is None", "does not say block_size"),
    ({"block_size": "6"}, "block_size is '6'", "must be an integer"),
    ({"format_version": 2}, "format_version is 2", "format_version 2; this pymicrogpt reads 1"),
    ({"alphabet": "abcdefghijk"}, "alphabet is", "must be a list"),
    ({"alphabet": [*ALPHABET[:-1], "\0"]}, "alphabet is", "more than once"),
    ({"alphabet": [*ALPHABET[:-1], 7]}, "alphabet is", "characters"),
    ({"alphabet": ALPHABET[1:]}, "alphabet is", "vocab_size is 12"),
    ({"hidden": 1}, "hidden is 1", None),
]


@pytest.mark.parametrize("changes, contradiction, alone", CONFIG_CHANGES)
def test_another_config(saved, changes, contradiction, alone):
    change_config(saved, **changes)
    with pytest.raises(mg.WeightsError, match=rf"config\.json contradicts .*{contradiction}"):
        mg.GPT.load(saved)
    if alone is not None:  # the only source, beside weights without a header
        rewrite(saved, lambda tensors: None)
        with pytest.raises(mg.WeightsError, match=alone):
            mg.GPT.load(saved)


def test_loaded_while_another_process_saves(saved, monkeypatch):
    intact = weights._read_config_file
    other = make(mg.Config(n_embd=8), seed=2)

    def saved_meanwhile(path):
        described = intact(path)
        monkeypatch.undo()
        other.save(saved)
        return described

    monkeypatch.setattr(weights, "_read_config_file", saved_meanwhile)
    assert_same(mg.GPT.load(saved), other)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "\xff", '"x"'])
def test_config_that_is_none(saved, text):
    (saved / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(mg.WeightsError, match=r"config\.json is not"):
        mg.GPT.load(saved)


def test_the_weights_alone_are_a_model(saved):
    (saved / "config.json").unlink()
    (saved / "README.md").unlink()
    assert_same(mg.GPT.load(saved), make())


def test_no_such_file(tmp_path):
    with pytest.raises(mg.WeightsError, match=r"model\.safetensors does not exist"):
        mg.GPT.load(tmp_path)
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(mg.WeightsError, match=r"model\.safetensors is no regular file"):
        mg.GPT.load(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs")
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_what_never_ends_is_not_read(saved, name):
    (saved / name).unlink()
    for make in (os.mkfifo, lambda path: os.symlink("/dev/zero", path)):
        make(saved / name)
        with pytest.raises(mg.WeightsError, match=f"{name} is no regular file"):
            mg.GPT.load(saved)
        (saved / name).unlink()


def test_sizes_are_checked_before_memory_is_taken(tmp_path):
    """A header that promises a terabyte, in a file of a hundred bytes."""
    header = json.dumps({"wte": {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}})
    data = struct.pack("<Q", len(header)) + header.encode() + b"\0" * 16
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(mg.WeightsError, match=r"model\.safetensors is not a whole"):
        mg.GPT.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    with pytest.raises(mg.WeightsError, match=r"model\.safetensors is not a whole"):
        mg.GPT.load(tmp_path)


def test_cut_short(saved):
    path = saved / "model.safetensors"
    data = path.read_bytes()
    for length in [*range(0, len(data), 997), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(mg.WeightsError, match=r"model\.safetensors"):
            mg.GPT.load(saved)
    path.write_bytes(data + b"\0")
    with pytest.raises(mg.WeightsError, match=r"model\.safetensors"):
        mg.GPT.load(saved)


def test_one_flipped_bit_is_noticed_or_harmless(saved):
    path = saved / "model.safetensors"
    data = path.read_bytes()
    rng = random.Random(5)
    header = 8 + struct.unpack("<Q", data[:8])[0]
    places = [*rng.sample(range(header), 150), *rng.sample(range(header, len(data)), 100)]
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            # A flip in the word that marks the description hides it; config.json stands in.
            assert_same(mg.GPT.load(saved), make())
            assert place < header
        except mg.WeightsError as error:
            assert "model.safetensors" in str(error)


# Any model


characters = st.characters() | st.integers(0xD800, 0xDFFF).map(chr)  # surrogates too


@settings(max_examples=30, deadline=None)
@given(
    heads=st.integers(1, 3),
    head_dim=st.integers(1, 3),
    n_layer=st.integers(1, 3),
    block_size=st.integers(1, 5),
    alphabet=st.lists(characters, min_size=1, max_size=8, unique=True),
    scale=st.sampled_from([0.0, -0.0, 1e-45, 1e-38, 1.0, 3e38]),
)
def test_any_model_survives(
    tmp_path_factory, heads, head_dim, n_layer, block_size, alphabet, scale
):
    config = mg.Config(n_layer, heads * head_dim, heads, block_size)
    model = make(config, alphabet)
    for name, array in model.parameters.items():
        model.parameters[name] = (np.sign(array) * scale).astype(np.float32).astype(np.float64)
    directory = tmp_path_factory.mktemp("model")
    model.save(directory)
    assert_same(mg.GPT.load(directory), model)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=300), framed=st.booleans())
def test_any_bytes_are_refused(tmp_path_factory, data, framed):
    directory = tmp_path_factory.mktemp("model")
    if framed:
        data = struct.pack("<Q", len(data)) + data
    (directory / "model.safetensors").write_bytes(data)
    with pytest.raises(mg.WeightsError, match=r"model\.safetensors"):
        mg.GPT.load(directory)
