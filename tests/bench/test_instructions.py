"""Instruction counts: the second gate, which no noise reaches."""

from __future__ import annotations

import platform
import shutil

import pytest
from cpp_build import build_directory

from bench.guard import instructions
from bench.guard.instructions import compiler, count, failures, names

LIMITS = instructions.load()
RECORDED = "GNU 12"


def test_more_instructions_than_recorded_fail_and_fewer_do_not():
    counts = dict(LIMITS["counts"][RECORDED])
    assert failures(LIMITS, RECORDED, counts) == []
    fewer = {name: found * 0.9 for name, found in counts.items()}
    assert failures(LIMITS, RECORDED, fewer) == []
    more = counts | {"avx2 d16-b1": int(counts["avx2 d16-b1"] * 1.03)}
    assert len(failures(LIMITS, RECORDED, more)) == 1
    slow = counts | {"avx2 d64-b16": 2 * counts["avx2 d64-b16"]}
    assert len(failures(LIMITS, "a compiler of the future", slow)) == 1
    assert len(failures(LIMITS, RECORDED, slow)) == 2


def test_what_has_no_limit_fails():
    counts = dict(LIMITS["counts"][RECORDED])
    without = {**LIMITS, "scalar_over_avx2": {}, "counts": {RECORDED: {}}}
    assert len(failures(without, RECORDED, counts)) == len(instructions.CASES) + len(counts)


def test_a_compiler_is_recorded_again_in_its_place(tmp_path, monkeypatch):
    file = tmp_path / "limits.toml"
    file.write_text(instructions.FILE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(instructions, "FILE", file)
    counts = dict(LIMITS["counts"][RECORDED])
    for add in (1, 2):
        for name in ("MSVC 19", RECORDED):
            instructions.record(name, {key: found + add for key, found in counts.items()})
    after = instructions.load()
    expected = {key: found + 2 for key, found in counts.items()}
    assert after["counts"] == LIMITS["counts"] | {"MSVC 19": expected, RECORDED: expected}
    assert after["scalar_over_avx2"] == LIMITS["scalar_over_avx2"]


def test_no_step_takes_more_instructions_than_it_may():
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the counts are those of x86")
    if not shutil.which("valgrind"):
        pytest.skip("valgrind is not installed: `make instructions` installs it where it may")
    program = build_directory() / "tests" / "cpp" / "count_steps"
    counts = {name: count(program, name) for name in names()}
    assert failures(LIMITS, compiler(program), counts) == []
