"""The command `pymicrogpt`: what can be asked, and how errors are told.

Exit codes: 0; 2 for bad input; 128 + the signal where one
ended the work (130 for Ctrl-C).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import random
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .arguments import CommandError, Parser, integer, new_parser, number, one_line
from .sweep_cli import add_sweep

if TYPE_CHECKING:
    from .model import GPT


MOST_THREADS = 1024  # a slip of the finger asks for more
AT_ONCE = 100_000  # samples from an engine, which holds them all in memory


def main(argv: list[str] | None = None) -> int:
    """Runs one command line (default: that of this process) and returns its exit code. SystemExit
    for --help, --version and arguments that do not parse."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that lacks a character shows its number instead.
            stream.reconfigure(errors="backslashreplace")
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
        code: int = args.command(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # `| head` has what it wanted. What is still buffered must not fail at exit once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + getattr(signal, "SIGPIPE", 13)
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except MemoryError as error:
        print(f"{parser.prog}: {one_line(str(error)) or 'out of memory'}", file=sys.stderr)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{parser.prog}: {where}{one_line(error.strerror or str(error))}", file=sys.stderr)
    except (CommandError, ValueError) as error:
        print(f"{parser.prog}: {one_line(str(error))}", file=sys.stderr)
    return 2


def build_parser() -> Parser:
    parser = Parser(
        prog="pymicrogpt", description="Train a tiny GPT on a text file, and sample from it."
    )
    parser.add_argument("--version", action=Version)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    add_train(subparsers)
    add_sample(subparsers)
    add_sweep(subparsers)
    add_info(subparsers)
    return parser


class Version(argparse.Action):
    """--version; the installed metadata is read only then."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and stop")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from . import __version__

        print(f"pymicrogpt {__version__}")
        parser.exit()


def add_train(subparsers: Any) -> None:
    parser = new_parser(
        subparsers,
        "train",
        "Train a model on a text file and keep it. Without arguments: the original microgpt.",
        train,
    )
    parser.add_argument(
        "corpus",
        nargs="?",
        metavar="CORPUS",
        default=argparse.SUPPRESS,
        help="UTF-8 text file (default: names.txt, as the original)",
    )

    def option(name: str, default: Any, help: str, **settings: Any) -> None:
        # Absent unless given: a resumed run has its own.
        parser.add_argument(
            name, default=argparse.SUPPRESS, help=f"{help} (default: {default})", **settings
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
    option("--max-steps", 1000, "steps", **count)
    option("--seed", 42, "of all randomness", type=integer(-(2**63) + 1, 2**63 - 1), metavar="N")
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
    option("--engine", "auto", "what computes; pymicrogpt info lists them", metavar="NAME")
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


def add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-samples",
        type=integer(0),
        default=20,
        metavar="N",
        help="samples to print (default: 20)",
    )
    parser.add_argument(
        "--temperature",
        type=number(),
        default=0.5,
        metavar="X",
        help="lower is more likely, higher more varied (default: 0.5)",
    )
    parser.add_argument(
        "--top-k",
        type=integer(1),
        metavar="K",
        help="draw from the K most likely characters only (default: all)",
    )
    parser.add_argument(
        "--max-new-tokens",
        type=integer(1),
        metavar="N",
        help="longest sample in characters (default: --block-size)",
    )


def threads(text: str) -> int | str:
    return text if text == "auto" else integer(1, MOST_THREADS)(text)


def train(args: argparse.Namespace) -> int:
    from .display import new_display
    from .run import Run, Settings

    if args.plot and find_spec("matplotlib") is None:
        raise CommandError("--plot needs matplotlib: pip install 'pymicrogpt[plot]'")
    names = asdict(Settings()).keys()
    given = {name: value for name, value in vars(args).items() if name in names}
    if "corpus" in given:
        given["corpus"] = os.path.abspath(given["corpus"])  # a resumed run may be elsewhere
    out_dir = Path(args.out_dir)
    if args.resume:
        run = Run.resume(out_dir, given, threads=getattr(args, "threads", None))
    else:
        run = Run.start(
            out_dir,
            Settings(**given),
            threads=getattr(args, "threads", 1),
            overwrite=args.overwrite,
        )
    display = new_display(args.json)
    stopped_by = run.train(display)
    if stopped_by:
        again = shlex.join(["pymicrogpt", "train", "--resume", "--out-dir", args.out_dir])
        print(f"pymicrogpt: saved at step {run.trainer.step}; go on with: {again}", file=sys.stderr)
        return 128 + stopped_by
    drawn = run.model.sample(
        args.num_samples,
        args.temperature,
        top_k=args.top_k,
        max_new_tokens=args.max_new_tokens,
    )
    for i, text in enumerate(drawn, 1):
        display.show({"event": "sample", "number": i, "text": text})
    if args.plot:
        from .plot import draw_losses

        draw_losses(run.state, out_dir / "loss.png")
    return 0


def add_sample(subparsers: Any) -> None:
    parser = new_parser(subparsers, "sample", "Print samples of a model that was kept.", sample)
    parser.add_argument(
        "--out-dir", default="out", metavar="DIR", help="where the model is (default: out)"
    )
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what each sample begins with")
    add_sampling(parser)
    parser.add_argument(
        "--seed",
        type=integer(0),
        metavar="N",
        help="the same samples again (default: new ones each time)",
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        help="draw in a SIMD engine, thousands at a time; auto is the best (default: in NumPy)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")


def sample(args: argparse.Namespace) -> int:
    from .model import GPT

    check_has_model(args.out_dir)
    model = GPT.load(args.out_dir)
    for i, text in enumerate(texts(model, args), 1):
        if args.json:
            print(json.dumps({"event": "sample", "number": i, "text": text}))
        else:
            print(f"{text}\n---------------" if "\n" in model.tokenizer.alphabet else text)
    return 0


def texts(model: GPT, args: argparse.Namespace) -> Iterator[str]:
    how = {"prompt": args.prompt, "top_k": args.top_k}
    if args.engine is not None:
        if args.max_new_tokens is not None:
            raise CommandError("--max-new-tokens goes without --engine")
        seed = random.getrandbits(63) if args.seed is None else args.seed
        for first in range(0, args.num_samples, AT_ONCE):
            n = min(AT_ONCE, args.num_samples - first)
            yield from model.generate(n, args.temperature, seed=seed, engine=args.engine, **how)
            seed += 1
        return
    if args.seed is not None:
        model.rng.seed(args.seed)
    for _ in range(args.num_samples):  # each is printed as soon as it is there
        yield from model.sample(1, args.temperature, max_new_tokens=args.max_new_tokens, **how)


def check_has_model(out_dir: str) -> None:
    if not Path(out_dir, "model.safetensors").exists():
        raise CommandError(f"{out_dir} holds no model; pymicrogpt train --out-dir {out_dir} does")


def add_info(subparsers: Any) -> None:
    parser = new_parser(
        subparsers, "info", "Describe the engines of this machine, or a model that was kept.", info
    )
    parser.add_argument("--out-dir", metavar="DIR", help="where the model is")
    parser.add_argument("--json", action="store_true", help="one JSON object, for machines")


def info(args: argparse.Namespace) -> int:
    facts = about_machine() if args.out_dir is None else about_model(args.out_dir)
    if args.json:
        print(json.dumps(facts))
        return 0
    engines = facts.pop("engines", [])
    for name, value in facts.items():
        print(f"{name.replace('_', ' ')}: {value}")
    for engine in engines:
        what = f"{engine['isa']}, {engine['dtype']}"
        print(f"  {engine['name']:9}  {what if engine['available'] else engine['reason']}")
    return 0


def about_machine() -> dict[str, Any]:
    from . import __version__, engines

    return {
        "pymicrogpt": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "engines": [vars(engine) for engine in engines()],
    }


def about_model(out_dir: str) -> dict[str, Any]:
    from .checkpoint import CHECKPOINT_FILE, Checkpoint
    from .model import GPT

    check_has_model(out_dir)
    model = GPT.load(out_dir)
    facts = {
        "model": out_dir,
        **asdict(model.config),
        "vocab_size": model.tokenizer.vocab_size,
        "num_params": model.config.num_params(model.tokenizer.vocab_size),
        "alphabet": "".join(model.tokenizer.alphabet),
        **model.training,
    }
    if Path(out_dir, CHECKPOINT_FILE).exists():
        checkpoint = Checkpoint.load(out_dir)
        facts["checkpoint"] = f"step {checkpoint.step} of {checkpoint.settings['num_steps']}"
    return facts
