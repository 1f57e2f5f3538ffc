"""Writes the report: README.md, index.html, the figures and results.json in their folder.

`python -m bench report RUN` draws a report again, from its results.json and nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path

from bench.command import Refused, show, writable
from bench.report import share
from bench.report.markdown import markdown
from bench.report.part import PICTURE, all_parts, modules
from bench.results import Results
from pymicrogpt._signals import Signals

ROOT = Path(__file__).resolve().parents[2]


def write(results: Results, out: Path, source: str | None = None) -> None:
    """Write the whole report into `out`: first beside it, then, complete, in its place. It links to
    the files of the repository below `source`, which is found where `out` lies in it.

    Figures of an older report that this one lacks are removed; files that are no finding's are left
    alone.
    """
    from bench.report.page import page  # needs Jinja

    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        results.save(fresh / "results.json")
        results = Results.load(fresh / "results.json")  # with the digits that it has there
        parts = all_parts(results)
        for drawing in (drawing for part in parts for drawing in part.drawings):
            (fresh / drawing.file).write_bytes(drawing.wide.png)
        if image := share.picture(results):
            (fresh / PICTURE).write_bytes(image)
        data = (fresh / "results.json").read_bytes()
        source = source or below(out)
        texts = {
            "README.md": markdown(results, parts, source),
            "index.html": page(results, parts, data, source),
        }
        for name, text in texts.items():  # a file name, or a reason, may hold what is no character
            (fresh / name).write_text(text, encoding="utf-8", errors="backslashreplace")
        with Signals():  # ignored for the moments in which the old report becomes the new one
            out.mkdir(exist_ok=True)
            names = [module.__name__.rpartition(".")[2] for module in modules()]
            images = [PICTURE, *(f"{name}{more}.png" for name in names for more in ("", "_*"))]
            for stale in (file for image in images for file in out.glob(image)):
                if not (fresh / stale.name).exists():
                    stale.unlink()
            for file in sorted(fresh.iterdir()):
                os.replace(file, out / file.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def below(out: Path) -> str | None:
    """The way from there to the root of the repository; None where it does not lie in it."""
    out = out.resolve()
    return f"{os.path.relpath(ROOT, out)}/" if ROOT in out.parents else None


def write_or_keep(results: Results, out: Path) -> None:
    """Write the report of what has just been measured; where that fails, keep its result file."""
    try:
        write(results, out)
    except (Exception, KeyboardInterrupt) as error:
        raise kept(results, f"no report was written to {out}", error) from error


def kept(results: Results, what: str, error: BaseException) -> Refused:
    """What to raise after a failure: it names the file in which the results are kept."""
    file = Path(tempfile.mkdtemp(prefix="pymicrogpt-results-"), "results.json")
    results.save(file)
    return Refused(
        f"{what} ({reason(error)}); the results are kept, to be drawn by: "
        f"python -m bench report {file} --out DIR"
    )


def reason(error: BaseException) -> str:
    """For people: why something ended."""
    interrupted = isinstance(error, KeyboardInterrupt)
    return "interrupted" if interrupted else str(error) or type(error).__name__


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", nargs="?", type=Path, default=Path("reports"), metavar="RUN",
        help="results.json or its folder (reports)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: where the file is")
    parser.add_argument(
        "--source", metavar="URL", help="of the repository's files, for links to them; ends with /"
    )


def run(args: argparse.Namespace) -> int:
    out = args.out or (args.run if args.run.is_dir() else args.run.parent)
    results = Results.load(args.run)
    writable("--out", out, folder=True)
    try:
        write(results, out, args.source)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"{type(error).__name__}: {error}"
        raise Refused(f"{args.run} has values that cannot be drawn ({what})") from error
    show(str(out / "README.md"))
    return 0
