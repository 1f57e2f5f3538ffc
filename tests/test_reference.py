"""reference.py by itself: derivatives, Adam, the script. Its agreement with the original and with
the other engines is tested in test_parity.py."""

from __future__ import annotations

import math
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPO, values_of

import pymicrogpt as mg
from pymicrogpt import reference
from pymicrogpt._init import init_parameters
from pymicrogpt.reference import Reference, Value

SCRIPT = REPO / "pymicrogpt" / "reference.py"


@pytest.mark.parametrize(
    "f",
    [
        lambda x, y: x + y,
        lambda x, y: x - y,
        lambda x, y: x * y,
        lambda x, y: x / y,
        lambda x, y: -x * 3 + 2 * y,
        lambda x, y: 1.5 + x - 0.5 + y / 4,
        lambda x, y: x**3 + y**-0.5,
        lambda x, y: x.exp() * y.log(),
        lambda x, y: x.relu() + (-y).relu(),
        lambda x, y: x * x * y + x * y,  # used more than once
        lambda x, y: reference.rmsnorm([x, y, x * y])[0],
        lambda x, y: reference.softmax([x, y, x * y])[1],
        lambda x, y: reference.linear([x, y], [[y, x], [x, x]])[1],
    ],
)
def test_derivatives_by_central_differences(f):
    x, y, h = 0.7, 1.3, 1e-5
    inputs = Value(x), Value(y)
    f(*inputs).backward()

    def at(a, b):
        return f(Value(a), Value(b)).data

    # Truncation h^2 f'''/6 < 1e-9 here, cancellation eps |f| / h < 1e-10.
    assert inputs[0].grad == pytest.approx((at(x + h, y) - at(x - h, y)) / (2 * h), abs=2e-9)
    assert inputs[1].grad == pytest.approx((at(x, y + h) - at(x, y - h)) / (2 * h), abs=2e-9)


def test_backward_adds_up_and_scales():
    x = Value(3.0)
    y = x * x
    y.backward(0.5)
    assert x.grad == 3.0
    (x * 2.0).backward()
    assert x.grad == 5.0


def test_depth_is_not_bounded_by_recursion():
    x = Value(1.0)
    y = x
    for _ in range(10 * sys.getrecursionlimit()):
        y = y + 1.0
    y.backward()
    assert x.grad == 1.0


def test_softmax_of_large_logits():
    assert [v.data for v in reference.softmax([Value(1e4), Value(-1e4)])] == [1.0, 0.0]


def test_parameters_are_those_of_the_package():
    config = mg.Config(n_layer=2, n_embd=6, n_head=2, block_size=5)
    ours = init_parameters(config, 9, random.Random(7))
    theirs = reference.draw_parameters(
        random.Random(7), vocab_size=9, n_layer=2, n_embd=6, block_size=5
    )
    assert list(ours) == list(theirs)
    for name in ours:
        assert ours[name].tolist() == theirs[name]


def small(documents=((3, 0, 1, 2, 0, 3), (3, 2, 3)), **settings) -> Reference:
    tensors = reference.draw_parameters(
        random.Random(5), vocab_size=4, n_layer=2, n_embd=6, block_size=4
    )
    return Reference([list(d) for d in documents], tensors, n_head=2, **settings)


def test_gradients_by_central_differences():
    model = small()
    model.gradient()
    h = 1e-5
    for rows in model.tensors.values():
        for p in (rows[0][1], rows[1][3], rows[-1][-1]):
            gradient, x = p.grad, p.data
            p.data = x + h
            above = model.loss(model.documents[0]).data
            p.data = x - h
            below = model.loss(model.documents[0]).data
            p.data = x
            # Truncation h^2 f'''/6 ~ 1e-10, cancellation eps * 1.4 / h ~ 3e-11.
            assert gradient == pytest.approx((above - below) / (2 * h), abs=2e-9)


