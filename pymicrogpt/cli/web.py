"""pymicrogpt web"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .._words import escaped
from .arguments import CommandError, new_parser
from .terminal import say


def add(subparsers: Any) -> None:
    parser = new_parser(
        subparsers, "web", "Open the page that trains in a browser; it needs no network.", web
    )
    parser.add_argument(
        "--print", action="store_true", help="print where the page is, and open nothing"
    )


def web(args: argparse.Namespace) -> int:
    import webbrowser
    from importlib.resources import files

    # Where `make web` puts it in a source tree, and in a wheel.
    tree = Path(__file__).resolve().parents[2]
    pages = [
        tree / "build" / "web" / "index.html",
        Path(str(files("pymicrogpt").joinpath("data", "web.html"))),
    ]
    page = next((page for page in pages if page.is_file()), None)
    if page is None and (tree / "tools" / "web.py").exists():
        raise CommandError(f"the page is not built yet; make web, in {tree}, builds it")
    if page is None:
        raise CommandError(
            "this installation has no page; install from a source tree where make web has built it"
        )
    say(escaped(str(page)))
    if not args.print and not webbrowser.open(page.as_uri()):
        raise CommandError("no browser could be started; open that file in one")
    return 0
