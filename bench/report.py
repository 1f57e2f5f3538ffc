"""The report: tables for the terminal and README.md, figures, and the folder that holds them.

`python -m bench.report DIR` draws the report in DIR again, from its results.json.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import draw_all
from bench.figures.style import TIMES, digits, per_cent, provenance
from bench.probe_report import FIGURES, sections
from bench.results import Results, Row

HEADER = (
    "implementation", "batch", "µs per sample", f"{TIMES} CPython", "samples/s", "GFLOP/s",
    "of peak", "wall time", "loss (steps)", "note",
)  # fmt: skip
NUMBERS = range(1, 9)  # columns set flush right
METHOD = """\
A *sample* is one document taken through forward, backward and its share of one optimizer update.
Timed is everything from document indices to updated weights, batch assembly included; loading,
shuffling and initialisation are not. Every row ran in a process of its own with one thread. Before
it was timed, its first loss and its gradients were compared with the float64 tape (relative error
at most 1e-9 in float64; 1e-6 for the loss and 1e-5 for each gradient tensor in float32), and the
losses of the first steps of each training (20, or fewer for wide models) while it ran; a row that
fails has no number. Gradients of pure Python are not compared where one step takes seconds; its
losses are.

Rounds of the rows are interleaved, one process at a time, so that a drift of the machine hits all
alike; shown is the median of the rounds. Since documents differ in length, and a slow row trains
few of them, time per sample is time per position times the corpus's mean positions per document;
over a whole training it is time divided by documents. A training of 1,000 steps that ends starts
again from the same parameters. The loss is the mean over the steps in brackets, on training data:
the last 50 of a training where a row finished one, else the last that it did.

Autograd implementations run batch 1, as published. The others run batch 1 and batch 16: batch 16
also makes 16 times fewer optimizer updates, so these are two different claims. GFLOP/s counts
useful operations: 6 · positions · (12 L C² + V C) plus attention; a prefix that documents of a
batch share counts once per document, as the work asked for. Their share of the peak is that of the
multiply-adds which one core was measured to do, with the widest vectors it has. A speed-up over
CPython holds for this machine and this run.
"""


def table(results: Results, workload: str) -> list[tuple[str, ...]]:
    """Cells of a workload's rows, under HEADER."""
    lines = [_cells(results, row) for row in results.rows if row.workload == workload]
    for name, microseconds in results.published.get(workload, {}).items():
        note = f"published elsewhere: {results.published_source}"
        lines.append((name, "", f"{microseconds:,}", *[""] * 6, note))
    return lines


def _cells(results: Results, row: Row) -> tuple[str, ...]:
    if not row.ok:
        return (row.label, str(row.batch), *["-"] * 7, f"{row.status}: {row.reason}")
    speedup = results.speedup(row)
    gflops = results.gflops(row)
    peak = results.run.get("peak_gflops")
    rounds = f"{len(row.rounds)} round" + ("s" if len(row.rounds) > 1 else "")
    return (
        row.label,
        str(row.batch),
        digits(row.microseconds),
        digits(speedup) if speedup else "",
        digits(1e6 / row.microseconds),
        digits(gflops) if gflops >= 0.01 else f"{gflops:.1g}",
        per_cent(gflops / peak) if peak else "",
        f"{row.wall_seconds:.2f} s",
        f"{row.loss:.3f} ({row.loss_first_step}-{row.loss_last_step})",
        rounds,
    )


def used_columns(lines: list[tuple[str, ...]]) -> list[int]:
    """Columns in which something stands."""
    return [i for i in range(len(HEADER)) if any(line[i] not in ("", "-") for line in lines)]


def heading(results: Results, workload: str) -> str:
    w = results.workloads[workload]
    return (
        f"{workload}: n_embd {w['n_embd']}, n_layer {w['n_layer']}, n_head {w['n_head']}, "
        f"block_size {w['block_size']}, {w['num_params']:,} parameters"
    )


def no_baseline(results: Results, workload: str) -> str:
    if results.baseline(workload):
        return ""
    return "No speed-up: CPython was not measured in this run."


def text_table(results: Results, workload: str) -> str:
    lines = table(results, workload)
    columns = used_columns(lines)
    lines = [HEADER, *lines]
    widths = {i: max(len(line[i]) for line in lines) for i in columns}
    text = [heading(results, workload)]
    for line in lines:
        cells = [
            line[i].rjust(widths[i]) if i in NUMBERS else line[i].ljust(widths[i]) for i in columns
        ]
        text.append("  ".join(cells).rstrip())
    if reason := no_baseline(results, workload):
        text.append(reason)
    return "\n".join(text)


def markdown(results: Results, figures: list[str]) -> str:
    about = results.run
    text = ["# Benchmark report", "", provenance(results).replace(" | ", " · "), ""]
    for workload in results.workloads:
        lines = table(results, workload)
        columns = used_columns(lines)
        text += ["## " + heading(results, workload), ""]
        own = (f"speedup_{workload}.png", f"ladder_{workload}.png")
        text += [f"![{name}]({name})\n" for name in figures if name in own]
        text.append("| " + " | ".join(HEADER[i] for i in columns) + " |")
        text.append("|" + "|".join("---:" if i in NUMBERS else "---" for i in columns) + "|")
        for line in lines:
            text.append("| " + " | ".join(line[i].replace("|", "\\|") for i in columns) + " |")
        text += ["", no_baseline(results, workload), ""]
    text += ["## Size", ""] if "scaling.png" in figures else []
    text += [f"![{name}]({name})\n" for name in figures if name == "scaling.png"]
    text += sections(results, figures)
    text += ["## Method", "", METHOD, "## Machine", "", "| | |", "|---|---|"]
    text += [f"| {key} | {' '.join(str(value).split())} |" for key, value in about.items()]
    text += [
        "",
        "`results.json` holds every round in pyperf's format: `pyperf stats results.json`, "
        "`pyperf compare_to old.json results.json`. Made by `python -m bench.run_all`.",
    ]
    return "\n".join(text).replace("\n\n\n", "\n\n") + "\n"


def write(results: Results, out: Path) -> None:
    """Write the whole report into `out`: first beside it, then, complete, in its place.

    Files in `out` that no report has written are left alone.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        results.save(fresh / "results.json")
        figures = draw_all(results, fresh)
        (fresh / "README.md").write_text(markdown(results, figures), encoding="utf-8")
        with uninterrupted():
            out.mkdir(exist_ok=True)
            for pattern in ("speedup_*.png", "ladder_*.png", "scaling.png", *FIGURES):
                for stale in out.glob(pattern):
                    if not (fresh / stale.name).exists():
                        stale.unlink()
            for file in sorted(fresh.iterdir()):
                os.replace(file, out / file.name)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Keeps Ctrl-C from the block: moments, in which the old report becomes the new one."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def main() -> int:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "reports")
    try:
        write(Results.load(out / "results.json"), out)
    except (OSError, ValueError) as error:
        print(f"bench.report: {error}", file=sys.stderr)
        return 2
    print(out / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
