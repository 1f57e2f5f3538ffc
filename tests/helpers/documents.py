"""Runs the code blocks of a Markdown document as a reader would: in order, in an empty folder.

    python tests/helpers/documents.py README.md

A `python` block is a script, a `sh` block is for bash, and so are the lines after `$ ` in a
`console` block. A block of `text` right after them, or the rest of a console block, is what they
print. Engines differ in the last digits and thus in what a model says, so only lines with a number
count, in their order, any number for a number; others may be between them.

Before a block, `<!-- not run: reason -->` keeps it from being run, `<!-- needs: torch -->` does so
where there is no such module.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
REMARK = re.compile(r"<!-- (not run|needs): (.+?) -->\s*\Z", re.S)
SECONDS = 300


@dataclass
class Block:
    """One block that can be run."""

    line: int  # of the document
    language: str  # python or sh
    code: str
    shown: str = ""  # what the document says that it prints
    not_run: str = ""  # why


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    end = 0  # of the last block
    for match in BLOCK.finditer(text):
        language, code = match.groups()
        between, end = text[end : match.start()], match.end()
        if language in ("python", "sh", "console"):
            block = Block(text[: match.start()].count("\n") + 2, language, code)
            if language == "console":
                lines = code.splitlines()
                block.language = "sh"
                block.code = "\n".join(line[2:] for line in lines if line.startswith("$ "))
                block.shown = "\n".join(line for line in lines if not line.startswith("$ "))
            if remark := REMARK.search(between):
                kind, what = remark.groups()
                if kind == "not run" or find_spec(what) is None:
                    block.not_run = what if kind == "not run" else f"{what} is not installed"
            found.append(block)
        elif language == "text" and found and not between.strip():
            found[-1].shown = code
    return found


def run(block: Block, folder: Path) -> str:
    """What it prints. AssertionError where it fails or prints something else."""
    command = [sys.executable, "block.py"]
    if block.language == "sh":
        command = ["bash", "-e", "-o", "pipefail", "-c", block.code]
    else:
        (folder / "block.py").write_text(block.code, encoding="utf-8")
    scripts = os.path.dirname(sys.executable)
    environment = {
        **os.environ,
        "PYMICROGPT_OFFLINE": "1",
        "XDG_CACHE_HOME": str(folder / ".cache"),
        "PATH": scripts + os.pathsep + os.environ["PATH"],
    }
    environment.pop("PYMICROGPT_CORPUS", None)
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        timeout=SECONDS,
    )
    assert done.returncode == 0, f"exit code {done.returncode} of\n{block.code}\n{done.stdout}"
    missing = not_printed(block.shown, done.stdout)
    assert missing is None, f"{missing!r} is not printed by\n{block.code}\n{done.stdout}"
    return done.stdout


def not_printed(shown: str, output: str) -> str | None:
    """The first line of those with a number that is not in the output after those before it."""
    printed = iter([skeleton(line) for line in output.splitlines()])
    for line in shown.splitlines():
        if re.search(r"\d", line) and skeleton(line) not in printed:
            return line
    return None


def skeleton(line: str) -> str:
    """What is the same on every machine."""
    line = re.sub(r"[\d.,]*\d", "0", " ".join(line.split()))
    line = re.sub(r"^(sample 0:).*", r"\1", line)
    return re.sub(r"(?<=engine )\w+| \(best\)", "", line)


def run_all(document: Path, folder: Path) -> Iterator[str]:
    """Runs its blocks; a line about each."""
    for block in blocks(document.read_text(encoding="utf-8")):
        where = f"{document.name}, line {block.line}"
        if block.not_run:
            yield f"{where}: not run: {block.not_run}"
        else:
            try:
                run(block, folder)
            except AssertionError as error:
                raise AssertionError(f"{where}: {error}") from None
            yield f"{where}: runs"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as scratch:
            for line in run_all(Path(argument), Path(scratch)):
                print(line)
