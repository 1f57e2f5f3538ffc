"""The PyTorch forward of docs/weights.md."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from conftest import REPO

import pymicrogpt as mg
from pymicrogpt._init import init_parameters

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


@pytest.mark.parametrize("config", [mg.Config(), mg.Config(3, 24, 3, 9)], ids=["d16", "three"])
def test_the_documented_forward_gives_the_same_logits(tmp_path, monkeypatch, config, capsys):
    monkeypatch.chdir(tmp_path)
    tokenizer = mg.Tokenizer("ab\n😀")
    drawn = init_parameters(config, tokenizer.vocab_size, random.Random(3))
    model = mg.GPT(config, tokenizer, {name: 5.0 * array for name, array in drawn.items()})
    model.save("model")
    model = mg.GPT.load("model")
    blocks = re.findall(r"```python\n(.*?)```", (REPO / "docs/weights.md").read_text(), re.S)
    names = {}
    torch.manual_seed(0)
    exec(next(block for block in blocks if "def forward" in block), names)
    assert capsys.readouterr().out.endswith("\n")

    tokens = [tokenizer.bos, *tokenizer.encode("ba\n😀aab" * 2)[1 : config.block_size]]
    found = names["forward"](names["w"], torch.tensor(tokens), config.n_layer, config.n_head)
    expected = model.logits(tokens)
    # float32 sums of up to 96 terms in each of three layers.
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5 * np.abs(expected).max())

    # And back: what PyTorch writes is a model.
    from safetensors.torch import save_file

    names["w"]["wte"] *= 2
    save_file(names["w"], "model/model.safetensors")
    loaded = mg.GPT.load("model").parameters["wte"]
    assert np.array_equal(loaded, 2 * model.parameters["wte"])
