"""pymicrogpt web"""

from __future__ import annotations

from pathlib import Path

import pytest

from .command import command

pytestmark = pytest.mark.usefixtures("folder")


def test_web_opens_the_page_or_says_how_to_build_it(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or True)
    monkeypatch.setattr(Path, "is_file", lambda path: path.name == "index.html")
    assert command("web") == 0
    page = capsys.readouterr().out.strip()
    assert opened == [Path(page).as_uri()] and page.endswith("index.html")
    assert command("web", "--print") == 0
    assert len(opened) == 1
    monkeypatch.setattr("webbrowser.open", lambda url: False)
    assert command("web") == 2
    assert "open that file" in capsys.readouterr().err
    monkeypatch.setattr(Path, "is_file", lambda path: False)
    assert command("web") == 2
    assert "make web" in capsys.readouterr().err
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert command("web") == 2
    assert "this installation has no page" in capsys.readouterr().err


def test_an_installed_page_is_found_too(monkeypatch, capsys):
    monkeypatch.setattr(Path, "is_file", lambda path: path.name == "web.html")
    assert command("web", "--print") == 0
    assert Path(capsys.readouterr().out.strip()).parts[-3:] == ("pymicrogpt", "data", "web.html")
