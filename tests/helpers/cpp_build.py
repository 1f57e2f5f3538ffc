"""Builds the C++ tests where `make kernels` does, once per session."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pymicrogpt as mg

REPO = Path(__file__).resolve().parents[2]
ARCH = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
# The tables of kernels that CMake builds here: not every compiler can compile all of them.
SIMD_TABLES = [
    info.name
    for info in mg.engines()
    if info.simd and info.arch == ARCH and "the compiler" not in info.reason
]
if "avx512" in SIMD_TABLES:
    SIMD_TABLES.append("avx512_twice")
PLAIN_TABLES = ["autovec_baseline", "scalar_baseline"]
if ARCH == "x86_64":
    PLAIN_TABLES += ["autovec_v4", "autovec_v3", "scalar_v3"]


def run(*command: str | Path) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def find(tool: str) -> str | None:
    """A tool beside this interpreter, as pip installs it, or else on the PATH."""
    return shutil.which(tool, path=str(Path(sys.executable).parent)) or shutil.which(tool)


@functools.cache
def missing() -> str:
    """What this machine lacks to build the C++ tests; empty where it lacks nothing."""
    compilers = [os.environ.get("CXX", "").split(" ")[0], "c++", "g++", "clang++"]
    if not any(shutil.which(name) for name in compilers if name):
        return "a C++ compiler (g++ or clang++)"
    if not find("cmake") or not find("ctest"):
        return "cmake"
    if not shutil.which("make") and not shutil.which("ninja"):
        return "make or ninja"
    return ""


@functools.cache
def _build() -> Path:
    build = REPO / "build" / "kernels"
    cmake = find("cmake")
    fresh = not (build / "CMakeCache.txt").exists()
    generator = ["-G", "Ninja"] if fresh and not shutil.which("make") else []
    options = ["-DPYMICROGPT_PYTHON=OFF", "-DPYMICROGPT_TESTS=ON"]
    run(cmake, "-S", REPO, "-B", build, *generator, *options)
    run(cmake, "--build", build, "--parallel", str(os.cpu_count() or 1))
    return build


def build_directory() -> Path:
    """Where the C++ tests and their objects are built; skips the test where they cannot be."""
    if missing():
        pytest.skip(f"the C++ tests need {missing()}")
    return _build()


def ctest(*arguments: str) -> str:
    return run(find("ctest"), "--test-dir", build_directory(), *arguments)
