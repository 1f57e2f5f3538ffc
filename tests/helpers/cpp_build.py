"""Builds the C++ tests where `make kernels` does, once per session."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


def run(*command: str | Path) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _find(tool: str) -> str | None:
    """A tool beside this interpreter, as pip installs it, or else on the PATH."""
    return shutil.which(tool, path=str(Path(sys.executable).parent)) or shutil.which(tool)


@functools.cache
def _missing() -> str:
    compilers = [os.environ.get("CXX", "").split(" ")[0], "c++", "g++", "clang++"]
    if not any(shutil.which(name) for name in compilers if name):
        return "a C++ compiler (g++ or clang++)"
    if not _find("cmake") or not _find("ctest"):
        return "cmake"
    if not shutil.which("make") and not shutil.which("ninja"):
        return "make or ninja"
    return ""


@functools.cache
def _build() -> Path:
    build = REPO / "build" / "kernels"
    cmake = _find("cmake")
    fresh = not (build / "CMakeCache.txt").exists()
    generator = ["-G", "Ninja"] if fresh and not shutil.which("make") else []
    options = ["-DPYMICROGPT_PYTHON=OFF", "-DPYMICROGPT_TESTS=ON"]
    run(cmake, "-S", REPO, "-B", build, *generator, *options)
    run(cmake, "--build", build, "--parallel", str(os.cpu_count() or 1))
    return build


def build_directory() -> Path:
    """Where the C++ tests and their objects are built; skips the test where they cannot be."""
    if _missing():
        pytest.skip(f"the C++ tests need {_missing()}")
    return _build()


def ctest(*arguments: str) -> str:
    return run(_find("ctest"), "--test-dir", build_directory(), *arguments)
