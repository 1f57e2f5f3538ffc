"""The WebAssembly modules compute what the other float32 engines do, within the same bounds; see
test_parity.py. All memory around their state is NaN meanwhile, and stays so."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from conftest import SIMD as NATIVE
from test_parity import CASES, SHAPES, Case, exact_gradients, exact_training, quiet_band, state_of
from wasm import WasmEngine, compiled, compiled_kernel_tests, loaded, tool

import pymicrogpt as mg

KINDS = ["relaxed", "simd", "scalar", "tape"]
SIMD = ["relaxed", "simd"]
FLOAT32 = [*SIMD, "scalar"]


@pytest.fixture(params=FLOAT32)
def kind(request) -> str:
    return request.param


def engine_of(trainer: mg.Trainer, kind: str) -> WasmEngine:
    return WasmEngine(trainer, compiled(kind))


def restore(engine: WasmEngine, state: dict) -> None:
    engine.seek(state["step"])
    for slot in ("parameter", "first_moment", "second_moment"):
        engine.set(slot, state[slot])


def test_the_tape_is_the_original(golden_d16):
    """In float64, to the bound of the project."""
    losses = engine_of(golden_d16.trainer("tape"), "tape").run(golden_d16.num_steps)
    np.testing.assert_allclose(losses, golden_d16.losses, rtol=0, atol=1e-9)


def test_trajectory(kind, golden_d16):
    engine = engine_of(golden_d16.trainer("tape"), kind)
    losses = engine.run(golden_d16.num_steps)
    difference = np.abs(losses - golden_d16.losses)
    assert difference[0] <= 1e-6 * golden_d16.losses[0]
    assert (difference <= quiet_band(golden_d16.losses))[:100].all()
    assert difference.max() <= 0.3
    assert abs(np.mean(losses - golden_d16.losses)) <= 2e-3


def test_trajectory_in_pieces(kind, golden_d16):
    """All steps against the quiet band: 100 at a time, each piece from the exact state."""
    exact = golden_d16.trainer("tape")
    engine = engine_of(exact, kind)
    inside = []
    for start in range(0, golden_d16.num_steps, 100):
        restore(engine, state_of(exact))
        expected = exact.run(min(100, golden_d16.num_steps - start))
        inside.append((np.abs(engine.run(len(expected)) - expected) <= quiet_band(expected)).all())
    assert inside.count(False) <= 1


# The module of SIMD takes all shapes, alphabets and batches, the others all shapes.
@pytest.mark.parametrize(
    ("kind", "case"), [(k, c) for k in KINDS for c in (CASES if k == "simd" else SHAPES)], ids=str
)
def test_gradients_and_training(case: Case, kind):
    trainer = case.trainer("tape")
    engine = engine_of(trainer, kind)
    for state, expected_loss, expected in exact_gradients(case):
        restore(engine, state)
        assert engine.loss() == pytest.approx(expected_loss, rel=1e-6)
        loss, flat = engine.loss_and_gradients()
        assert loss == pytest.approx(expected_loss, rel=1e-6)
        if kind == "tape":
            flat_expected = np.concatenate([g.ravel() for g in expected.values()])
            np.testing.assert_allclose(flat, flat_expected, rtol=0, atol=1e-12)
        total = np.sqrt(sum(np.sum(g**2) for g in expected.values()))
        start = 0
        for name, gradient in expected.items():
            found = flat[start : start + gradient.size].reshape(gradient.shape)
            start += gradient.size
            norm = np.linalg.norm(gradient)
            # The bounds of test_parity.check_gradients().
            cancels = norm < 1e-3 * total or case.n_embd == 1
            bound = max(1e-5 * norm, 2e-7 * total if cancels else 0.0)
            assert np.linalg.norm(found - gradient) <= bound, name
    trainer = case.trainer("tape", count=7)
    training = engine_of(trainer, kind)
    exact = exact_training(case)
    assert np.all(np.abs(training.run(10) - exact) <= 1e-6 * exact + 1e-4)
    engine.assert_slack_is_untouched()
    training.assert_slack_is_untouched()


@pytest.mark.parametrize("kind", SIMD)
def test_generation(kind, golden_d16):
    """The documents of the native generator, from the same stream of random numbers."""
    if not NATIVE:
        pytest.skip("no SIMD engine of this CPU generates")
    trainer = golden_d16.trainer("tape", num_steps=200, batch_size=16)
    trainer.run(200)
    engine = engine_of(trainer, kind)
    alphabet, T = trainer.tokenizer.alphabet, trainer.config.block_size
    prompt = np.array(trainer.tokenizer.encode("an")[1:-1], "<i4")
    at = [engine.put(prompt), len(prompt), engine.allocate(4 * 16 * T), engine.allocate(64)]
    engine.call("generate", engine.training, 16, 0.5, 7.0, 5, *at, engine.allocate(3 * 64))
    tokens = engine.take(at[2], 16 * T, "<i4").reshape(16, T)
    lengths = engine.take(at[3], 16, "<i4")
    texts = ["".join(alphabet[t] for t in row[:n]) for row, n in zip(tokens, lengths, strict=True)]
    expected = trainer.model.generate(16, 0.5, seed=7, engine=NATIVE[0], top_k=5, prompt="an")
    # A token whose random number lies within rounding of a boundary may be another one.
    assert sum(a == b for a, b in zip(texts, expected, strict=True)) >= 15
    assert all(text.startswith("an") for text in texts)


@pytest.mark.parametrize("kind", SIMD)
def test_no_denormals_are_left(kind):
    """WebAssembly cannot flush them: moments of a letter that came once, 600 steps ago, are zero.
    By beta1^600 they would be the least denormal there is, which beta1 times rounds to itself."""
    trainer = mg.Trainer(
        mg.Corpus.from_documents(["ann", "bob", "abba"] * 400 + ["z"]),
        engine="tape",
        batch_size=1,
        num_steps=3000,
    )
    engine = engine_of(trainer, kind)
    engine.run(trainer.documents.index("z") + 600)
    stored = np.abs(engine.get("first_moment")) / (1 - 0.85)  # as the kernels keep them
    assert not ((stored > 0) & (stored < 1.2e-38)).any()
    row = trainer.tokenizer.encode("z")[1] * 16  # of wte
    assert (stored[row : row + 16] == 0).all()


def test_a_module_that_computes_something_else_is_found(golden_d16):
    """The bounds above can fail: corrections of Adam that are off by a thousandth of beta^t."""
    path = compiled("scalar", "-D__builtin_pow(x,y)=(__builtin_pow(x,y)*1.001)")
    expected = golden_d16.losses[:100]
    losses = WasmEngine(golden_d16.trainer("tape"), path).run(len(expected))
    assert not (np.abs(losses - expected) <= quiet_band(expected)).all()


def test_kernels():
    """Every operation of V and every kernel against plain loops: tests/cpp/test_kernels.cpp."""
    wasmtime = pytest.importorskip("wasmtime")
    program = compiled_kernel_tests()
    engine, module = loaded(program)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    store, wasi = wasmtime.Store(engine), wasmtime.WasiConfig()
    output = program.with_suffix(".txt")
    wasi.stdout_file = str(output)
    store.set_wasi(wasi)
    code = 0
    try:
        linker.instantiate(store, module).exports(store)["_start"](store)
    except wasmtime.ExitTrap as end:
        code = end.code
    text = output.read_text()
    assert code == 0, text
    assert "attention" in text


@pytest.mark.parametrize("kind", KINDS)
def test_size(kind):
    assert len(gzip.compress(compiled(kind).read_bytes(), 9)) < 40_000


def test_size_of_the_page():
    modules = {kind: compiled(kind).read_bytes() for kind in KINDS}
    assert len(tool().page(modules, tool().sources_of_web()).encode()) < 600_000


def test_the_script_of_a_page_is_bundled_in_order():
    sources = {
        "a": 'import { b } from "./b.js";\nexport const a = b;\n',
        "b": "export const b = 1;\n",
    }
    assert tool().bundle("a", sources) == "const b = 1;\nconst a = b;"
    with pytest.raises(ValueError, match="several of its modules define"):
        tool().bundle("a", {**sources, "b": "export const b = 1;\nconst a = 2;\n"})
