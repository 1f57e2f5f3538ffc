"""The C++ tests: every kernel of every ISA, the rows of a batch, whole models in every table."""

from __future__ import annotations

import json
import platform
import re

import pytest
from cpp_build import ctest

SIMD = {
    "x86_64": ["avx512", "avx2"],
    "AMD64": ["avx512", "avx2"],
    "aarch64": ["neon"],
    "arm64": ["neon"],
}.get(platform.machine(), [])
PLAIN = ["autovec_baseline", "scalar_baseline"]
if "avx2" in SIMD:
    PLAIN += ["autovec_v4", "autovec_v3", "scalar_v3"]
TESTS = [
    "batch",
    "model.reference",
    "plain",
    "tape",
    "threads",
    *(f"kernels.{isa}" for isa in SIMD),
    *(f"model.{table}" for table in SIMD + PLAIN),
]


def test_all_are_listed():
    listed = json.loads(ctest("--show-only=json-v1"))
    assert {test["name"] for test in listed["tests"]} == set(TESTS)


@pytest.mark.parametrize("name", TESTS)
def test_cpp(name):
    only = f"^{re.escape(name)}$"
    output = ctest("-R", only, "-V", "--no-tests=error")
    if "***Skipped" in output:
        pytest.skip(re.search(r"skipped: (.*)", output).group(1))
    assert "100% tests passed" in output
