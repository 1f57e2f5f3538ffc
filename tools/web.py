"""Builds the page: the WebAssembly modules, with the clang of the ziglang package, and index.html.

    python tools/web.py build/web

index.html is whole by itself: scripts, style, modules, names and the figures of the last report
are in it, and its content security policy lets it fetch nothing. docs/web.md says how it is put
together.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

REPO = Path(__file__).resolve().parent.parent
WEB = REPO / "web"

# As in CMakeLists.txt: fused multiply-adds only where written.
FLAGS = [
    *["-target", "wasm32-wasi", "-std=c++17", "-O3", "-fno-rtti", "-fno-math-errno"],
    *["-fno-trapping-math", "-ffp-contract=off", "-Wall", "-Wextra", "-Wno-pass-failed"],
]
LIBRARY = ["-mexec-model=reactor", "-Wl,--no-entry", "-Wl,--strip-all"]
# Loop strength reduction would replace the addresses of loads by sums of many pointers, which
# WebAssembly has no registers for. For size: register tiles are unrolled by their pragmas anyway.
SIMD = ["-Os", "-fno-exceptions", "-mllvm", "-disable-lsr", "-DPYMICROGPT_FULL"]
SCALAR = ["-mcpu=generic", "-fno-vectorize", "-fno-slp-vectorize", "-DPYMICROGPT_LANES=1"]


@dataclass(frozen=True)
class Module:
    """One WebAssembly module: its sources beside cpp/wasm/module.cpp, and what compiles them."""

    sources: tuple[str, ...]
    flags: list[str]


SIMD_SOURCES = ("isa/wasm.cpp", "batch.cpp")
MODULES = {
    "relaxed": Module(SIMD_SOURCES, ["-mcpu=generic+simd128+relaxed_simd", *SIMD]),
    "simd": Module(SIMD_SOURCES, ["-mcpu=generic+simd128", *SIMD]),
    "scalar": Module(("isa/plain.cpp",), ["-fno-exceptions", *SCALAR]),
    "tape": Module(("wasm/tape.cpp",), ["-fignore-exceptions", *SCALAR]),
}


def compile_module(name: str, folder: Path, *flags: str) -> Path:
    """Compiles one of MODULES to folder/NAME.wasm. The compiler keeps what it has compiled before
    and only looks it up again."""
    module = MODULES[name]
    sources = [REPO / "cpp" / source for source in (*module.sources, "wasm/module.cpp")]
    defines = {"PYMICROGPT_TABLE": f"wasm_{name}"}
    out = folder / f"{name}.wasm"
    run_compiler([*LIBRARY, *module.flags, *flags], defines, sources, out)
    return out


def run_compiler(flags: list[str], defines: dict[str, str], sources: list[Path], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ziglang", "c++", *FLAGS, *flags]
    command += [f"-D{key}={value}" for key, value in defines.items()]
    subprocess.run([*command, *map(str, sources), "-o", str(out)], check=True, cwd=REPO)


# JavaScript: modules that import one another become one script.

IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.M)


def bundle(entry: str, sources: dict[str, str]) -> str:
    """The module `entry` of `sources` (by name) after all that it imports, as one script. Their
    top-level names must differ."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name in order:
            return
        for imported in IMPORT.findall(sources[name]):
            visit(imported)
        order.append(name)

    visit(entry)
    text = "\n".join(IMPORT.sub("", sources[name]).strip() for name in order)
    text = re.sub(r"^export ", "", text, flags=re.M)
    names = re.findall(r"^(?:async )?(?:const|let|class|function\*?) (\w+)", text, re.M)
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{entry}.js: several of its modules define {sorted(twice)}")
    if "</script" in text or "<!--" in text:
        raise ValueError(f"{entry}.js: a script in a page cannot hold '</script' or '<!--'")
    return text


# What the page quotes.

# Where each step of the ladder shows its code: the file, how a line begins, how many lines.
EXCERPTS = {
    "original": ("web/original.js", "  times(other) {", 3),
    "tape.js": ("web/tape.js", "    for (let i = from; i >= this.first; i--) {", 6),
    "tape": ("cpp/tape.h", "  static void multiply_backward(", 4),
    "scalar": ("cpp/kernels/plain.h", "    for (int i = 0; i < R; ++i) {", 4),
    "simd": ("cpp/kernels/matrix.h", "      PYMICROGPT_UNROLL for (int r = 0; r < R; ++r) {", 5),
    "relaxed": (
        "cpp/isa/wasm.cpp",
        "PYMICROGPT_INLINE Vec fma(",
        1,
    ),
}


