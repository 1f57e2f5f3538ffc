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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench import published
from bench.command import Refused, described, end, names, say, show, writable
from bench.measure import machine, pareto, probes, quality, unfinished
from bench.measure.effort import EFFORTS
from bench.measure.rows import Measurement, run_workload
from bench.report.findings import speedup
from bench.report.format import heading
from bench.report.part import text_of
from bench.report.write import kept, reason, write_or_keep
from bench.results import Probe, Results, Row
from bench.task.task import Task
from bench.task.text import text_corpus
from bench.task.workload import WORKLOADS, Workload
from bench.variants.variant import Variant, load_variants

if TYPE_CHECKING:
    from pymicrogpt import Corpus

DEFAULT_WORKLOADS = ["d16", "d64"]
Named = TypeVar("Named")


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0, or 1 when a row or a probe is an error, 2 for bad arguments, 130 on Ctrl-C."""
    args = parse(argv)
    args.extra = [os.path.abspath(file) for file in args.extra]  # workers run elsewhere
    args.command = shlex.join(["bench.run_all", *(sys.argv[1:] if argv is None else argv)])
    return end("bench.run_all", run, args)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run_all", **described(__doc__))
    effort = parser.add_mutually_exclusive_group()
    for name, words in (
        ("quick", "one or two minutes: fewer rounds, and nothing that takes seconds a step"),
        ("full", "every workload, more rounds: an hour or more"),
    ):
        effort.add_argument(
            f"--{name}", dest="effort", action="store_const", const=name, help=words
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
    parser.add_argument(
        "--resume", action="store_true", help="go on with the interrupted run in DIR"
    )
    parser.add_argument("--list", action="store_true", help="list the variants and stop")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> int:
    variants = load_variants(args.extra)
    if args.list:
        list_variants(variants)
        return 0
    effort = EFFORTS[args.effort]
    variants = select("variant", variants, args.variants or list(variants))
    wanted = args.workloads or (list(WORKLOADS) if effort.full else DEFAULT_WORKLOADS)
    workloads = select("workload", WORKLOADS, wanted)
    for package in ("matplotlib", "pyperf"):
        if find_spec(package) is None:
            raise Refused(f"needs {package}: pip install 'pymicrogpt[bench]'")
    writable("--out", args.out, folder=True)

    import pymicrogpt

    corpus = pymicrogpt.Corpus.load(args.corpus)
    here = [name for name, variant in variants.items() if variant.available() is None]
    about: dict[str, Any] = {
        **machine.describe(),
        "corpus": f"{len(corpus):,} documents, {without_folders(corpus.source)}",
        "command": without_folders(args.command),
        "effort": args.effort,
        **unfinished.identity(corpus, args.extra, f"{', '.join(workloads)}; {', '.join(here)}"),
    }
    say(f"{about['cpu_model_name']}, {about['cpu_count']} cores; {about['corpus']}")
    watch = machine.Watch()
    if args.resume:
        results = unfinished.go_on(args.out, about)
        say(f"going on after {', '.join(unfinished.whole(results)) or 'nothing that is whole'}")
    else:
        results = Results(about, {}, [], published.PUBLISHED, published.SOURCE)
        if (file := args.out / unfinished.UNFINISHED).exists():
            say(
                f"{file} is of an interrupted run, which --resume goes on with; this replaces it"
            )
    try:
        measure(args, variants, workloads, corpus, results)
    except (Exception, KeyboardInterrupt) as error:
        if any(row.values for row in results.rows):
            raise kept_for_later(results, args.out, error) from error
        raise
    after = watch.facts()
    if "load_avg_1min" in after:
        after["load_avg_1min_after"] = after.pop("load_avg_1min")  # the other is from before
    results.run |= after
    results.run.pop("whole")

    write_or_keep(results, args.out)
    unfinished.remove(args.out)
    for name in workloads:
        show("\n" + text_table(results, name))
    show(f"\nreport: {args.out / 'index.html'}, {args.out / 'README.md'}")
    wrong = any(row.status == "error" for row in results.rows)
    return 1 if wrong or any(probe.status == "error" for probe in results.probes) else 0


def measure(
    args: argparse.Namespace,
    variants: dict[str, Variant],
    workloads: dict[str, Workload],
    corpus: Corpus,
    results: Results,
) -> None:
    """Puts into the results what rows and probes find, as it is found, and keeps it on the disk;
    what is there already is not measured again."""
    effort, rows = EFFORTS[args.effort], results.rows
    # Probes go through a training for each thing they ask, and quality trains for a second: that is
    # minutes of running text, and no training of it.
    probed = {name: w for name, w in workloads.items() if not w.running_text}
    with tempfile.TemporaryDirectory(prefix="pymicrogpt-bench-") as folder, progress() as tell:
        tasks: dict[str, dict[int, Task]] = {}
        for workload in workloads.values():
            whole = workload.name in unfinished.whole(results)
            if whole and workload.name not in probed:
                continue
            tell(f"{workload.name}: computing the truth", "")
            batches = sorted({b for v in variants.values() for b in v.batches_on(workload)})
            documents = text_corpus(workload.block_size) if workload.running_text else corpus
            found = {b: Task.prepare(workload, b, documents, Path(folder)) for b in batches}
            tasks[workload.name] = found
            if whole:
                continue
            results.workloads[workload.name] = found[batches[0]].describe()
            measurements = []
            for variant in variants.values():
                for batch in variant.batches_on(workload):
                    row = new_row(variant, workload, batch, args.effort)
                    rows.append(row)
                    if row.ok:
                        measurements.append(
                            Measurement(row, variant, found[batch], effort, args.extra)
                        )
            run_workload(measurements, effort, tell)
            unfinished.set_whole(results, workload.name)
            unfinished.keep(results, args.out)
        for probe in run_probes(args, variants, probed, tasks, corpus, results, Path(folder), tell):
            results.probes.append(probe)
            unfinished.keep(results, args.out)


def run_probes(
    args: argparse.Namespace,
    variants: dict[str, Variant],
    probed: dict[str, Workload],
    tasks: dict[str, dict[int, Task]],
    corpus: Corpus,
    results: Results,
    folder: Path,
    tell: Callable[[str, str], None],
) -> Iterator[Probe]:
    """Each as it is found; those in the results are not asked again."""
    effort = EFFORTS[args.effort]
    done = {(probe.name, probe.workload) for probe in results.probes}
    if (engine := probes.best_engine(variants)) and probed:
        of = {name: tasks[name] for name in probed}
        yield from probes.run_probes(engine, of, results.rows, args.effort, tell, done)
    left = {name: w for name, w in probed.items() if ("quality", name) not in done}
    if ("quality", "") not in done:  # it had nothing to hold out
        yield from quality.run_quality(
            engine or "autovec", variants, left, results.rows, corpus, effort, folder / "quality",
            tell, args.extra,
        )  # fmt: skip
    if effort.full and engine and ("pareto", "") not in done:
        yield pareto.run_pareto(corpus, engine, variants[engine].label, tell)


def kept_for_later(results: Results, out: Path, error: BaseException) -> Refused:
    """What to raise where measuring ended before its time."""
    try:
        file = unfinished.keep(results, out)
    except (OSError, KeyboardInterrupt):  # the folder is gone, or the disk is full
        return kept(results, "measuring ended", error)
    names = ", ".join(unfinished.whole(results)) or "no workload"
    return Refused(
        f"measuring ended ({reason(error)}); finished and kept: {names}. The same command with "
        f"--resume goes on; python -m bench report {file} --out OTHER_DIR draws what is there"
    )


def text_table(results: Results, workload: str) -> str:
    lines = [heading(results, workload), text_of(speedup.table(results, workload))]
    lines.append(speedup.no_baseline(results, workload))
    return "\n".join(filter(None, lines))


def select(what: str, known: dict[str, Named], wanted: list[str]) -> dict[str, Named]:
    for name in wanted:
        if name not in known:
            raise Refused(f"no {what} {name!r}; there are {', '.join(known)}")
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


def without_folders(text: str) -> str:
    """A text for the report, which may be published: files by their names alone."""
    return re.sub(r"(?<![\w:/])/(?:[^/\s]+/)+", "", text)


def list_variants(variants: dict[str, Variant]) -> None:
    for variant in variants.values():
        batches = " and ".join(map(str, variant.batches))
        here = variant.available() or "runs here"
        show(f"{variant.name:17} {variant.label:29} batch {batches:8} {here}")


@contextmanager
def progress() -> Iterator[Callable[[str, str], None]]:
    """A function to tell what is being done: one live line on a terminal, else a line a stage."""
    if sys.stdout.isatty() and find_spec("rich"):
        from rich.console import Console
        from rich.text import Text

        with Console().status("") as status:
            yield lambda stage, detail: status.update(Text(f"{stage}  ").append(detail, "dim"))
        return
    stages = [""]

    def tell(stage: str, detail: str) -> None:
        if stage != stages[-1]:
            stages.append(stage)
            say(stage)

    yield tell


if __name__ == "__main__":
    sys.exit(main())