def test_batch_is_the_mean_of_its_documents():
    batch = small(batch_size=3)  # document 0 comes twice: 0, 1, 0
    loss = batch.gradient()
    one = small()
    expected_loss, expected = 0.0, 0.0
    for document, weight in ((0, 2 / 3), (1, 1 / 3)):
        one.steps_done = document
        expected_loss += weight * one.gradient()
        expected += weight * np.array([p.grad for p in one.params])
    # Sums of a few products of magnitude <= 1: some eps.
    assert loss == pytest.approx(expected_loss, rel=1e-14)
    np.testing.assert_allclose([p.grad for p in batch.params], expected, atol=1e-14)


def test_a_gradient_that_is_repeated_is_the_same():
    model = small()
    assert model.gradient() == model.gradient()
    first = [p.grad for p in model.params]
    model.gradient()
    assert [p.grad for p in model.params] == first


def test_adam():
    model = small(num_steps=10, learning_rate=0.1, beta1=0.5, beta2=0.75, eps=0.25)
    p = model.params[0]
    m = v = 0.0
    x = p.data
    for step, g in enumerate((3.0, -1.0, 0.5)):
        for q in model.params:
            q.grad = g
        model.update()
        m = 0.5 * m + 0.5 * g
        v = 0.75 * v + 0.25 * g * g
        rate = 0.1 * (1 - step / 10)
        corrected = (m / (1 - 0.5 ** (step + 1)), v / (1 - 0.75 ** (step + 1)))
        x -= rate * corrected[0] / (math.sqrt(corrected[1]) + 0.25)
        assert p.data == pytest.approx(x, rel=1e-14)  # a few operations, each eps/2
    assert model.steps_done == 3


def test_long_documents_use_block_size_positions():
    model = small([[3, 0, 1, 2, 0, 1, 1, 3]])
    assert model.loss([3, 0, 1, 2, 0, 1, 1, 3]).data == model.loss([3, 0, 1, 2, 0]).data
    model.gradient()
    assert np.abs(values_of(model, "grad")["wpe"][3]).max() > 0


def test_sampling_ends_at_bos_or_block_size():
    rng = random.Random(3)
    model = small()
    samples = [model.sample(rng, temperature=2.0) for _ in range(50)]
    assert all(3 not in tokens for tokens in samples)
    assert {len(tokens) for tokens in samples} == {0, 1, 2, 3, 4}


def run_script(python, *arguments):
    # -S leaves out site-packages: the standard library is all that it may use.
    return subprocess.run(
        [python, "-S", str(SCRIPT), *map(str, arguments)], capture_output=True, text=True
    )


@pytest.fixture
def corpus_file(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("\ufeffzoë\r\nanna\n\n  bert \nann\n", encoding="utf-8")
    return path


ARGUMENTS = ["--n-embd=8", "--n-head=2", "--block-size=4", "--num-steps=5", "--seed=3"]


def test_script(corpus_file):
    result = run_script(sys.executable, "--corpus", corpus_file, *ARGUMENTS)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.split("\n")
    trainer = mg.Trainer(
        mg.Corpus.from_file(corpus_file),
        mg.Config(n_embd=8, n_head=2, block_size=4),
        engine="reference",
        batch_size=1,
        num_steps=5,
        seed=3,
    )
    losses = trainer.run()
    assert lines[0] == "4 documents, 10 tokens, 960 parameters"
    assert lines[1:6] == [f"step    {i + 1} /    5  loss {x:.4f}" for i, x in enumerate(losses)]
    assert lines[6:] == [*trainer.model.sample(20), ""]


def test_script_under_pypy_prints_the_same(corpus_file):
    pypy = shutil.which("pypy3") or shutil.which("pypy")
    if not pypy:
        pytest.skip("PyPy is not installed")
    arguments = ("--corpus", corpus_file, *ARGUMENTS)
    assert run_script(pypy, *arguments).stdout == run_script(sys.executable, *arguments).stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--corpus", "no-such-file"], "no-such-file"),
        (["--n-head", "3"], "divisible"),
        (["--num-steps", "0"], "at least 1"),
        (["--n-embd", "x"], "invalid int"),
    ],
)
def test_script_errors(corpus_file, arguments, message):
    result = run_script(sys.executable, "--corpus", corpus_file, *arguments)
    assert result.returncode == 2
    assert message in result.stderr and "Traceback" not in result.stderr