def excerpt(path: str, begins: str, lines: int) -> dict[str, object]:
    source = (REPO / path).read_text(encoding="utf-8").splitlines()
    first = next((i for i, line in enumerate(source) if line.startswith(begins)), None)
    if first is None:
        raise ValueError(f"{path} has no line that begins with {begins!r}; see EXCERPTS")
    shown = source[first : first + lines]
    indent = min(len(line) - len(line.lstrip()) for line in shown if line)
    return {"path": path, "line": first + 1, "code": "\n".join(line[indent:] for line in shown)}


NATIVE = {"cpython": "CPython", "tape": "C++ tape", "scalar": "C++ scalar"}


def native_figures(report: Path) -> dict[str, object]:
    """Of the last committed report: µs per sample of d16 by row, NATIVE and SIMD, and the
    machine."""
    data = json.loads(report.read_text(encoding="utf-8"))
    labels = NATIVE | {
        row["variant"]: row["label"]
        for row in data["pymicrogpt"]["rows"]
        if row["group"] == "SIMD" and not row.get("variation_of")  # left out by default
    }
    values = {}
    for benchmark in data["benchmarks"]:
        workload, batch, variant = benchmark["metadata"]["name"].split("/")
        if workload == "d16" and variant in labels:
            times = [run["values"][0] for run in benchmark["runs"]]
            values[f"{labels[variant]}, batch {batch[1:]}"] = 1e6 * median(times)
    run = data["pymicrogpt"]["run"]
    return {"machine": run["cpu_model_name"], "commit": run["commit"], "microseconds": values}


# The page.


def packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, 9, mtime=0)).decode()


def sources_of_web() -> dict[str, str]:
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(WEB.glob("*.js"))}


def page(modules: dict[str, bytes], sources: dict[str, str]) -> str:
    """index.html, from compiled modules and the JavaScript sources by name."""
    style = (WEB / "style.css").read_text(encoding="utf-8")
    script = "\n" + bundle("page", sources) + "\n"
    facts = {
        "excerpts": {name: excerpt(*where) for name, where in EXCERPTS.items()},
        "native": native_figures(REPO / "reports" / "results.json"),
    }
    names = (REPO / "pymicrogpt" / "data" / "given_names.txt").read_bytes()
    data = {
        "worker": packed(bundle("worker", sources).encode()),
        "names": packed(names),
        "facts": packed(json.dumps(facts).encode()),
        **{f"wasm-{name}": packed(module) for name, module in modules.items()},
    }

    def source(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    policy = (
        f"default-src 'none'; script-src {source(script)} 'wasm-unsafe-eval'; "
        f"style-src {source(style)}; worker-src blob:; img-src blob: data:; base-uri 'none'; "
        "form-action 'none'"
    )
    blocks = "".join(
        f'<script type="text/plain" id="data-{name}">{text}</script>\n'
        for name, text in data.items()
    )
    html = (WEB / "index.html").read_text(encoding="utf-8")
    for mark, text in {
        "<!-- policy -->": f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        "<!-- style -->": f"<style>{style}</style>",
        "<!-- data -->": blocks,
        "<!-- script -->": f'<script type="module">{script}</script>',
    }.items():
        if html.count(mark) != 1:
            raise ValueError(f"web/index.html must have {mark} once")
        html = html.replace(mark, text)
    return html


def build(folder: Path) -> Path:
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # compilers are processes
        files = pool.map(lambda name: compile_module(name, folder), MODULES)
        modules = {name: file.read_bytes() for name, file in zip(MODULES, files, strict=True)}
    file = folder / "index.html"
    file.write_text(page(modules, sources_of_web()), encoding="utf-8")
    return file


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the page that trains in a browser.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    file = build(folder)
    for name in MODULES:
        module = (folder / f"{name}.wasm").read_bytes()
        print(f"{name}.wasm: {len(module):,} bytes, {len(gzip.compress(module, 9)):,} compressed")
    print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
