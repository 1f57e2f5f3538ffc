"""Builds the C++ tests once per session, in a directory that the next session finds again."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parent.parent


def run(*command: str | Path) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@functools.cache
def _missing() -> str:
    compilers = [os.environ.get("CXX", "").split(" ")[0], "c++", "g++", "clang++"]
    if not any(shutil.which(name) for name in compilers if name):
        return "a C++ compiler (g++ or clang++)"
    if not shutil.which("cmake") or not shutil.which("ctest"):
        return "cmake"
    if not shutil.which("ninja") and not shutil.which("make"):
        return "make or ninja"
    return ""


@functools.cache
def _build() -> Path:
    generator = "Ninja" if shutil.which("ninja") else "Unix Makefiles"
    build = REPO / "build" / f"cpp-tests-{generator.split()[-1].lower()}"
    options = ["-DPYMICROGPT_PYTHON=OFF", "-DPYMICROGPT_TESTS=ON"]
    run("cmake", "-S", REPO, "-B", build, "-G", generator, *options)
    run("cmake", "--build", build, "--parallel", str(os.cpu_count() or 1))
    return build


def build_directory() -> Path:
    """Where the C++ tests and their objects are built; skips the test where they cannot be."""
    if _missing():
        pytest.skip(f"the C++ tests need {_missing()}")
    return _build()
