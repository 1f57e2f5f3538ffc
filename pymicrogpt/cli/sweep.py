"""pymicrogpt sweep"""

from __future__ import annotations

import argparse
import json
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._signals import Signals
from .._words import counted, escaped
from ..storage.files import owned
from .arguments import CommandError, integer, new_parser, nonempty, number
from .sweep_display import Display, describe, show_table
from .terminal import lost, one_line, say, tell, waiting

if TYPE_CHECKING:
    from ..corpus import Corpus
    from ..sweep import Row, Space

# Options by the setting that each is an axis of.
AXES: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "n_layer": ("--n-layer", int, "layers"),
    "n_embd": ("--n-embd", int, "width"),
    "n_head": ("--n-head", int, "attention heads, which divide the width"),
    "block_size": ("--block-size", int, "longest context in tokens"),
    "batch_size": ("--batch-size", int, "documents in a step"),
    "learning_rate": ("--learning-rate", float, "of the first step; falls linearly to 0"),
    "beta1": ("--beta1", float, "of Adam's first moment"),
    "beta2": ("--beta2", float, "of Adam's second moment"),
    "num_steps": ("--max-steps", int, "steps"),
    "seconds": ("--max-seconds", float, "of training, instead of --max-steps"),
    "engine": ("--engine", str, "what computes; pymicrogpt info lists them"),
}


def add(subparsers: Any) -> None:
    parser = new_parser(
        subparsers,
        "sweep",
        "Train many configurations, on all cores or a Dask cluster, and keep the best.",
        sweep,
        needs="pymicrogpt.sweep",
    )
    parser.add_argument(
        "corpus",
        nargs="?",
        metavar="CORPUS",
        type=nonempty,
        help="UTF-8 text file, - for standard input (default: names.txt, as the original)",
    )
    parser.add_argument(
        "--mode",
        choices=["lines", "stream"],
        default="lines",
        help="a document is a line, or a block of running text (default: lines)",
    )
    parser.add_argument(
        "--space", type=nonempty, metavar="TOML", help="file with the axes, see docs/sweeps.md"
    )
    axes = parser.add_argument_group(
        "axes", "VALUES are a,b,c (try each) or, with --random, low..high (draw from its logarithm)"
    )
    for name, (option, kind, help) in AXES.items():
        axes.add_argument(option, dest=name, type=axis(kind), metavar="VALUES", help=help)
    axes.add_argument(
        "--seeds", type=integer(1), metavar="N", help="of each combination, from 42 up (default: 1)"
    )
    axes.add_argument(
        "--random", type=integer(1), metavar="N", help="draw N combinations, not the whole grid"
    )
    axes.add_argument("--draw-seed", type=integer(0), metavar="N", help="of the draws (default: 0)")
    axes.add_argument(
        "--evals",
        type=integer(1),
        metavar="N",
        help="measurements of the held-out loss in each trial (default: 10)",
    )
    parser.add_argument(
        "--val-fraction",
        type=number(below=1.0),
        default=0.1,
        metavar="X",
        help="of the documents, held out (default: 0.1)",
    )
    parser.add_argument(
        "--out-dir",
        type=nonempty,
        default="sweep",
        metavar="DIR",
        help="results; a sweep that was stopped goes on from there (default: sweep)",
    )
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--workers", type=integer(1), metavar="N", help="processes (default: cores)")
    place.add_argument(
        "--scheduler", type=nonempty, metavar="ADDRESS", help="of a Dask cluster: tcp://host:8786"
    )
    parser.add_argument("--retry-failed", action="store_true", help="run failed trials again")
    parser.add_argument(
        "--top", type=integer(1), default=10, metavar="N", help="lines of the table (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")


