"""The page, as a reader opens it: in real browsers, from a folder, without a network."""

from __future__ import annotations

import functools
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from wasm import compiled, tool

import pymicrogpt as mg

STEPS = 60  # of a training of the ladder; the page has 1,000
ROWS = 9


@functools.cache
def html(*changes: tuple[str, str, str]) -> str:
    """index.html, with shorter trainings and other changes: (script, text, what replaces it)."""
    sources = dict(tool().sources_of_web())
    shorter = (
        ("model", "numSteps: 1000,", f"numSteps: {STEPS},"),
        ("worker", "WARM_SECONDS = 0.4", "WARM_SECONDS = 0.02"),
    )
    for name, before, after in (*shorter, *changes):
        assert sources[name].count(before) == 1, before
        sources[name] = sources[name].replace(before, after)
    return tool().page({name: compiled(name).read_bytes() for name in tool().MODULES}, sources)


class Page:
    """The page in a browser, as its reader has it."""

    def __init__(self, browser: Browser, folder: Path) -> None:
        self.browser = browser
        self.folder = folder

    def open(self, *changes: tuple[str, str, str], width: int = 1280) -> None:
        self.browser.console.clear()
        file = self.folder / "index.html"
        file.write_text(html(*changes), encoding="utf-8")
        self.browser.open(file, width)
        self.browser.wait_until("!document.getElementById('start').disabled")

    def run_ladder(self) -> dict[str, dict[str, str]]:
        """Presses the button and waits: what each row shows, by kind/batch."""
        runs = self.browser.run("Number(document.body.dataset.runs ?? 0)")
        self.click("start")
        self.browser.wait_until(f"document.body.dataset.runs == {runs + 1}")
        rows = self.browser.run(
            "[...document.querySelectorAll('#rows li[data-row]')]"
            ".map(e => ({...e.dataset, text: e.innerText}))"
        )
        assert len(rows) == ROWS
        return {row["row"]: row for row in rows}

    def click(self, name: str) -> None:
        self.browser.run(f"document.getElementById('{name}').click()")

    def text(self, name: str) -> str:
        return self.browser.run(f"document.getElementById('{name}').textContent")

    def fill(self, **fields: object) -> None:
        for name, value in fields.items():
            target = f"document.getElementById({json.dumps(name.replace('__', '-'))})"
            self.browser.run(
                f"({target}.value = {json.dumps(str(value))}, "
                f"{target}.dispatchEvent(new Event('input', {{bubbles: true}})))"
            )

    def assert_clean(self) -> None:
        assert self.browser.console == []
        assert self.browser.requests == []


@pytest.fixture(params=["chromium", "firefox"], scope="module")
def browser(request, tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("the browsers of Debian")
    downloads = tmp_path_factory.mktemp("downloads")
    opened = Browser(request.param, downloads)
    opened.downloads = downloads
    yield opened
    opened.close()


@pytest.fixture
def page(browser, tmp_path) -> Page:
    return Page(browser, tmp_path)


@functools.cache
def exact_names() -> list[str]:
    trainer = mg.Trainer(
        mg.Corpus._embedded("for a test"), engine="tape", batch_size=1, num_steps=STEPS
    )
    trainer.run()
    return trainer.model.sample(20)


def test_the_ladder(page):
    page.open()
    rows = page.run_ladder()
    for name, row in rows.items():
        if name.startswith("relaxed") and page.browser.name == "firefox":
            assert row["status"] in ("done", "absent")
            continue
        assert row["status"] == "done", row
        assert float(row["microseconds"]) > 0
        if name.endswith("/1") and name != "original/1":
            # The band of test_parity.py, over a few steps.
            assert float(row["difference"]) <= 2e-5
    # The names that the original draws under CPython, to the letter.
    names = page.browser.run("document.getElementById('twenty').lastChild.textContent")
    assert names.split(", ") == exact_names()
    assert "times as fast as the original" in page.text("status")
    page.click("save-card")
    picture = wait_for(page.browser.downloads / "microgpt.png").read_bytes()
    assert picture[16:24] == (1200).to_bytes(4, "big") + (630).to_bytes(4, "big")
    page.assert_clean()


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (("tape", "beta1 = 0.85", "beta1 = 0.86"), {"tape.js/1"}),
        (
            ("engine", "settings.learningRate, settings", "settings.learningRate * 1.01, settings"),
            {"tape/1", "scalar/1", "simd/1", "relaxed/1"},
        ),
        (
            ("engine", "return this.read(SLOTS.gradient)", "return this.read(SLOTS.firstMoment)"),
            {"tape/1", "scalar/1", "simd/1", "relaxed/1", "scalar/16", "simd/16", "relaxed/16"},
        ),
        (("tape", "(1 - beta2) * g * g", "(1 - beta2) * g * NaN"), {"tape.js/1"}),
    ],
    ids=["beta1", "learning rate", "gradients", "NaN"],
)
def test_a_wrong_row_is_an_error_and_no_number(page, change, wrong):
    if page.browser.name != "chromium":
        pytest.skip("the same scripts check it; one browser is enough")
    page.open(change)
    rows = page.run_ladder()
    broken = {name for name, row in rows.items() if row["status"] == "error"}
    here = {name for name, row in rows.items() if row["status"] != "absent"}
    assert broken == wrong & here
    for name in broken:
        assert "error: computes something else" in rows[name]["text"]
        assert rows[name]["microseconds"] == ""
        assert "µs" not in rows[name]["text"]


