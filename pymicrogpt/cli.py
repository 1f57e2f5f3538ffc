"""The command `pymicrogpt`: what can be asked, and how errors are told.

Exit codes: 0; 2 for bad input; 128 + the signal where one
ended the work (130 for Ctrl-C).
"""

from __future__ import annotations

import argparse
import codecs
import io
import json
import math
import os
import platform
import random
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .__main__ import main
from .arguments import CommandError, Parser, integer, new_parser, nonempty, number, one_line, utf8
from .display import counted, escaped, lose, lost, on_terminal, say
from .sweep_cli import add_sweep

if TYPE_CHECKING:
    from .model import GPT

__all__ = ["main", "run"]

MOST_THREADS = 1024  # a slip of the finger asks for more
AT_ONCE = 100_000  # samples from an engine, which holds them all in memory
# Modules, to load before a command begins.
NEEDS = {"train": "run", "sample": "model", "sweep": "sweep", "info": "model", "web": "display"}


def run(argv: list[str] | None = None, ready: Callable[[], object] | None = None) -> int:
    """As main(). ready: called when all is loaded, before the command begins"""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the shell: `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="pymicrogpt")
    lost.clear()
    try:
        code = run_command(argv, ready)
    except SystemExit as stop:
        if flushed():
            raise
        code = int(stop.code or 0)
    if flushed() or code not in (0, 1):
        return code
    if isinstance(lost["stdout"], BrokenPipeError):  # `| head` has what it wanted
        return 128 + getattr(signal, "SIGPIPE", 13)
    tell(f"standard output: {lost['stdout'].strerror or lost['stdout']}")
    return 2


def as_bytes_or_number(error: UnicodeError) -> tuple[bytes, int]:
    """Of what a stream's encoding lacks: the bytes of a file name that the locale could not read,
    as they were, and the numbers of other characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    parts = (
        bytes([ord(c) - 0xDC00])
        if "\udc80" <= c <= "\udcff"
        else c.encode("ascii", "backslashreplace")
        for c in text
    )
    return b"".join(parts), error.end


codecs.register_error("pymicrogpt", as_bytes_or_number)


def run_command(argv: list[str] | None, ready: Callable[[], object] | None) -> int:
    parser = build_parser()
    try:
        args = parser.parse_args(argv)
        import_module(f".{NEEDS[args.name]}", __package__)
        if ready:
            ready()
        code: int = args.command(args)
        return code
    except KeyboardInterrupt:
        tell("interrupted")
        return 128 + signal.SIGINT
    except MemoryError as error:
        tell(str(error) or "out of memory")
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        tell(f"{where}{error.strerror or error}")
    except (CommandError, ValueError) as error:
        tell(str(error))
    return 2


def tell(message: str) -> None:
    say(f"pymicrogpt: {one_line(message)}", stream="stderr")


def flushed() -> bool:
    """Whether all that was to be printed is out. What is not must not fail at exit once more."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except (OSError, ValueError) as error:
            lose(name, error)
    return "stdout" not in lost


def build_parser() -> Parser:
    parser = Parser(
        prog="pymicrogpt", description="Train a tiny GPT on a text file, and sample from it."
    )
    parser.add_argument("--version", action=Version)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True, dest="name")
    add_train(subparsers)
    add_sample(subparsers)
    add_sweep(subparsers)
    add_info(subparsers)
    add_web(subparsers)
    return parser


class Version(argparse.Action):
    """--version; the installed metadata is read only then."""

    def __init__(self, option_strings: list[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the version and stop")

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from . import __version__

        say(f"pymicrogpt {__version__}")
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
        type=nonempty,
        default=argparse.SUPPRESS,
        help="UTF-8 text file, - for standard input (default: names.txt, as the original)",
    )

    def option(flag: str, default: Any, help: str, **settings: Any) -> None:
        # Absent unless given: a resumed run has its own.
        parser.add_argument(
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


def add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-samples",
        type=integer(0),
        default=20,
        metavar="N",
        help="samples to print (default: 20)",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--temperature",
        type=number(zero=True),
        default=0.5,
        metavar="X",
        help="lower is more likely, higher more varied (default: 0.5)",
    )
    choice.add_argument(
        "--greedy",
        action="store_const",
        const=0.0,
        dest="temperature",
        help="always the most likely character, as with --temperature 0",
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
    from .run import Run, Settings, Signals

    out_dir = Path(args.out_dir)
    if args.plot and find_spec("matplotlib") is None:
        raise CommandError("--plot needs matplotlib: pip install 'pymicrogpt[plot]'")
    if args.plot and (out_dir / "loss.png").is_dir():
        raise CommandError(f"--plot writes {out_dir / 'loss.png'}, which is a directory")
    names = asdict(Settings()).keys()
    given = {name: value for name, value in vars(args).items() if name in names}
    if given.get("corpus", "-") != "-":
        given["corpus"] = os.path.abspath(given["corpus"])  # a resumed run may be elsewhere
    threads = getattr(args, "threads", None)
    warn_of_threads(threads)
    display = new_display(args.json)
    with ExitStack() as ownership, Signals() as signals:
        try:
            with signals.at_once():
                if args.resume:
                    run = Run.resume(out_dir, given, threads=threads)
                else:
                    settings = Settings(**given)
                    run = Run.start(
                        out_dir, settings, threads=threads or 1, overwrite=args.overwrite
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
    model = run.model
    for i in range(1, args.num_samples + 1):
        [text] = model.sample(
            1, args.temperature, top_k=args.top_k, max_new_tokens=args.max_new_tokens
        )
        display.show({"event": "sample", "number": i, "text": text})
    if args.plot:
        from .plot import draw_losses

        draw_losses(run.state, out_dir / "loss.png")
    if isinstance(lost.get("stdout"), BrokenPipeError):
        del lost["stdout"]  # a reader that went away had what it wanted, and so do we
    return 0


def warn_of_threads(threads: int | str | None) -> None:
    from .engines import available_cores

    if isinstance(threads, int) and threads > (cores := available_cores()):
        tell(
            f"warning: --threads {threads} on {counted(cores, 'core')}: more threads than cores "
            "take many times as long; --threads auto finds the best number"
        )


def add_sample(subparsers: Any) -> None:
    parser = new_parser(subparsers, "sample", "Print samples of a model that was kept.", sample)
    parser.add_argument(
        "--out-dir",
        type=nonempty,
        default="out",
        metavar="DIR",
        help="where the model is (default: out)",
    )
    parser.add_argument(
        "--prompt", type=utf8, default="", metavar="TEXT", help="what each sample begins with"
    )
    add_sampling(parser)
    parser.add_argument(
        "--seed",
        type=integer(0),
        metavar="N",
        help="the same samples again (default: new ones each time)",
    )
    parser.add_argument(
        "--engine",
        type=nonempty,
        metavar="NAME",
        help="draw in a SIMD engine, thousands at a time; auto is the best (default: in NumPy)",
    )
    parser.add_argument(
        "--logprobs",
        action="store_true",
        help="the natural logarithm of each sample's probability before it; with --json that of "
        "each character too",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for machines")


def sample(args: argparse.Namespace) -> int:
    from .model import GPT

    check_has_model(args.out_dir)
    model = GPT.load(args.out_dir)
    end = "\n---------------\n" if "\n" in model.tokenizer.alphabet else "\n"
    for i, text in enumerate(texts(model, args), 1):
        logprobs = model.logprobs(text) if args.logprobs else []
        if args.json:
            event = {"event": "sample", "number": i, "text": text}
            if args.logprobs:
                event |= {"logprob": math.fsum(logprobs), "logprobs": logprobs}
            say(json.dumps(event), flush=args.engine is None)
        else:
            line = escaped(text, keep="\t\n") if on_terminal(sys.stdout) else text
            score = f"{math.fsum(logprobs):.3f}\t" if args.logprobs else ""
            say(score + line, end=end, flush=args.engine is None)
        if "stdout" in lost:
            break
    return 0


def texts(model: GPT, args: argparse.Namespace) -> Iterator[str]:
    how = {"prompt": args.prompt, "top_k": args.top_k, "max_new_tokens": args.max_new_tokens}
    if args.engine is not None:
        seed = random.getrandbits(63) if args.seed is None else args.seed
        for first in range(0, args.num_samples, AT_ONCE):
            n = min(AT_ONCE, args.num_samples - first)
            yield from model.generate(n, args.temperature, seed=seed, engine=args.engine, **how)
            seed += 1
        return
    if args.seed is not None:
        model.rng.seed(args.seed)
    for _ in range(args.num_samples):  # each is printed as soon as it is there
        yield from model.sample(1, args.temperature, **how)


def check_has_model(out_dir: str) -> None:
    if not Path(out_dir, "model.safetensors").exists():
        raise CommandError(f"{out_dir} holds no model; pymicrogpt train --out-dir {out_dir} does")


def add_info(subparsers: Any) -> None:
    parser = new_parser(
        subparsers, "info", "Describe the engines of this machine, or a model that was kept.", info
    )
    parser.add_argument("--out-dir", type=nonempty, metavar="DIR", help="where the model is")
    parser.add_argument("--json", action="store_true", help="one JSON object, for machines")


def info(args: argparse.Namespace) -> int:
    facts = about_machine() if args.out_dir is None else about_model(args.out_dir)
    if args.json:
        say(json.dumps(without_nan(facts), allow_nan=False))
        return 0
    engines = facts.pop("engines", [])
    for fact, value in facts.items():
        say(escaped(f"{fact.replace('_', ' ')}: {value}"))
    for engine in engines:
        what = f"{engine['isa']}, {engine['dtype']}"
        say(f"  {engine['name']:9}  {what if engine['available'] else engine['reason']}")
    return 0


def without_nan(value: Any) -> Any:
    """For JSON: null for NaN and infinity, which files of others and old ones may hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: without_nan(x) for name, x in value.items()}
    return [without_nan(x) for x in value] if isinstance(value, list) else value


def add_web(subparsers: Any) -> None:
    parser = new_parser(
        subparsers, "web", "Open the page that trains in a browser; it needs no network.", web
    )
    parser.add_argument(
        "--print", action="store_true", help="print where the page is, and open nothing"
    )


def web(args: argparse.Namespace) -> int:
    import webbrowser
    from importlib.resources import files

    # Where `make web` puts it in a source tree, and in a wheel.
    here = Path(__file__).resolve().parent
    pages = [
        here.parent / "build" / "web" / "index.html",
        Path(str(files(__package__).joinpath("data", "web.html"))),
    ]
    page = next((page for page in pages if page.is_file()), None)
    if page is None:
        raise CommandError(f"the page is not built yet; make web, in {here.parent}, builds it")
    say(escaped(str(page)))
    if not args.print and not webbrowser.open(page.as_uri()):
        raise CommandError("no browser could be started; open that file in one")
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
