"""pymicrogpt train"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
from contextlib import ExitStack, suppress
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .._signals import Signals
from .._words import counted
from ..config import SEED_MAX
from .arguments import CommandError, integer, new_parser, nonempty, number
from .display import new_display
from .sample import add_sampling
from .terminal import lost, tell

MOST_THREADS = 1024  # a slip of the finger asks for more


def add(subparsers: Any) -> None:
    parser = new_parser(
        subparsers,
        "train",
        "Train a model on a text file and keep it. Without arguments: the original microgpt.",
        train,
        needs="pymicrogpt.cli.run",
    )
    parser.add_argument(
        "corpus",
        nargs="?",
        metavar="CORPUS",
        type=nonempty,
        default=argparse.SUPPRESS,
        help="UTF-8 text file, - for standard input (default: names.txt, as the original)",
    )

    def option(flag: str, default: Any, help: str, to: Any = parser, **settings: Any) -> None:
        # Absent unless given: a resumed run has its own.
        to.add_argument(
            flag, default=argparse.SUPPRESS, help=f"{help} (default: {default})", **settings
        )

    count = {"type": integer(1), "metavar": "N"}
    option(
        "--mode",
        "lines",
        "a document is a line, or a block of running text",
        choices=["lines", "stream"],
    )
    option("--n-layer", 1, "layers", **count)
    option("--n-embd", 16, "width", **count)
    option("--n-head", 4, "attention heads, which divide the width", **count)
    option("--block-size", 16, "longest context in tokens", **count)
    option("--batch-size", 1, "documents in a step", **count)
    option(
        "--learning-rate",
        0.01,
        "of the first step; falls linearly to 0",
        type=number(),
        metavar="X",
    )
    length = parser.add_mutually_exclusive_group()
    option("--max-steps", 1000, "steps", **count, to=length)
    option(
        "--seconds",
        "none",
        "of training, instead of --max-steps: picks layers, width, context, batch size and "
        "learning rate for this text and time, where they are not given, and as many steps as fit",
        type=number(),
        metavar="X",
        to=length,
    )
    option("--seed", 42, "of all randomness", type=integer(0, SEED_MAX), metavar="N")
    option(
        "--eval-interval",
        "never",
        "steps between two held-out losses; the model that is kept is then the best by them",
        **count,
    )
    option(
        "--val-fraction",
        0.1,
        "of the documents, held out with --eval-interval",
        type=number(below=1.0),
        metavar="X",
    )
    option(
        "--patience",
        "none",
        "stop after so many held-out losses in a row without a new best",
        **count,
    )
    option(
        "--engine",
        "auto",
        "what computes; pymicrogpt info lists them",
        metavar="NAME",
        type=nonempty,
    )
    option(
        "--threads", 1, "of a SIMD engine; the result is the same", type=threads, metavar="N|auto"
    )
    option(
        "--log-interval",
        "--eval-interval, else a tenth of --max-steps",
        "steps between two lines of progress",
        **count,
    )
    parser.add_argument(
        "--out-dir",
        type=nonempty,
        default="out",
        metavar="DIR",
        help="where the model and the checkpoint go (default: out)",
    )
    consent = parser.add_mutually_exclusive_group()
    consent.add_argument("--resume", action="store_true", help="go on from the checkpoint in DIR")
    consent.add_argument("--overwrite", action="store_true", help="replace another run in DIR")
    add_sampling(parser)
    parser.add_argument("--plot", action="store_true", help="draw the losses: DIR/loss.png")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")


def threads(text: str) -> int | str:
    return text if text == "auto" else integer(1, MOST_THREADS)(text)


def train(args: argparse.Namespace) -> int:
    from .plan import Plan
    from .run import Run
    from .settings import NOTHING_HELD_OUT, Settings

    out_dir = Path(args.out_dir)
    if args.plot and find_spec("matplotlib") is None:
        raise CommandError("--plot needs matplotlib: pip install 'pymicrogpt[plot]'")
    if args.plot and (out_dir / "loss.png").is_dir():
        raise CommandError(f"--plot writes {out_dir / 'loss.png'}, which is a directory")
    names = asdict(Settings()).keys()
    given = {name: value for name, value in vars(args).items() if name in names}
    if "val_fraction" in given and not (args.resume or "eval_interval" in given):
        raise CommandError(NOTHING_HELD_OUT)
    if given.get("corpus", "-") != "-":
        given["corpus"] = os.path.abspath(given["corpus"])  # a resumed run may be elsewhere
    threads, seconds = getattr(args, "threads", None), getattr(args, "seconds", None)
    warn_of_threads(threads)
    display = new_display(args.json)
    with ExitStack() as ownership, Signals() as signals:
        try:
            with signals.at_once():
                if args.resume:
                    run = Run.resume(out_dir, given, threads=threads, seconds=seconds)
                else:
                    plan = None if seconds is None else Plan(seconds, given)
                    settings = plan.to_begin_with() if plan else Settings(**given)
                    run = Run.start(
                        out_dir, settings, threads=threads or 1, overwrite=args.overwrite, plan=plan
                    )
                ownership.enter_context(run)
        except KeyboardInterrupt:
            tell("interrupted")
            return 128 + (signals.received or signal.SIGINT)
        stopped_by = run.train(display, signals)
        if stopped_by:
            again = shlex.join(["pymicrogpt", "train", "--resume", "--out-dir", args.out_dir])
            text = " < the same text" if run.settings.corpus == "-" else ""
            with suppress(KeyboardInterrupt), signals.at_once():
                tell(f"saved at step {run.trainer.step}; go on with: {again}{text}")
            return 128 + stopped_by
    if args.plot:
        from .plot import draw_losses

        draw_losses(run.state, out_dir / "loss.png")
    model = run.model
    for i in range(1, args.num_samples + 1):
        [text] = model.sample(
            1, args.temperature, top_k=args.top_k, max_new_tokens=args.max_new_tokens
        )
        display.show({"event": "sample", "number": i, "text": text})
    if isinstance(lost.get("stdout"), BrokenPipeError):
        del lost["stdout"]  # a reader that went away had what it wanted, and so do we
    return 0


def warn_of_threads(threads: int | str | None) -> None:
    from ..engines import available_cores

    if isinstance(threads, int) and threads > (cores := available_cores()):
        tell(
            f"warning: --threads {threads} on {counted(cores, 'core')}: more threads than cores "
            "take many times as long; --threads auto finds the best number"
        )
