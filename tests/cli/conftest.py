from __future__ import annotations

from pathlib import Path

import pytest

from .command import NAMES


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in, with a small corpus beside it."""
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PYMICROGPT_CORPUS", str(tmp_path / "names.txt"))
    return tmp_path / "work"
