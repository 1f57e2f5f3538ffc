"""Verify and time every implementation, draw the figures, write the report.

By default d16 and d64, in about eight minutes on two cores, or eleven where PyTorch and JAX are
installed. See --quick and --full.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from bench import machine, pareto, probes, published, quality, report
from bench.results import Results, Row
from bench.runner import Effort, Measurement, run_workload
from bench.task import Task
from bench.variant import Variant, load_variants
from bench.workload import WORKLOADS, Workload

DEFAULT_WORKLOADS = ["d16", "d64"]
EFFORTS = {
    "quick": Effort(rounds=3, round_seconds=0.1, budget=5.0),
    "default": Effort(rounds=9, round_seconds=0.5, budget=20.0),
    "full": Effort(rounds=15, round_seconds=0.5, budget=100.0),
}


class BadArguments(Exception):
    """For the user, with exit code 2."""


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0, or 1 when a row or a probe is an error, 2 for bad arguments, 130 on Ctrl-C."""
    args = parse(argv)
    args.extra = [os.path.abspath(file) for file in args.extra]  # workers run elsewhere
    try:
        variants = load_variants(args.extra)
        if args.list:
            list_variants(variants)
            return 0
        return run(args, variants, argv)
    except (BadArguments, ValueError, OSError) as error:
        print(f"bench.run_all: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted: the report that was there is as it was", file=sys.stderr)
        return 130


def parse(argv: list[str] | None) -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    parser = argparse.ArgumentParser(
        prog="python -m bench.run_all",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument(
        "--quick",
        dest="effort",
        action="store_const",
        const="quick",
        help="one or two minutes: fewer rounds, and nothing that takes seconds a step",
    )
    effort.add_argument(
        "--full",
        dest="effort",
        action="store_const",
        const="full",
        help="every workload, more rounds: tens of minutes",
    )
    parser.set_defaults(effort="default")
    parser.add_argument("--variants", type=names, metavar="A,B", help="only these (see --list)")
    parser.add_argument("--workloads", type=names, metavar="A,B", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--corpus", metavar="PATH", help="text file, one document a line")
    parser.add_argument(
        "--extra", action="append", default=[], metavar="FILE", help="one more file of variants"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("reports"), metavar="DIR", help="default: reports"
    )
    parser.add_argument("--list", action="store_true", help="list the variants and stop")
    return parser.parse_args(argv)


def run(args: argparse.Namespace, variants: dict[str, Variant], argv: list[str] | None) -> int:
    variants = select("variant", variants, args.variants or list(variants))
    everything = args.effort == "full"
    wanted = args.workloads or (list(WORKLOADS) if everything else DEFAULT_WORKLOADS)
    workloads = select("workload", WORKLOADS, wanted)
    for package in ("matplotlib", "pyperf"):
        if find_spec(package) is None:
            raise BadArguments(f"needs {package}: pip install 'pymicrogpt[bench]'")
    if args.out.exists() and not args.out.is_dir():
        raise BadArguments(f"--out {args.out} is not a directory")

    import pymicrogpt

    corpus = pymicrogpt.Corpus.load(args.corpus)
    about = {
        **machine.describe(),
        "corpus": f"{len(corpus):,} documents, {without_folders(corpus.source)}",
        "command": without_folders(
            shlex.join(["bench.run_all", *(sys.argv[1:] if argv is None else argv)])
        ),
        "effort": args.effort,
    }
    print(f"{about['cpu_model_name']}, {about['cpu_count']} cores; {about['corpus']}", flush=True)
    watch = machine.Watch()
    described, rows, probed, tasks_of = {}, [], [], {}
    with tempfile.TemporaryDirectory(prefix="pymicrogpt-bench-") as folder, progress() as tell:
        for workload in workloads.values():
            tell(f"{workload.name}: computing the truth", "")
            batches = sorted({batch for v in variants.values() for batch in v.batches})
            tasks = {b: Task.prepare(workload, b, corpus, Path(folder)) for b in batches}
            tasks_of[workload.name] = tasks
            described[workload.name] = describe(workload, tasks[batches[0]])
            effort = EFFORTS[args.effort]
            measurements = []
            for variant in variants.values():
                for batch in variant.batches:
                    row = new_row(variant, workload, batch, args.effort)
                    rows.append(row)
                    if row.ok:
                        task = tasks[batch]
                        measurements.append(Measurement(row, variant, task, effort, args.extra))
            run_workload(measurements, effort, tell)
        if engine := probes.best_engine(variants):
            probed = probes.run_probes(engine, tasks_of, rows, args.effort, tell)
        evaluator = engine or "autovec"
        probed += quality.run_quality(
            evaluator, variants, workloads, rows, corpus, quality.EFFORTS[args.effort],
            Path(folder, "quality"), tell, args.extra,
        )  # fmt: skip
        if everything and engine:
            probed.append(pareto.run_pareto(corpus, engine, variants[engine].label, tell))
    after = watch.facts()
    if "load_avg_1min" in after:
        after["load_avg_1min_after"] = after.pop("load_avg_1min")  # the other is from before
    about |= after

    results = Results(about, described, rows, published.PUBLISHED, published.SOURCE, probed)
    for workload in workloads:
        print("\n" + report.text_table(results, workload))
    report.write(results, args.out)
    print(f"\nreport: {args.out / 'index.html'}, {args.out / 'README.md'}")
    return 1 if any(found.status == "error" for found in [*rows, *probed]) else 0


def select(what: str, known: dict, wanted: list[str]) -> dict:
    for name in wanted:
        if name not in known:
            raise BadArguments(f"no {what} {name!r}; there are {', '.join(known)}")
    return {name: known[name] for name in known if name in wanted}


def new_row(variant: Variant, workload: Workload, batch: int, effort: str) -> Row:
    row = Row(
        variant.name, variant.label, variant.group, workload.name, batch, variant.variation_of,
        variant.steady,
    )  # fmt: skip
    reason = variant.available()
    if reason is not None:
        row.status, row.reason = "unavailable", reason
    elif workload.name not in variant.workloads:
        row.status, row.reason = "skipped", f"not run on {workload.name}: too slow to be of use"
    elif effort == "quick" and workload.name in variant.slow_on:
        row.status, row.reason = "skipped", "not run in --quick"
    return row


def describe(workload: Workload, task: Task) -> dict:
    return {
        **workload.describe(),
        "vocab_size": task.vocab_size,
        "num_params": len(task.parameters),
        "mean_positions": float(workload.positions(task.offsets).mean()),
        "flops_per_sample": workload.flops(task.offsets, task.vocab_size),
    }


def without_folders(text: str) -> str:
    """A text for the report, which may be published: files by their names alone."""
    return re.sub(r"(?<![\w:/])/(?:[^/\s]+/)+", "", text)


def list_variants(variants: dict[str, Variant]) -> None:
    for variant in variants.values():
        batches = " and ".join(map(str, variant.batches))
        here = variant.available() or "runs here"
        print(f"{variant.name:17} {variant.label:28} batch {batches:8} {here}")


@contextmanager
def progress() -> Iterator:
    """A function to tell what is being done: one live line on a terminal, else a line a stage."""
    if sys.stdout.isatty() and find_spec("rich"):
        from rich.console import Console

        with Console().status("") as status:
            yield lambda stage, detail: status.update(f"{stage}  [dim]{detail}[/dim]")
        return
    stages = [""]

    def tell(stage: str, detail: str) -> None:
        if stage != stages[-1]:
            stages.append(stage)
            print(stage, flush=True)

    yield tell


if __name__ == "__main__":
    sys.exit(main())
