from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

import pymicrogpt as mg
from pymicrogpt import _core


def test_defaults_are_the_original():
    config = mg.Config()
    assert (config.n_layer, config.n_embd, config.n_head, config.block_size) == (1, 16, 4, 16)
    assert config.head_dim == 4
    assert config.num_params(27) == 4192  # as the original prints


def test_parameter_shapes_in_order():
    assert list(
        mg.Config(n_layer=2, n_embd=6, n_head=3, block_size=5).parameter_shapes(9).items()
    ) == [
        ("wte", (9, 6)),
        ("wpe", (5, 6)),
        ("lm_head", (9, 6)),
        ("layer0.attn_wq", (6, 6)),
        ("layer0.attn_wk", (6, 6)),
        ("layer0.attn_wv", (6, 6)),
        ("layer0.attn_wo", (6, 6)),
        ("layer0.mlp_fc1", (24, 6)),
        ("layer0.mlp_fc2", (6, 24)),
        ("layer1.attn_wq", (6, 6)),
        ("layer1.attn_wk", (6, 6)),
        ("layer1.attn_wv", (6, 6)),
        ("layer1.attn_wo", (6, 6)),
        ("layer1.mlp_fc1", (24, 6)),
        ("layer1.mlp_fc2", (6, 24)),
    ]


@pytest.mark.parametrize("n_layer, n_embd, n_head, block_size", [(1, 16, 4, 16), (3, 10, 5, 7)])
def test_the_engines_have_the_same_tensors(n_layer, n_embd, n_head, block_size):
    config = mg.Config(n_layer=n_layer, n_embd=n_embd, n_head=n_head, block_size=block_size)
    here, start = [], 0
    for name, shape in config.parameter_shapes(9).items():
        here.append((name, shape, start))
        start += shape[0] * shape[1]
    assert _core.tensors(**dataclasses.asdict(config), vocab_size=9) == here


@pytest.mark.parametrize("field", ["n_layer", "n_embd", "n_head", "block_size"])
@pytest.mark.parametrize("value", [True, 4.0, "4", None, [4]])
def test_not_an_integer(field, value):
    with pytest.raises(TypeError, match=f"{field} must be an integer, not"):
        mg.Config(**{field: value})


@pytest.mark.parametrize("field", ["n_layer", "n_embd", "n_head", "block_size"])
@pytest.mark.parametrize("value, message", [(0, "at least 1"), (-4, "at least 1"), (2**31, "most")])
def test_out_of_range(field, value, message):
    with pytest.raises(ValueError, match=f"{field} must be at .*{message.split()[-1]}"):
        mg.Config(**{field: value})


def test_n_embd_must_be_divisible_by_n_head():
    with pytest.raises(ValueError, match="16 is not divisible by 3"):
        mg.Config(n_head=3)


def test_numpy_integers_become_ints():
    config = mg.Config(n_embd=np.int64(32))
    assert type(config.n_embd) is int
    assert config == mg.Config(n_embd=32)


def test_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        mg.Config().n_embd = 3


def test_public_names():
    assert set(mg.__all__) <= set(dir(mg))
    for name in mg.__all__:
        assert getattr(mg, name) is not None
    assert callable(mg.engines)  # the function, not the module of that name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mg.nothing


def test_import_loads_neither_numpy_nor_the_compiled_engines():
    code = (
        "import sys, pymicrogpt, pymicrogpt.reference\n"
        "assert 'numpy' not in sys.modules and 'pymicrogpt._core' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
