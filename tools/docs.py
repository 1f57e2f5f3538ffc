"""make docs: build/docs/, the documents and the API reference, made from docstrings, as HTML."""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path

import pdoc
import pdoc.render
import pdoc.render_helpers

import pymicrogpt

REPO = Path(__file__).resolve().parent.parent
MODULES = ["pymicrogpt", "pymicrogpt.sweep", "pymicrogpt.reference"]
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: pymicrogpt</title>
<style>
body {{ max-width: 50rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 sans-serif }}
pre {{ overflow: auto; padding: .7rem; background: #8881 }}
table {{ display: block; overflow: auto; border-collapse: collapse }}
td, th {{ border: 1px solid #8886; padding: .2rem .5rem; text-align: left }}
img {{ max-width: 100% }}
</style>
<nav>{links}</nav>
{body}
</html>
"""


def listed(docstring: str) -> str:
    """Lines such as "threads: how many" become items of a list."""
    listed = re.sub(r"^(\w+): (?=\S)", r"- `\1`: ", docstring, flags=re.M)
    return re.sub(r"\n+(?=- `\w+`: )", "\n\n", listed)


def api(out: Path) -> None:
    for name in pymicrogpt.__all__:
        getattr(pymicrogpt, name)  # some load on first use, and pdoc only looks
    pdoc.render.configure(docformat="markdown", show_source=False)
    to_markdown = pdoc.render.env.filters["to_markdown"]
    listing = pdoc.render_helpers.pass_context(
        lambda context, docstring: to_markdown(context, listed(docstring))
    )
    pdoc.render.env.filters["to_markdown"] = listing
    # Functions that are called as the modules they are in: not the modules.
    pdoc.pdoc(*MODULES, r"!pymicrogpt\.engines", r"!pymicrogpt\.sweep\.\w+", output_directory=out)


def documents(out: Path) -> None:
    pages = [REPO / "README.md", *sorted((REPO / "docs").glob("*.md"))]
    names = {page: "index.html" if page.stem == "README" else f"{page.stem}.html" for page in pages}

    def link(match: re.Match[str], page: Path) -> str:
        attribute, target, anchor = match.groups()
        file = (page.parent / target).resolve()
        if ":" in target or not target:
            return match[0]
        if not file.exists():
            raise FileNotFoundError(f"{page} links to {target}")
        return f'{attribute}="{names.get(file) or os.path.relpath(file, out)}{anchor}"'

    items = [f'<a href="{names[page]}">{page.stem.replace("-", " ")}</a>' for page in pages]
    items += [f'<a href="{m.replace(".", "/")}.html">{m}</a>' for m in MODULES]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        body = re.sub(
            r'\b(href|src)="([^"#]*)([^"]*)"',
            lambda match, page=page: link(match, page),
            pdoc.render_helpers.to_html(text),
        )
        title = re.search(r"^# (.*)", text, re.M)[1]
        html = PAGE.format(title=title, links=" · ".join(items), body=body)
        (out / names[page]).write_text(html, encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("error")  # what pdoc cannot resolve
    out = Path(sys.argv[1]).resolve()
    api(out)
    documents(out)
    print(out / "index.html")
