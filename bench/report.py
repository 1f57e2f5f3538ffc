"""The report: a table for the terminal, README.md, index.html, figures, and their folder.

`python -m bench.report RUN` draws a report again, from its results.json and nothing else.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import page
from bench.figures import PATTERNS, Drawn, draw_all
from bench.figures.style import WARNING, provenance
from bench.results import Results
from bench.sections import sections
from bench.tables import (
    METHOD,
    Table,
    heading,
    no_baseline,
    number_columns,
    table,
    used_columns,
    warnings,
)


def text_table(results: Results, workload: str) -> str:
    lines = table(results, workload)
    columns, right = used_columns(lines), number_columns(lines)
    widths = {i: max(len(line[i]) for line in lines) for i in columns}
    text = [heading(results, workload)]
    for line in lines:
        cells = [
            line[i].rjust(widths[i]) if i in right else line[i].ljust(widths[i]) for i in columns
        ]
        text.append("  ".join(cells).rstrip())
    if reason := no_baseline(results, workload):
        text.append(reason)
    return "\n".join(text)


def markdown_table(lines: Table) -> list[str]:
    columns = used_columns(lines)
    right = number_columns(lines)
    text = ["| " + " | ".join(escaped(line[i]) for i in columns) + " |" for line in lines]
    rule = "|" + "|".join("---:" if i in right else "---" for i in columns) + "|"
    return [text[0], rule, *text[1:]]


def escaped(text: str) -> str:
    """For a cell: what a variant calls itself, or says of itself, stays text."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("|", "\\|").replace("]", "\\]")


def markdown(results: Results, figures: list[Drawn]) -> str:
    about = results.run
    text = ["# Benchmark report", "", escaped(provenance(results).replace(" | ", " · ")), ""]
    text += [
        "The same with every round, in one file for the browser: [index.html](index.html).",
        "",
    ]
    text += [f"- {WARNING} {escaped(words)}" for words in warnings(results)]
    text += [""]
    for part in sections(results, figures):
        text += ["#" * part.level + " " + part.heading, ""]
        text += [part.text, ""]
        text += [f"![{escaped(drawn.title)}]({drawn.name})\n" for drawn in part.figures]
        for lines in part.tables:
            text += [*markdown_table(lines), ""]
        text += [f"{escaped(words)}\n" for words in part.missing]
    text += ["## Method", "", METHOD, "## Machine", "", "| | |", "|---|---|"]
    text += [f"| {escaped(key)} | {escaped(str(value))} |" for key, value in about.items()]
    text += [
        "",
        "`results.json` holds every round in pyperf's format: `pyperf stats results.json`, "
        "`pyperf compare_to old.json results.json`. Made by `python -m bench.run_all`.",
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(text)) + "\n"


def write(results: Results, out: Path) -> None:
    """Write the whole report into `out`: first beside it, then, complete, in its place.

    Files in `out` that no report has written are left alone.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        results.save(fresh / "results.json")
        figures = draw_all(results, fresh)
        (fresh / "README.md").write_text(markdown(results, figures), encoding="utf-8")
        data = (fresh / "results.json").read_bytes()
        (fresh / "index.html").write_text(page.page(results, figures, data), encoding="utf-8")
        with uninterrupted():
            out.mkdir(exist_ok=True)
            for pattern in PATTERNS:
                for stale in out.glob(pattern):
                    if not (fresh / stale.name).exists():
                        stale.unlink()
            for file in sorted(fresh.iterdir()):
                os.replace(file, out / file.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keeps Ctrl-C from the block: moments, in which the old report becomes the new one."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.report",
        description="Draw a report again, from its result file and nothing else.",
    )
    parser.add_argument(
        "run", nargs="?", type=Path, default="reports", help="results.json or its folder (reports)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: where the file is")
    args = parser.parse_args(argv)
    file = args.run / "results.json" if args.run.is_dir() else args.run
    out = args.out or file.parent
    try:
        write(Results.load(file), out)
    except (OSError, ValueError) as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 2
    print(out / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
