"""Whether two runs of the benchmark found the same: `python -m bench repeatability A B`.

A and B are result files, or the folders of reports. Printed is for each row the speed-up over
CPython in both runs and by how much they differ; without CPython, the time per sample. The exit
code is 0 when every row agrees within --limit per cent, 1 when one does not or is in one run alone,
and 2 when there is nothing to compare.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.cases import RepeatabilityCase
from bench.command import Refused, positive, show
from bench.report.format import TIMES, digits, interval
from bench.results import BASELINE, Estimate, Probe, Results, Row

ALIKE = ("cpu_model_name", "corpus", "effort", "commit")  # facts that should not differ


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs=2, type=Path, metavar="RUN", help="results.json or its folder"
    )
    parser.add_argument(
        "--limit", type=positive, default=10.0, metavar="PERCENT", help="default: 10"
    )


def run(args: argparse.Namespace) -> int:
    first, second = (Results.load(path) for path in args.runs)
    for key in ALIKE:
        if first.run.get(key) != second.run.get(key):
            show(f"{key} differs: {first.run.get(key)} and {second.run.get(key)}")
    names = rows_of(first, second)
    if not names:
        raise Refused("no row to compare")
    width = max(map(len, names))
    beyond = 0
    for name in names:
        one, other = value(first, name), value(second, name)
        if one is None or other is None or one[0] != other[0]:
            what = "CPython " if one and other else ""
            show(f"{name:{width}}  {what}in one run alone")
            beyond += 1
            continue
        (what, a), (_, b) = one, other
        change = 100 * (b.value / a.value - 1)
        agrees = abs(change) <= args.limit
        beyond += not agrees
        show(
            f"{name:{width}}  {shown(a):>30}  {shown(b):>30}  {what}  {change:+6.1f} %"
            f"{'' if agrees else '  beyond the limit'}"
        )
    agreeing = f"{len(names) - beyond} of" if beyond else "all"
    show(f"{agreeing} {len(names)} rows agree within {args.limit:g} %")
    return 1 if beyond else 0


def rows_of(*runs: Results) -> list[str]:
    """Names of what either has measured, but CPython, which the others are held against."""
    rows = [row for results in runs for row in results.rows]
    return list(dict.fromkeys(r.name for r in rows if r.ok and r.variant != BASELINE))


def of_last(out: Path, results: Results) -> list[Probe]:
    """For the report that is about to replace the one in `out`: the rows of both, where that is of
    the same machine, corpus, effort and commit; else nothing."""
    try:
        last = Results.load(out)
    except (OSError, ValueError):  # none, or of no use
        return []
    if any(last.run.get(key) != results.run.get(key) for key in ALIKE):
        return []
    cases = []
    for name in rows_of(last, results):
        before, now = value(last, name), value(results, name)
        if before and now and before[0] == now[0]:
            what, row = before[0], row_of(results, name)
            assert row
            cases.append(RepeatabilityCase(
                row=f"{row.workload}, {row.title}", group=row.group, what=what,
                before=before[1].value, now=now[1].value, date=last.run["date"],
            ))  # fmt: skip
    return [Probe("repeatability", "", "", "", cases=cases)] if cases else []


def row_of(run: Results, name: str) -> Row | None:
    return next((row for row in run.rows if row.name == name and row.ok), None)


def value(run: Results, name: str) -> tuple[str, Estimate] | None:
    """The speed-up over CPython, or else the microseconds per sample; None where there is none."""
    row = row_of(run, name)
    if row is None:
        return None
    speedup = run.speedup(row)
    return (f"{TIMES} CPython", speedup) if speedup else ("µs per sample", row.estimate)


def shown(found: Estimate) -> str:
    return f"{digits(found.value)} ({interval(found)})"
