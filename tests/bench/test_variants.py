"""The variants: which there are, and what their files must have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pymicrogpt
from bench.run_all import main
from bench.task.task import Task
from bench.task.workload import WORKLOADS
from bench.variants.variant import Variant, load_variants

NEW = "from bench.variants.variant import Variant\nVARIANTS = [Variant"

pytestmark = pytest.mark.usefixtures("small_corpus")


def test_every_implementation_of_the_design_has_a_variant():
    expected = {"cpython", "cpython-nogc", "pypy", "rust-tape", "numpy"}
    expected |= {"torch-eager", "torch-compile", "torch-gpu", "jax", "jax-gpu"}
    expected |= {"numba", "wasm-scalar", "wasm-simd"}
    expected |= {info.name for info in pymicrogpt.engines()} - {"reference"}
    variants = load_variants()
    assert expected <= set(variants)
    for name, variant in variants.items():
        assert variant.name == name
        assert variant.variation_of in {"", *variants}
        reason = variant.available()
        assert reason is None or len(reason) > 10
    autograd = [v for v in variants.values() if v.group in ("pure Python", "autograd tape")]
    assert all(variant.batches == (1,) for variant in autograd)


def test_labels_tell_rows_apart():
    labels = [variant.label for variant in load_variants().values()]
    assert len(set(labels)) == len(labels)


def test_a_variant_without_a_warm_up_must_be_steady():
    Variant("v", "v", "other", lambda task: None, warmup=0.0, steady=True)
    with pytest.raises(ValueError, match="without a warm-up it must be steady"):
        Variant("v", "v", "other", lambda task: None, warmup=0.0)


def test_rows_without_sparsity_train_the_same_to_the_last_bit(tmp_path):
    engine = next((e.name for e in pymicrogpt.engines() if e.available and e.simd), None)
    if engine is None:
        pytest.skip("no SIMD engine runs here")
    task = Task.prepare(WORKLOADS["d32"], 16, pymicrogpt.Corpus.load(), tmp_path)
    variants = load_variants()
    names = (engine, f"{engine}-nosparsity", f"{engine}-plain")
    losses = [variants[name].open(task).run(100)[0] for name in names]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]  # other sums
    np.testing.assert_allclose(losses[0][:5], losses[2][:5], rtol=1e-4)
    options = [variants[name].open.keywords for name in names]
    assert options[0] == {}
    assert options[1] == {"skip_zeros": False}
    assert options[2] == {"skip_zeros": False, "prefix_sharing": False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no list VARIANTS"),
        ("from bench.variants.pure import VARIANTS", "there is a variant cpython already"),
        ("raise SystemExit(0)", "cannot be loaded: SystemExit: 0"),
        ("raise OSError('two\\nlines')", "cannot be loaded: OSError: two lines"),
        ("VARIANTS = [1]", "VARIANTS holds one of type int, which is no Variant"),
        (NEW + "('a,b', 'a', 'other', print)]", "name must not be 'a,b'"),
        (NEW + "('a', 'a\\x1b', 'other', print)]", "label must not be 'a\\x1b'"),
        (NEW + "('a', 'a', 'other', None)]", "open must not be None"),
        (NEW + "('a', 'a', 'other', print, batches=1)]", "batches must not be 1"),
        (NEW + "('a', 'a', 'other', print, workloads='d16')]", "workloads must not be 'd16'"),
        (NEW + "('a', 'a', 'other', print, timeout=1e99)]", "timeout must not be 1e+99"),
    ],
)
def test_bad_variant_files_are_named(text, message, capsys):
    Path("extra.py").write_text(text, encoding="utf-8")
    assert main(["--list", "--extra", "extra.py"]) == 2
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_variant_that_cannot_even_say_why_it_is_not_here(capsys):
    text = "import sys\n" + NEW + "('a', 'a', 'other', print, lambda: sys.exit('no'))]"
    Path("extra.py").write_text(text, encoding="utf-8")
    assert main(["--list", "--extra", "extra.py"]) == 0
    assert "available() failed: SystemExit: no" in capsys.readouterr().out
