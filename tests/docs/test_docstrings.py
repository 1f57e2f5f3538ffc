"""Every public name says what it is, for the API reference that `make docs` builds."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys

import pytest
from conftest import REPO

import pymicrogpt as mg
from pymicrogpt import sweep


def undocumented(module) -> list[str]:
    """Public classes, functions, methods and properties without a docstring of their own, and
    parameters and fields of dataclasses that no docstring mentions."""
    missing = []
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isclass(value):
            doc = value.__doc__ or ""
            if not doc or doc.startswith(f"{name}("):  # what a dataclass says of itself
                missing.append(name)
            if dataclasses.is_dataclass(value):
                fields = [f.name for f in dataclasses.fields(value)]
                missing += [f"{name}.{field}" for field in fields if field not in doc]
            for key, member in vars(value).items():
                function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                public = not key.startswith("_") and inspect.isfunction(function)
                if public and not function.__doc__:
                    missing.append(f"{name}.{key}")
        elif inspect.isfunction(value) and not value.__doc__:
            missing.append(name)
    return missing


@pytest.mark.parametrize("module", [mg, sweep], ids=lambda module: module.__name__)
def test_every_public_name_has_a_docstring(module):
    assert undocumented(module) == []
    assert module.__doc__


def test_the_reference_builds(tmp_path):
    pytest.importorskip("pdoc", reason="pdoc is not installed; make docs installs it")
    command = [sys.executable, "tools/docs.py", str(tmp_path)]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "pymicrogpt.html").read_text(encoding="utf-8")
    for name in mg.__all__:
        assert f'id="{name}"' in page
    assert 'id="Trainer.resume"' in page and "batch_size</a></code>: documents per step" in page
    assert "guide.html" in (tmp_path / "index.html").read_text(encoding="utf-8")
