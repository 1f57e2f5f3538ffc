"""Prints rows for other programs: `python -m bench export RUN --format bmf`.

    bmf      Bencher's metric format: for each row its time in ns per sample ("latency") and samples
             per second ("throughput") with their intervals, its speed-up over CPython in the same
             run, and the memory of its process in bytes, as far as they are known
    pyperf   what pyperf's commands read: a benchmark for each row, a run for each round, also for
             those beside a neighbour, which the report leaves out

A row is called workload/batch/variant, d16/b16/avx512. Rows without a number are left out.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from bench.command import Refused, names, show, writable
from bench.results import Estimate, Results, Row, per_time


def bmf(results: Results, _: Path, rows: list[Row]) -> str:
    """https://bencher.dev/docs/reference/bencher-metric-format/"""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        time = row.estimate
        measures = {"latency": metric(time * 1e3), "throughput": metric(per_time(1e6, time))}
        if speedup := results.speedup(row):
            measures["speedup-over-cpython"] = metric(speedup)
        if row.peak_memory:
            measures["peak-memory"] = {"value": float(row.peak_memory)}
        found[row.name] = measures
    return json.dumps(found, indent=2, allow_nan=False)


def metric(found: Estimate) -> dict[str, float]:
    """One round has no interval."""
    ends = {"lower_value": found.low, "upper_value": found.high} if found.rounds > 1 else {}
    return {"value": found.value, **ends}


def pyperf(_: Results, file: Path, rows: list[Row]) -> str:
    from pyperf import BenchmarkSuite

    wanted = {row.name for row in rows}
    buffer = io.StringIO()
    suite = [b for b in BenchmarkSuite.load(str(file)) if b.get_name() in wanted]
    BenchmarkSuite(suite).dump(buffer)
    return buffer.getvalue().rstrip()


FORMATS = {"bmf": bmf, "pyperf": pyperf}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "run", nargs="?", type=Path, default=Path("reports"), metavar="RUN",
        help="results.json or its folder (reports)",
    )  # fmt: skip
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument(
        "--rows", type=names, metavar="A,B", help="these alone; * stands for anything: d16/*"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")


def run(args: argparse.Namespace) -> int:
    file = args.run / "results.json" if args.run.is_dir() else args.run
    results = Results.load(file)
    if args.out:
        writable("--out", args.out, folder=False)
    rows = [row for row in results.rows if row.ok and row.values]
    for pattern in args.rows or []:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            known = ", ".join(row.name for row in rows) or "none"
            raise Refused(f"--rows: no row {pattern} with a number; there are {known}")
    if args.rows:
        rows = [row for row in rows if any(fnmatchcase(row.name, p) for p in args.rows)]
    if not rows:
        raise Refused(f"no row of {file} has a number")
    text = FORMATS[args.format](results, file, rows)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")
    else:
        show(text)
    left_out = sum(not row.ok for row in results.rows)
    if left_out:
        print(f"{left_out} rows have no number and are left out", file=sys.stderr)
    return 0