def axis(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """For `type=`: values of one kind, a list or a Range."""

    def parse(text: str) -> Any:
        from ..sweep import Range

        try:
            if ".." in text and kind is not str:
                low, high = text.split("..")
                return Range(kind(low), kind(high))
            return [kind(nonempty(part.strip())) for part in text.split(",")]
        except (TypeError, ValueError) as error:
            if "range" in str(error):
                raise argparse.ArgumentTypeError(str(error)) from None
            what = {int: "integers", float: "numbers"}[kind]  # type: ignore[index]
            raise argparse.ArgumentTypeError(
                f"it must be {what} a,b,c or a range low..high, not {text!r}"
            ) from None

    return parse


def sweep(args: argparse.Namespace) -> int:
    from ..sweep import SweepError

    display = Display(args.json)
    with Signals() as signals:
        try:
            with signals.at_once(), quiet_dask(args.scheduler):
                return run_sweep(args, display)
        except SweepError as error:
            display.close()
            kept = f"; {display.done} of {counted(display.total, 'trial')} are kept"
            message = args.parser.in_options(str(error))
            raise CommandError(f"{message}{kept if display.done else ''}") from None
        except KeyboardInterrupt:
            display.close()
            left = "runs the others" if display.done < display.total else "writes the report"
            kept = f"stopped after {display.done} of {counted(display.total, 'trial')}, which are "
            kept += f"kept in {args.out_dir}; the same command again {left}"
            say(
                f"pymicrogpt sweep: {one_line(kept) if display.total else 'interrupted'}",
                stream="stderr",
            )
            return 128 + (signals.received or signal.SIGINT)


def run_sweep(args: argparse.Namespace, display: Display) -> int:
    from ..engines import available_cores
    from ..sweep import busy_fraction, load, ranking, run, write_report
    from ..sweep.report import table
    from ..sweep.run import check_address

    space = space_of(args)
    out_dir = Path(args.out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise CommandError(f"--out-dir {out_dir} is not a directory")
    for name in ("results.csv", "results.parquet", "sweep.png"):
        if (out_dir / name).is_dir():
            raise CommandError(f"{out_dir / name} is a directory: choose another --out-dir")
    if (out_dir / "best").exists() and not (out_dir / "best").is_dir():
        raise CommandError(f"{out_dir / 'best'} is not a directory: choose another --out-dir")
    if args.scheduler is not None:
        check_address(args.scheduler)
    try:
        with waiting("reading the text and holding out documents"), owned(out_dir):
            train, held_out = load_corpus(args, space).split(args.val_fraction)
    except BlockingIOError:
        raise CommandError(f"another sweep is about to start in {out_dir}; wait for it") from None
    if not args.json:
        say(
            f"{counted(len(train), 'document')}, {len(held_out):,} more held out; "
            f"{escaped(train.source)}"
        )
    with waiting("starting the workers"):
        rows = run(
            space,
            train,
            held_out,
            args.out_dir,
            workers=args.workers,
            scheduler=args.scheduler,
            retry_failed=args.retry_failed,
            progress=display.show,
        )
    display.close()

    # What the folder has of earlier sweeps is on the same documents, and stays in all that is left.
    own = {row["key"] for row in rows}
    try:
        earlier = [row for row in load(out_dir) if row["key"] not in own]
        standings = ranking(kept := [*rows, *earlier])
        files = write_report(kept, args.out_dir)
        if standings:
            files.append(keep_best(standings[0].rows[0], train, out_dir))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CommandError(
            f"{where}{error.strerror or error}; all trials are kept in {out_dir / 'trials.jsonl'}, "
            "and the same command again writes the report"
        ) from None
    failed = [row for row in rows if row["error"]]
    if args.json:
        best = standings[0].rows[0] if standings else None
        end = {
            "event": "end",
            "best": best,
            "failed": len(failed),
            "files": [str(f) for f in files],
        }
        say(json.dumps(end, allow_nan=False))
    else:
        if display.rows and args.scheduler is None:
            workers = min(args.workers or available_cores(), len(display.rows))
            busy = 100 * busy_fraction(display.rows, workers)
            say(f"{counted(workers, 'worker')}, {busy:.1f} % of their time in trials")
        if earlier:
            count = "counts" if len(earlier) == 1 else "count"
            more = (
                f"{counted(len(earlier), 'trial')} of earlier sweeps in {args.out_dir} {count} too"
            )
            say(escaped(more))
        if standings:
            show_table(*table(kept, args.top))
        for row in failed[:3]:
            say(f"failed: {escaped(describe(row, space))}: {one_line(row['error'])}")
        if len(failed) > 3:
            say(f"failed: {len(failed) - 3} more; results.csv has them")
        say("wrote " + ", ".join(escaped(str(file)) for file in files))
    if isinstance(lost.get("stdout"), BrokenPipeError):
        del lost["stdout"]  # a reader that went away had what it wanted
    return 0 if len(failed) < len(rows) else 1


@contextmanager
def quiet_dask(scheduler: str | None) -> Iterator[None]:
    """What it logs when a scheduler dies are pages of tracebacks, before the line that counts."""
    if scheduler is not None:
        logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def space_of(args: argparse.Namespace) -> Space:
    from ..sweep import Space

    names = (*AXES, "seeds", "random", "draw_seed", "evals")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if not given.keys() & {*AXES, "seeds"} and not args.space:
        raise CommandError(
            "nothing to vary: give values, as in --learning-rate 0.003,0.01,0.03 --n-embd 16,32"
        )
    if not args.space:
        space = Space.of(**given)
    else:
        try:
            space = Space.from_toml(args.space, **given)
        except ValueError as error:  # in the words of the file
            raise CommandError(str(error)) from None
    if space.missing:
        there = len({tuple({**trial, "seed": None}.values()) for trial in space.trials})
        tell(
            f"only {counted(there, 'different combination')} can be drawn, not "
            f"{there + space.missing:,}: each of them is tried"
        )
    return space


def load_corpus(args: argparse.Namespace, space: Space) -> Corpus:
    from .. import Corpus
    from .settings import usual_corpus

    if args.mode == "lines":
        if args.corpus == "-":
            return Corpus.from_stdin()
        if args.corpus is None:
            return usual_corpus()
        return of_file(Corpus.from_file(args.corpus), args.corpus)
    sizes = {trial["block_size"] for trial in space.trials}
    if args.corpus is None or len(sizes) > 1:
        raise CommandError("--mode stream needs a text file, and one --block-size to cut it into")
    if args.corpus == "-":
        return Corpus.from_stdin("stream", sizes.pop())
    return of_file(Corpus.from_file(args.corpus, "stream", sizes.pop()), args.corpus)


def of_file(corpus: Corpus, path: str) -> Corpus:
    """Named without the folder: where it lies is nothing for the card of the model."""
    from .settings import utf8_name

    return replace(corpus, source=utf8_name(path))


def keep_best(row: Row, train: Corpus, out_dir: Path) -> Path:
    """Trains the best trial once more, which in the same engine gives the same model to the bit,
    and saves it. Only so no trial has to send its model, and a sweep that goes on has it too."""
    from ..sweep import retrain

    folder = out_dir / "best"
    model = retrain(row, train).model
    model.training["held_out_loss"] = row["held_out_loss"]
    model.save(folder)
    return folder
