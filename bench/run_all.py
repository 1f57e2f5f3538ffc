"""Verify and time every implementation, draw the figures, write the report.

By default d16 to d256, in about seven minutes on two cores, or twelve where PyTorch, JAX and
Numba are installed, and up to seven more beside a busy neighbour: everything on d16 and d64, on the
others what takes less than a millisecond a sample. See --quick and --full.
"""

from __future__ import annotations

import argparse
import math
import os
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
from bench.guard import repeatability
from bench.measure import generation, machine, pareto, probes, quality, unfinished
from bench.measure import time_left as time_left_of
from bench.measure.effort import EFFORTS
from bench.measure.neighbour import Neighbour, look_around
from bench.measure.rows import Measurement, run_workload, too_slow
from bench.measure.time_left import TimeLeft
from bench.report.findings import speedup
from bench.report.format import heading
from bench.report.part import text_of
from bench.report.write import kept, reason, write_or_keep
from bench.results import Probe, Results, Row
from bench.task.task import Task
from bench.task.text import text_corpus
from bench.task.workload import WIDTHS, WORKLOADS, Workload
from bench.variants.variant import Variant, best_engine, load_variants
from pymicrogpt._signals import Signals

if TYPE_CHECKING:
    from pymicrogpt import Corpus

FEW = ("d16", "d64")  # on which every row runs by default, probes and trainings for quality too
LONG_START = 10.0  # seconds: what takes longer until its first step is done runs on FEW too
MILLISECOND = 1e-3  # a sample: what takes longer runs on FEW by default
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
        (
            "quick",
            "one or two minutes: d16, d64, few rounds, and nothing that takes seconds a step",
        ),
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
    default = {"quick": FEW, "default": WIDTHS, "full": WORKLOADS}[args.effort]
    workloads = select("workload", WORKLOADS, args.workloads or list(default))
    args.few = () if args.workloads or effort.full else FEW
    for package in ("jinja2", "matplotlib", "pyperf"):
        if find_spec(package) is None:
            raise Refused(f"needs {package}: pip install 'pymicrogpt[bench]'")
    writable("--out", args.out, folder=True)

    import pymicrogpt

    corpus = pymicrogpt.Corpus.load(args.corpus)
    here = [name for name, variant in variants.items() if variant.available() is None]
    about: dict[str, Any] = {
        **machine.describe(),
        **machine.corpus_facts(corpus),
        "command": machine.without_folders(args.command),
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
        results.variants = {
            name: {"label": v.label, "about": v.about, "source": v.source}
            for name, v in variants.items()
        }
        if (file := args.out / unfinished.UNFINISHED).exists():
            say(f"{file} is of an interrupted run, which --resume goes on with; this replaces it")
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
    results.probes += repeatability.of_last(args.out, results)

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
    effort = EFFORTS[args.effort]
    # Probes go through a training for each thing they ask, and quality trains for a second: that is
    # minutes of running text, and no training of it.
    probed = {
        name: w for name, w in workloads.items()
        if not w.running_text and name in (args.few or workloads)
    }  # fmt: skip
    done = unfinished.whole(results)
    time_left, neighbour = TimeLeft(), look_around()
    with (
        tempfile.TemporaryDirectory(prefix="pymicrogpt-bench-") as folder,
        progress(time_left) as tell,
    ):
        plan(args, variants, workloads, probed, results, time_left)
        tasks: dict[str, dict[int, Task]] = {}
        for name, workload in workloads.items():
            if name in done and name not in probed:
                continue
            tell(f"{name}: computing the truth", "")
            rows = new_rows(args, variants, workload, results)
            batches = sorted({row.batch for row in rows if row.ok} or {workload.batch_size or 1})
            documents = text_corpus(workload.block_size) if workload.running_text else corpus
            found = {b: Task.prepare(workload, b, documents, Path(folder)) for b in batches}
            tasks[name] = found
            if name in done:
                continue
            results.workloads[name] = found[batches[0]].describe()
            slowest = MILLISECOND if args.few and name not in args.few else math.inf
            time_left.begin(name)
            results.rows += rows
            run_workload(
                [
                    Measurement(
                        row,
                        variants[row.variant],
                        found[row.batch],
                        effort,
                        args.extra,
                        slowest,
                        neighbour,
                    )
                    for row in rows
                    if row.ok
                ],
                effort,
                tell,
                time_left.left_of_stage,
                neighbour,
            )
            unfinished.set_whole(results, name)
            unfinished.keep(results, args.out)
        time_left.begin("probes")
        probing = run_probes(
            args, variants, probed, tasks, corpus, results, Path(folder), tell, neighbour
        )
        for probe in probing:
            results.probes.append(probe)
            unfinished.keep(results, args.out)
        for row in results.rows:  # the highest pace may have come late
            neighbour.judge(row.rounds)


def plan(
    args: argparse.Namespace,
    variants: dict[str, Variant],
    workloads: dict[str, Workload],
    probed: dict[str, Workload],
    results: Results,
    time_left: TimeLeft,
) -> None:
    """What is to come, and how long that takes: the workloads in their order, then all probes."""
    effort = EFFORTS[args.effort]
    kinds = len(probes.PROBES) - len(probes.OF_NO_WORKLOAD) + 1  # one of which is generation
    asked = kinds * len(probed) + len(probes.OF_NO_WORKLOAD)
    seconds = time_left_of.probe_seconds(effort) * asked
    for name, workload in workloads.items():
        rows = new_rows(args, variants, workload, results)
        if name not in unfinished.whole(results):
            of_rows = [(row, variants[row.variant]) for row in rows]
            time_left.planned[name] = time_left_of.rows_seconds(of_rows, effort)
        if name in probed:
            trained = sum(row.ok and not row.variation_of for row in rows)
            seconds += time_left_of.quality_seconds(trained, effort)
    if effort.full:
        seconds += sum(budget * most for budget, most in pareto.TRIALS.items())
    time_left.planned["probes"] = seconds


def run_probes(
    args: argparse.Namespace,
    variants: dict[str, Variant],
    probed: dict[str, Workload],
    tasks: dict[str, dict[int, Task]],
    corpus: Corpus,
    results: Results,
    folder: Path,
    tell: Callable[[str, str], None],
    neighbour: Neighbour,
) -> Iterator[Probe]:
    """Each as it is found; those in the results are not asked again."""
    effort = EFFORTS[args.effort]
    done = {(probe.name, probe.workload) for probe in results.probes}
    if (engine := best_engine(variants)) and probed:
        of = {name: tasks[name] for name in probed}
        yield from probes.run_probes(engine, of, results.rows, args.effort, tell, done, neighbour)
    for name, workload in probed.items():
        if engine and ("generation", name) not in done:
            tell(f"{name}: generating", "")
            label = variants[engine].label
            yield generation.run_generation(
                workload, corpus, args.effort, folder, engine, label, neighbour
            )
    left = {name: w for name, w in probed.items() if ("quality", name) not in done}
    if ("quality", "") not in done:  # it had nothing to hold out
        yield from quality.run_quality(
            engine or "autovec", variants, left, results.rows, corpus, effort, folder / "quality",
            tell, args.extra, neighbour,
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
    lines += [speedup.no_baseline(results, workload), *speedup.not_here(results, workload)]
    return "\n".join(filter(None, lines))


def select(what: str, known: dict[str, Named], wanted: list[str]) -> dict[str, Named]:
    for name in wanted:
        if name not in known:
            raise Refused(f"no {what} {name!r}; there are {', '.join(known)}")
    return {name: known[name] for name in known if name in wanted}


def new_rows(
    args: argparse.Namespace, variants: dict[str, Variant], workload: Workload, results: Results
) -> list[Row]:
    """Those of a workload; they are not ok where they are not to be measured. By default rows that
    vary another one, to explain it, are on FEW alone."""
    few = args.few and workload.name not in args.few
    rows = []
    for variant in variants.values():
        if few and variant.variation_of:
            continue
        for batch in variant.batches_on(workload):
            row = new_row(variant, workload, batch, args.effort)
            if few and row.ok and (reason := too_much(variant, batch, results)):
                row.status, row.reason = "skipped", reason
            rows.append(row)
    return rows


def too_much(variant: Variant, batch: int, results: Results) -> str:
    """Why a row does not run on more sizes than FEW, after what it took on narrower ones; or ""."""
    if variant.steady:
        return "over a millisecond a sample: not run on this size (--full has it)"
    for row in results.rows:
        if (row.variant, row.batch) == (variant.name, batch):
            if row.ok and row.values and row.microseconds > 1e6 * MILLISECOND:
                return too_slow(row.microseconds)
            if row.status == "skipped":
                return row.reason
    # The fastest of all, at whatever batch size: others may have compiled beside a busy neighbour.
    starts = [r.cold_start for r in results.rows if r.variant == variant.name and r.cold_start]
    if starts and min(starts) > LONG_START:
        return f"{min(starts):.0f} s to start: not run on this size (--full has it)"
    return ""


def new_row(variant: Variant, workload: Workload, batch: int, effort: str) -> Row:
    row = Row(
        variant.name, variant.label, variant.group, workload.name, batch, variant.variation_of,
        variant.steady,
    )  # fmt: skip
    reason = variant.missing()
    if reason is not None:
        row.status, row.reason = "unavailable", reason
    elif workload.name not in variant.workloads:
        row.status, row.reason = "skipped", f"not run on {workload.name}: too slow to be of use"
    elif effort == "quick" and workload.name in variant.slow_on:
        row.status, row.reason = "skipped", "not run in --quick"
    return row


def list_variants(variants: dict[str, Variant]) -> None:
    for variant in variants.values():
        batches = " and ".join(map(str, variant.batches))
        here = variant.missing() or "runs here"
        show(f"{variant.name:17} {variant.label:29} batch {batches:8} {here}")


@contextmanager
def progress(time_left: TimeLeft) -> Iterator[Callable[[str, str], None]]:
    """A function to tell what is being done, and how long all takes: one live line on a terminal,
    else a line a stage."""
    if sys.stdout.isatty() and find_spec("rich"):
        from rich.console import Console
        from rich.text import Text

        with Console().status("") as status:

            def show_live(stage: str, detail: str) -> None:
                words = ", ".join(filter(None, (detail, str(time_left))))
                status.update(Text(f"{stage}  ").append(words, "dim"))

            yield show_live
        return
    stages = [""]

    def tell(stage: str, detail: str) -> None:
        if stage != stages[-1]:
            stages.append(stage)
            say(", ".join(filter(None, (stage, str(time_left)))))

    yield tell


if __name__ == "__main__":
    Signals.one_is_enough = True
    sys.exit(main())
