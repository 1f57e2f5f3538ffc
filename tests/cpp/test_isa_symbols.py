"""Objects of different ISAs must not mix: code compiled with AVX flags that the linker may keep for
everybody would crash on older CPUs. So a kernel object exports its table and nothing else, runs
nothing at start-up, and the rest of the library has no AVX instructions at all."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from cpp_build import ARCH, PLAIN_TABLES, REPO, SIMD_TABLES, build_directory, run

X86 = ARCH == "x86_64"
SOURCES = {"avx512_twice": "avx512"}  # of those whose name it is not
TABLES = {name: SOURCES.get(name, name) for name in SIMD_TABLES}
TABLES |= dict.fromkeys(PLAIN_TABLES, "plain")
CORE = sorted(path.stem for path in (REPO / "cpp").glob("*.cpp"))

# A VEX or EVEX instruction as objdump writes it: AVX of any width.
AVX = re.compile(r"\tv[a-z0-9]+ .*%[xyz]mm")
PACKED_ARITHMETIC = re.compile(r"\tv?(add|sub|mul|div|fn?m(add|sub)\d+)p[sd] ")


def elf(path: Path) -> Path:
    for tool in ("nm", "objdump"):
        if not shutil.which(tool):
            pytest.skip(f"needs {tool} (binutils)")
    if path.read_bytes()[:4] != b"\x7fELF":
        pytest.skip("reads ELF objects; this system has another format")
    return path


def kernel_object(table: str) -> Path:
    path = Path("CMakeFiles") / f"{table}.dir" / "cpp" / "isa" / f"{TABLES[table]}.cpp.o"
    return elf(build_directory() / path)


def core_object(name: str) -> Path:
    return elf(build_directory() / "CMakeFiles" / "core.dir" / "cpp" / f"{name}.cpp.o")


def symbols(path: Path) -> list[tuple[str, str]]:
    """(type letter of nm, mangled name); local symbols have lower-case letters."""
    lines = run("nm", "--format=posix", path).splitlines()
    return [(line.split()[1], line.split()[0]) for line in lines]


def code(path: Path) -> str:
    return run("objdump", "-d", "--no-show-raw-insn", path)


@pytest.mark.parametrize("table", TABLES)
def test_kernel_object_exports_its_table_alone(table):
    exported = [name for kind, name in symbols(kernel_object(table)) if kind in "ABCDGRST"]
    assert exported == [f"_ZN8microgpt{len(table)}{table}E"]


@pytest.mark.parametrize("table", TABLES)
def test_kernel_object_has_nothing_for_the_linker_to_choose(table):
    assert [name for kind, name in symbols(kernel_object(table)) if kind in "WwVvu"] == []


@pytest.mark.parametrize("table", TABLES)
def test_kernel_object_uses_no_cpp_runtime(table):
    needed = [name for kind, name in symbols(kernel_object(table)) if kind == "U"]
    assert [n for n in needed if re.match(r"_ZN?K?S|_Zn|_Zd|__cxa|_Unwind", n)] == []


@pytest.mark.parametrize("table", TABLES)
def test_kernel_object_runs_nothing_at_start(table):
    sections = run("objdump", "-h", kernel_object(table))
    assert not re.search(r"\.(init_array|ctors|preinit_array)", sections)


@pytest.mark.skipif(not X86, reason="x86 instructions")
@pytest.mark.parametrize(
    ("table", "register"),
    [
        *((name, "zmm") for name in ("avx512", "avx512_twice", "autovec_v4")),
        ("avx2", "ymm"),
        ("autovec_v3", "ymm"),
    ],
)
def test_kernels_multiply_and_add_in_the_widest_registers(table, register):
    fma = rf"\tvfmadd\d+ps .*%{register}"
    assert len(re.findall(fma, code(kernel_object(table)))) > 100


def innermost_loops(assembly: str) -> list[list[str]]:
    """Instructions of every stretch that a jump at its end repeats and no other jump cuts."""
    instructions = re.findall(r"^ *([0-9a-f]+):\t(.*)$", assembly, re.MULTILINE)
    index = {address: i for i, (address, _) in enumerate(instructions)}
    loops = []
    for i, (_, text) in enumerate(instructions):
        jump = re.match(r"j\w+ +([0-9a-f]+)", text)
        if jump and index.get(jump[1], i + 1) <= i:
            body = [text for _, text in instructions[index[jump[1]] : i + 1]]
            if not any(t.startswith("j") for t in body[:-1]):
                loops.append(body)
    return loops


@pytest.mark.skipif(not X86, reason="x86 instructions")
@pytest.mark.parametrize(("table", "most"), [("avx512", 24), ("avx512_twice", 24), ("avx2", 12)])
def test_tiles_stay_in_registers(table, most):
    """The inner loops of the matrix kernels: no vector touches the stack, and beside the
    multiply-adds there are not more than as many other instructions and eight: what counts and
    moves the pointers where a whole panel is unrolled."""

    def sums(loop: list[str]) -> int:
        return sum(text.startswith("vfmadd") for text in loop)

    tiles = [
        loop
        for loop in innermost_loops(code(kernel_object(table)))
        if sums(loop) >= 8 and re.search(r"product|weight_", loop[-1])  # its function
    ]
    assert max(map(sums, tiles)) >= most
    for loop in tiles:
        assert not [t for t in loop if t[0] == "v" and re.search(r"\(%r[sb]p", t)], "\n".join(loop)
        assert len(loop) <= 2 * sums(loop) + 8, "\n".join(loop)


@pytest.mark.skipif(not X86, reason="x86 instructions")
@pytest.mark.parametrize("table", ["avx2", "autovec_v3", "scalar_v3"])
def test_avx2_objects_have_no_avx512(table):
    assert not re.search(r"%zmm|%[xy]mm(1[6-9]|2\d|3[01])|%k[0-7]", code(kernel_object(table)))


@pytest.mark.skipif(ARCH != "aarch64", reason="NEON code")
def test_neon_multiplies_and_adds_in_vectors():
    assert len(re.findall(r"\tfmla\s+v\d+\.4s", code(kernel_object("neon")))) > 100


def sme_code() -> str:
    """Its disassembly; on other CPUs that of the object that `make arm` has left."""
    path = REPO / "build" / "arm" / "CMakeFiles" / "sme.dir" / "cpp" / "isa" / "sme.cpp.o"
    if "sme" in SIMD_TABLES:
        path = kernel_object("sme")
    objdump = "objdump" if ARCH == "aarch64" else "aarch64-linux-gnu-objdump"
    if not path.exists() or not shutil.which(objdump):
        pytest.skip("reads what `make arm` builds where clang is")
    return run(objdump, "-d", "--no-show-raw-insn", path)


def test_sme_loads_no_more_than_it_multiplies():
    """The inner loops of four tiles: four outer products, and four loads or five, none of the
    stack."""
    found = re.findall(r"^ *([0-9a-f]+):\t(\S+)[ \t]*(.*)$", sme_code(), re.MULTILINE)
    index = {address: i for i, (address, _, _) in enumerate(found)}
    loads = []
    for i, (_, name, operands) in enumerate(found):
        begin = index.get(operands.split(" ")[0], i) if name == "b.ne" else i
        body = found[begin:i]
        names = [name for _, name, _ in body]
        if names.count("fmopa") == 4 and len(body) < 30:
            loads.append(names.count("ld1w"))
            assert not [line for line in body if "[sp" in line[2]]
    assert sorted(loads) == [4, 5, 5]


def test_sve_is_in_streaming_mode_alone():
    """Apple's CPUs have it nowhere else: a cntd ahead of smstart is an illegal instruction."""
    sve = re.compile(r"\t(cnt[bhwd]|rdvl|addvl|addpl|ptrue|whilel\w+)\t|\b[zp]\d+[./]|\bza\d*\b")
    functions = re.split(r"\n\n(?=[0-9a-f]+ <)", sme_code())
    with_sve = [text.split("\n")[0] for text in functions if sve.search(text)]
    assert len(with_sve) == 1 and "in_streaming_mode" in with_sve[0]


