"""pymicrogpt sample"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .._words import escaped
from ..config import SEED_MAX
from .arguments import integer, new_parser, nonempty, number, utf8
from .terminal import lost, on_terminal, say

if TYPE_CHECKING:
    from ..model import GPT

AT_ONCE = 100_000  # samples from an engine, which holds them all in memory


def add(subparsers: Any) -> None:
    parser = new_parser(
        subparsers,
        "sample",
        "Print samples of a model that was kept.",
        sample,
        needs="pymicrogpt.cli.folder",
    )
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
        type=integer(0, SEED_MAX),
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
    from .folder import kept_model

    model = kept_model(args.out_dir)
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
            seed = (seed + 1) % (SEED_MAX + 1)
        return
    if args.seed is not None:
        model.rng.seed(args.seed)
    for _ in range(args.num_samples):  # each is printed as soon as it is there
        yield from model.sample(1, args.temperature, **how)


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
