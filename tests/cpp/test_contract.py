"""An instruction set that lacks an operation of the vector type is told which one by the compiler's
first error, not by one from the depth of a kernel."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess

import pytest
from cpp_build import REPO

X86 = platform.machine() in ("x86_64", "AMD64")
ISA, FLAGS = ("avx2", ["-mavx2", "-mfma"]) if X86 else ("neon", [])


@pytest.mark.parametrize(
    "written, instead, message",
    [
        ("Vec sum_quads(", "Vec sum_of_quads(", "lacks an operation of Vec: sum_quads"),
        ("unsigned unequal(", "int unequal(", "has another type than unsigned: unequal"),
    ],
)
def test_the_first_error_names_the_operation(tmp_path, written, instead, message):
    compiler = shutil.which("c++")
    if not compiler or "Free Software" not in subprocess.getoutput(f"{compiler} --version"):
        pytest.skip("reads the errors of g++")
    shutil.copytree(REPO / "cpp", tmp_path / "cpp")
    isa = tmp_path / "cpp" / "isa"
    of_vec = isa / ("avx2.cpp" if X86 else "neon.h")
    text = of_vec.read_text()
    assert written in text
    of_vec.write_text(text.replace(written, instead))
    source = isa / f"{ISA}.cpp"
    done = subprocess.run(
        [compiler, "-std=c++17", "-fsyntax-only", *FLAGS, "-DPYMICROGPT_TABLE=t", source],
        capture_output=True,
        text=True,
    )
    errors = re.findall(r"error: (.*)", done.stderr)
    assert errors and message in errors[0]