TEXT = "\n".join(["anna", "bert", "carla", "dora", "emil", "fritz", "gerda", "héléne", "🦊🦊"] * 4)


def train_own(page: Page, text: str, mode: str = "lines", **fields: object) -> str:
    page.fill(text=text, **{f"field-{name}": value for name, value in fields.items()})
    page.browser.run(f"document.querySelector('[name=mode][value={mode}]').click()")
    page.click("own-start")
    page.browser.wait_until(
        "/Done|Stopped/.test(document.getElementById('own-status').textContent)"
        " || [...document.querySelectorAll('.problem')].some(e => e.textContent)"
    )
    return page.text("own-status")


def test_own_text_there_and_back(page, tmp_path):
    """A model that was trained in the page is that of Python; one of Python opens in the page."""
    page.open()
    shape = {"nEmbd": 24, "nHead": 3, "nLayer": 2, "blockSize": 7, "batchSize": 5, "numSteps": 120}
    assert "Done" in train_own(page, TEXT, **shape)
    for name, file in (("save-weights", "model.safetensors"), ("save-config", "config.json")):
        (page.browser.downloads / file).unlink(missing_ok=True)
        page.click(name)
        page.browser.wait_until(
            "document.getElementById('model-note').textContent == 'Downloaded.'"
        )
        wait_for(page.browser.downloads / file)
    model = mg.GPT.load(page.browser.downloads)
    config = mg.Config(n_layer=2, n_embd=24, n_head=3, block_size=7)
    assert model.config == config
    corpus = mg.Corpus.from_documents(TEXT.split("\n"))
    exact = mg.Trainer(corpus, config, engine="tape", batch_size=5, num_steps=120)
    exact.run()
    for name, array in exact.model.parameters.items():
        # A drift like that of the losses in test_parity.py, times the learning rate's steps.
        np.testing.assert_allclose(model.parameters[name], array, rtol=0, atol=0.02)
    assert len(model.sample(5)) == 5

    exact.model.save(tmp_path / "model")
    files = [tmp_path / "model" / name for name in ("model.safetensors", "config.json")]
    page.browser.choose_files("#open-model", *files)
    page.browser.wait_until(
        "document.getElementById('model-note').textContent.startsWith('Opened')"
    )
    page.fill(prompt="an")
    # The picture of the prompt, not of what was there before: its heads have three rows.
    page.browser.wait_until("document.querySelector('#heads canvas')?.width === 3")
    likely = page.browser.run("document.querySelector('#next li').innerText.split(/\\s+/)")
    logits = exact.model.logits([exact.tokenizer.bos, *exact.tokenizer.encode("an")[1:-1]])[-1]
    p = np.exp((logits - logits.max()) / 0.5)
    p /= p.sum()
    alphabet = [*exact.tokenizer.alphabet, "end"]
    assert likely[0] == alphabet[int(p.argmax())]
    assert float(likely[1]) == pytest.approx(100 * p.max(), abs=0.051)
    page.assert_clean()


def wait_for(file: Path) -> Path:
    """A file that the browser downloads, when all of it is there."""
    for _ in range(300):
        if file.exists() and file.stat().st_size > 0:
            return file
        time.sleep(0.1)
    raise AssertionError(f"{file} did not come")


def test_running_text_stop_and_go_on(page):
    page.open()
    page.fill(text="To be, or not to be, that is the question:\n" * 40)
    page.browser.run("document.querySelector('[name=mode][value=stream]').click()")
    page.fill(**{"field-numSteps": 100_000, "field-nEmbd": 16, "field-batchSize": 4})
    page.click("own-start")
    page.browser.wait_until("/^Step/.test(document.getElementById('own-status').textContent)")
    page.click("own-stop")
    page.browser.wait_until("/Stopped/.test(document.getElementById('own-status').textContent)")
    at = page.text("own-status").split(" of ")[0]
    page.browser.run("new Promise(resolve => setTimeout(resolve, 500))")
    # What was on its way when it stopped may still come.
    settled = page.text("own-status").split(" of ")[0]
    page.browser.run("new Promise(resolve => setTimeout(resolve, 500))")
    assert page.text("own-status").split(" of ")[0] == settled
    page.click("own-stop")
    page.browser.wait_until(
        f"!document.getElementById('own-status').textContent.startsWith({json.dumps(settled)})"
    )
    assert at.startswith("Step")
    page.assert_clean()


