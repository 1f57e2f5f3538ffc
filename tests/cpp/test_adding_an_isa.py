"""Adding an instruction set takes one file and one line (docs/adding-an-isa.md)."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from dataclasses import replace

import pytest
from conftest import SIMD
from cpp_build import ARCH, PLAIN_TABLES, REPO, SIMD_TABLES, find, missing, run

import bench.variants.pymicrogpt
import pymicrogpt as mg
from bench.guard.gates import FLOORS, Match, required

# A file of cpp/isa that is copied, and the line for the copy. Compiled fast rather than for speed.
COPIED, LINE = {
    "x86_64": ("avx2", "kernels(pretend ISA Pretence ARCH x86_64 NEEDS fma FLAGS ${AVX2} -O1)"),
    "aarch64": ("neon", "kernels(pretend ISA Pretence ARCH aarch64 FLAGS -O1)"),
}.get(ARCH, ("", ""))


@pytest.mark.skipif(COPIED not in SIMD, reason="no SIMD engine to copy runs here")
def test_one_file_and_one_line(tmp_path):
    if missing():
        pytest.skip(f"the C++ side needs {missing()}")
    tree, build = tmp_path / "tree", tmp_path / "build"
    for folder in ("cpp", "tests/cpp"):
        shutil.copytree(REPO / folder, tree / folder)
    isa = tree / "cpp" / "isa"
    shutil.copyfile(isa / f"{COPIED}.cpp", isa / "pretend.cpp")
    before, first, after = (REPO / "CMakeLists.txt").read_text("utf-8").partition("\nkernels(")
    (tree / "CMakeLists.txt").write_text(f"{before}\n{LINE}{first}{after}", encoding="utf-8")

    others = ";".join(SIMD_TABLES + PLAIN_TABLES)  # what is tested elsewhere, and takes its time
    generator = [] if shutil.which("make") else ["-G", "Ninja"]
    options = ["-DPYMICROGPT_PYTHON=OFF", "-DPYMICROGPT_TESTS=ON"]
    options.append(f"-DPYMICROGPT_LEAVE_OUT={others}")
    run(find("cmake"), "-S", tree, "-B", build, *generator, *options)
    listed = json.loads(run(find("ctest"), "--test-dir", build, "--show-only=json-v1"))
    assert {"kernels.pretend", "model.pretend"} < {test["name"] for test in listed["tests"]}

    run(find("cmake"), "--build", build, "--target", "count_steps", "--parallel", "2")
    program = build / "tests" / "cpp" / "count_steps"
    unknown = subprocess.run([program, "?", "16", "4", "1"], capture_output=True, text=True)
    assert "'?' is unknown; this machine has pretend, tape32, tape" in unknown.stderr
    gone = subprocess.run([program, COPIED, "16", "4", "1"], capture_output=True, text=True)
    assert "left out of this build; this machine has pretend, tape32, tape" in gone.stderr
    loss, expected = (float(run(program, e, "16", "4", "20")) for e in ("pretend", "tape"))
    assert loss == pytest.approx(expected, rel=1e-4)  # 20 steps in float32


def test_its_rows_and_floors_follow(monkeypatch):
    present = mg.engines()
    info = next(info for info in present if info.simd)
    pretend = replace(info, name="pretend", label="Pretence", supported=True)
    monkeypatch.setattr(mg, "engines", lambda: [pretend, *present])
    variants = runpy.run_path(bench.variants.pymicrogpt.__file__)["VARIANTS"]
    assert [(v.name, v.label) for v in variants[-3:]] == [
        ("pretend", "Pretence"),
        ("pretend-nosparsity", "Pretence, no sparsity"),
        ("pretend-plain", "Pretence, plain"),
    ]
    match = Match({}, lambda engine: 1e9)
    for workload in ("d16", "d64"):
        for batch in (1, 16):
            found = match.floors_of("pretend", FLOORS[f"{workload}-b{batch}"])
            assert set(found) == required(batch)["pretend"]
