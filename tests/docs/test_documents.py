"""Every code block of the documents runs, and prints what it is said to print."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
from runpy import run_path

import pytest
from conftest import REPO
from documents import blocks, not_printed, run_all

DOCUMENTS = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_blocks_run(document, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(REPO))  # bench is not installed
    for line in run_all(document, tmp_path):
        print(line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links(document):
    text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.S)
    for target in re.findall(r"\]\(([^)#]+)", text):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_a_block_that_fails_is_found(tmp_path):
    document = tmp_path / "a.md"
    document.write_text("# A\n\n```python\nprint(1)\n```\n\n```sh\nfalse\n```\n")
    with pytest.raises(AssertionError, match=r"a\.md, line 8: exit code 1"):
        list(run_all(document, tmp_path))


def test_what_is_shown():
    shown = "step 10/20  loss 1.5 (best)  7,000 samples/s\n...\nsample  1: anna\nwords\n"
    assert not_printed(shown, "x\nstep  1/2  loss 0.33  1 samples/s\ny\nsample 1: bo") is None
    assert not_printed(shown, "step  1/2  lost 0.33  1 samples/s\nsample 1: bo").startswith("step")
    assert not_printed(shown, "sample 1: bo\nstep  1/2  loss 0.33  1 samples/s") is not None


def test_marks():
    text = (
        "```text\nno code\n```\n<!-- not run: takes years -->\n```sh\nsleep inf\n```\n\n"
        "```console\n$ echo 1\n1\n```\n<!-- needs: no_such_module -->\n\n```python\n1/0\n```\n"
    )
    first, second, third = blocks(text)
    assert (first.not_run, first.line) == ("takes years", 6)
    assert (second.code, second.shown, second.not_run) == ("echo 1", "1", "")
    assert third.not_run == "no_such_module is not installed"


def test_the_page_finds_its_excerpts_and_figures():
    """What tools/web.py takes from the sources and from the committed report."""
    web = run_path(str(REPO / "tools" / "web.py"))
    html = web["page"]({name: b"" for name in web["MODULES"]}, web["sources_of_web"]())
    facts = re.search(r'id="data-facts">([^<]+)', html)
    figures = json.loads(gzip.decompress(base64.b64decode(facts[1])))["native"]["microseconds"]
    assert {*web["NATIVE"].values(), "AVX2"} <= {name.split(",")[0] for name in figures}
    assert all(value > 0 for value in figures.values())