def test_bad_input_is_one_sentence_beside_its_field(page, tmp_path):
    page.open()

    def problem(name: str) -> str:
        page.click("own-start")
        page.browser.wait_until(f"document.getElementById('{name}').textContent")
        return page.text(name)

    page.fill(text="")
    assert problem("text-problem") == "There is no text: it is empty, or all of it is blank."
    page.fill(text="  \n \n")
    assert "blank" in problem("text-problem")
    page.fill(text="anna\nbob", **{"field-nEmbd": 10})
    assert problem("problem-nEmbd") == "The heads must divide the width: 4 does not divide 10."
    page.fill(**{"field-nEmbd": 1024, "field-blockSize": 1024, "field-batchSize": 4096})
    assert "MB are the most here" in problem("problem-nEmbd")
    page.fill(**{"field-nEmbd": 16, "field-blockSize": 16, "field-batchSize": ""})
    assert "whole number" in problem("problem-batchSize")
    assert page.browser.run("document.getElementById('text').value") == "anna\nbob"

    large = tmp_path / "large.txt"
    large.write_bytes(b"a line of some length\n" * 2_300_000)  # 50 MB
    page.browser.choose_files("#open-text", large)
    page.fill(**{"field-batchSize": 16})
    page.browser.wait_until(
        "document.getElementById('text-problem').textContent.includes('million')"
    )

    page.click("use-names")
    assert "Done" in train_own(page, "a", batchSize=1, numSteps=20)
    assert "Done" in train_own(page, "🦊\n🦊🦊\n👩‍👩‍👧", batchSize=2, numSteps=20)

    latin = tmp_path / "latin.txt"
    latin.write_bytes("Zoë".encode("latin-1"))
    page.browser.choose_files("#open-text", latin)
    page.browser.wait_until(
        "document.getElementById('text-problem').textContent == 'latin.txt is not UTF-8 text.'"
    )
    page.assert_clean()


def test_files_that_are_no_model(page, tmp_path):
    page.open()
    trainer = mg.Trainer(mg.Corpus.from_documents(["anna", "bob"]), num_steps=1)
    trainer.model.save(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    cut, other, alone = (tmp_path / f"{name}.safetensors" for name in ("cut", "other", "alone"))
    cut.write_bytes(whole[:-100])
    other.write_bytes(b"%PDF-1.4 of another program" * 9)
    import safetensors.numpy

    safetensors.numpy.save_file({"x": np.zeros(3, "f4")}, alone)
    for file, sentence in ((cut, "cut short"), (other, "cut short"), (alone, "open config.json")):
        page.browser.run("document.getElementById('model-note').textContent = ''")
        page.browser.choose_files("#open-model", file)
        page.browser.wait_until("document.getElementById('model-note').textContent")
        assert sentence in page.text("model-note")
        assert "not a model of pymicrogpt" in page.text("model-note")
    page.assert_clean()


@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits(page, width):
    page.open(width=width)
    assert "Done" in train_own(page, TEXT, numSteps=50, blockSize=8)
    assert page.browser.run("document.documentElement.scrollWidth") <= width
    # Every control has a name that a screen reader says, and can be reached by keyboard.
    unnamed = page.browser.run(
        "[...document.querySelectorAll('button, input, textarea, canvas, svg')].filter(e => "
        "!(e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label')))"
        ".map(e => e.outerHTML)"
    )
    assert unnamed == []
    assert page.browser.run(
        "[...document.querySelectorAll('[tabindex]')].every(e => e.tabIndex === 0)"
    )


COUNT_WORKERS = """() => {
  window.workers = { made: 0, live: 0 };
  window.Worker = class extends Worker {
    constructor(url) { super(url); window.workers.made++; window.workers.live++; }
    terminate() { super.terminate(); window.workers.live--; }
  };
}"""


def test_ten_trainings_leave_nothing_behind(page):
    """All memory of a training is its worker's, and ends with it."""
    added = page.browser.call("script.addPreloadScript", functionDeclaration=COUNT_WORKERS)
    page.open()
    for _ in range(10):
        assert "Done" in train_own(page, TEXT, numSteps=20)
    page.browser.wait_until("window.workers.live === 0")
    assert page.browser.run("window.workers.made") >= 10
    page.browser.call("script.removePreloadScript", script=added["script"])


def test_the_policy_lets_nothing_in(page):
    page.open()
    refused = page.browser.run(
        "new Promise(resolve => { const refused = [];"
        " addEventListener('securitypolicyviolation', e => {"
        "   if (refused.push(e.effectiveDirective) === 2) resolve(refused.sort()); });"
        " fetch('https://example.com').catch(() => {});"
        " new Image().src = 'https://example.com/i.png'; })"
    )
    assert refused == ["connect-src", "img-src"]