@pytest.mark.skipif(not X86, reason="x86 instructions")
@pytest.mark.parametrize("table", ["scalar_baseline", "scalar_v3"])
def test_scalar_stays_scalar(table):
    assert PACKED_ARITHMETIC.findall(code(kernel_object(table))) == []


@pytest.mark.skipif(not X86, reason="x86 instructions")
@pytest.mark.parametrize("table", ["scalar_baseline", "autovec_baseline"])
def test_baseline_kernels_have_no_avx(table):
    assert not AVX.search(code(kernel_object(table)))


@pytest.mark.skipif(not X86, reason="x86 instructions")
@pytest.mark.parametrize("name", CORE)
def test_core_has_no_avx(name):
    assert not AVX.search(code(core_object(name)))


def test_every_core_object_is_checked():
    folder = build_directory() / "CMakeFiles" / "core.dir" / "cpp"
    assert {path.name.split(".")[0] for path in folder.glob("*.o*")} == set(CORE)


@pytest.mark.skipif(not X86, reason="x86 instructions")
def test_bindings_have_no_avx():
    built = (REPO / "build").glob("*/CMakeFiles/_core.dir/cpp/bindings")
    newest = max(built, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        pytest.skip("no build of the extension under build/ (pip builds elsewhere here)")
    for source in (REPO / "cpp" / "bindings").glob("*.cpp"):
        assert not AVX.search(code(elf(newest / f"{source.name}.o")))
