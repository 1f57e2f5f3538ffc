"""Instructions of a training step, by callgrind: `python -m bench instructions COUNT_STEPS`.

COUNT_STEPS is what tests/cpp/count_steps.cpp is built to; `make instructions` does both. The count
is free of noise: it is the same on a busy machine, and another one when a compiler leaves a loop
rolled or spills a register. It says nothing of time: it stands beside the gates, not instead.

A step is the difference of two runs of different length, divided by the steps between, so that
what comes before the training is left out. The counts of instructions.toml were made with the
compilers named there and must hold for them to its tolerance, upwards. How many times the
instructions of an AVX2 step a scalar step takes depends less on the compiler: those floors hold for
all. Valgrind knows no AVX-512. --record writes the counts of this compiler into the file.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from pathlib import Path
from typing import Any

from bench.command import Refused, read_toml, writable

FILE = Path(__file__).with_name("instructions.toml")
ENGINES = ("scalar", "avx2")
CASES = [(n_embd, batch) for n_embd in (16, 64) for batch in (1, 16)]
LONG = {1: 6, 16: 2}  # steps of the longer run by batch size; the shorter one has one step


def names() -> list[str]:
    return [f"{engine} d{n}-b{batch}" for n, batch in CASES for engine in ENGINES]


def compiler(program: Path) -> str:
    """The compiler that built it, as "GNU 12"."""
    text = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return text.strip().split(".")[0]


def count(program: Path, name: str) -> int:
    """Instructions of a step, a mean. RuntimeError where valgrind cannot say."""
    engine, shape = name.split()
    n_embd, batch = shape.removeprefix("d").split("-b")
    totals = []
    for steps in (1, LONG[int(batch)]):
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        command += [str(program), engine, n_embd, batch, str(steps)]
        done = subprocess.run(command, capture_output=True, text=True)
        found = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode or not found:
            raise RuntimeError(f"{name}: {done.stderr.strip()[-500:] or 'no count'}")
        totals.append(int(found.group(1)))
    return (totals[1] - totals[0]) // (LONG[int(batch)] - 1)


def gains(counts: dict[str, int]) -> dict[str, float]:
    """By shape, instructions of a scalar step over those of an AVX2 step."""
    shapes = [f"d{n}-b{batch}" for n, batch in CASES]
    return {shape: counts[f"scalar {shape}"] / counts[f"avx2 {shape}"] for shape in shapes}


def failures(limits: dict[str, Any], compiler: str, counts: dict[str, int]) -> list[str]:
    """What takes more than it may, in words."""
    words = []
    for shape, gain in gains(counts).items():
        floor = limits["scalar_over_avx2"].get(shape)
        if floor is None:
            words.append(f"{shape} has no floor in {FILE.name}")
        elif gain < floor:
            words.append(f"scalar over avx2, {shape}: {gain:.2f}, under its floor of {floor}")
    recorded = limits["counts"].get(compiler)
    if recorded is None:
        return words  # the floors are all that is known of this compiler
    for name, found in counts.items():
        most = recorded.get(name, 0) * (1 + limits["tolerance"])
        if found > most:
            words.append(
                f"{name}: {found:,} instructions a step, recorded {recorded.get(name, 0):,}"
            )
    return words


def load() -> dict[str, Any]:
    return read_toml(FILE)


def record(compiler: str, counts: dict[str, int]) -> None:
    """Puts the section of a compiler at the end of the file, instead of the one that was there."""
    head = f'[counts."{compiler}"]\n'
    text = FILE.read_text(encoding="utf-8")
    text = re.sub(rf"\n*{re.escape(head)}(?:[^\[\n].*\n|\n)*", "\n", text).rstrip("\n")
    text += f"\n\n{head}" + "".join(f'"{name}" = {found}\n' for name, found in counts.items())
    FILE.write_text(text, encoding="utf-8")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("program", type=Path, metavar="COUNT_STEPS")
    parser.add_argument("--record", action="store_true", help="keep the counts of this compiler")


def run(args: argparse.Namespace) -> int:
    if args.record:
        writable("--record", FILE, folder=False)
    try:
        built_by = compiler(args.program)
        counts = {name: count(args.program, name) for name in names()}
    except (RuntimeError, subprocess.CalledProcessError) as error:
        raise Refused(str(error)) from error
    if args.record:
        record(built_by, counts)
    limits = load()
    known = limits["counts"].get(built_by, {})
    print(f"instructions a step, {built_by}" + ("" if known else ", of which none are recorded"))
    for name, found in counts.items():
        change = f"{100 * (found / known[name] - 1):+.2f} %" if name in known else ""
        print(f"  {name:15} {found:>12,}  {change}")
    for shape, gain in gains(counts).items():
        print(f"  scalar over avx2, {shape}: {gain:.2f}")
    failed = failures(limits, built_by, counts)
    for words in failed:
        print(words)
    return 1 if failed else 0
