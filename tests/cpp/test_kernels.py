"""The C++ tests: every kernel of every ISA, the rows of a batch, whole models in every table."""

from __future__ import annotations

import json
import re

import pytest
from cpp_build import PLAIN_TABLES, SIMD_TABLES, ctest

TESTS = [
    "batch",
    "model.reference",
    "plain",
    "tape",
    "threads",
    *(["streaming"] if "sme" in SIMD_TABLES else []),
    *(f"kernels.{isa}" for isa in SIMD_TABLES),
    *(f"model.{table}" for table in SIMD_TABLES + PLAIN_TABLES),
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
