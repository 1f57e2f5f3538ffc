"""pymicrogpt info"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .._words import escaped
from .arguments import new_parser, nonempty
from .terminal import say

DAMAGED = "damaged: "  # of a checkpoint; the exit code is 1 then


def add(subparsers: Any) -> None:
    parser = new_parser(
        subparsers,
        "info",
        "Describe the engines of this machine, or a model that was kept.",
        info,
        needs="pymicrogpt.cli.folder",
    )
    parser.add_argument("--out-dir", type=nonempty, metavar="DIR", help="where the model is")
    parser.add_argument("--json", action="store_true", help="one JSON object, for machines")


def info(args: argparse.Namespace) -> int:
    facts = about_machine() if args.out_dir is None else about_model(args.out_dir)
    code = int(str(facts.get("checkpoint")).startswith(DAMAGED))
    if args.json:
        say(json.dumps(without_nan(facts), allow_nan=False))
        return code
    engines = facts.pop("engines", [])
    for fact, value in facts.items():
        say(escaped(f"{fact.replace('_', ' ')}: {value}"))
    for engine in engines:
        what = f"{engine['isa']}, {engine['dtype']}"
        say(f"  {engine['name']:9}  {what if engine['available'] else engine['reason']}")
    return code


def without_nan(value: Any) -> Any:
    """For JSON: null for NaN and infinity, which files of others and old ones may hold."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: without_nan(x) for name, x in value.items()}
    return [without_nan(x) for x in value] if isinstance(value, list) else value


def about_machine() -> dict[str, Any]:
    from .. import __version__, engines

    return {
        "pymicrogpt": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "engines": [vars(engine) for engine in engines()],
    }


def about_model(out_dir: str) -> dict[str, Any]:
    from ..storage.checkpoint import CHECKPOINT_FILE, Checkpoint
    from ..storage.weights import WeightsError
    from .folder import kept_model

    model = kept_model(out_dir)
    facts = {
        "model": out_dir,
        **asdict(model.config),
        "vocab_size": model.tokenizer.vocab_size,
        "num_params": model.config.num_params(model.tokenizer.vocab_size),
        "alphabet": "".join(model.tokenizer.alphabet),
        **model.training,
    }
    if Path(out_dir, CHECKPOINT_FILE).exists():
        try:
            checkpoint = Checkpoint.load(out_dir)
            facts["checkpoint"] = f"step {checkpoint.step} of {checkpoint.settings['num_steps']}"
        except WeightsError as error:
            facts["checkpoint"] = f"{DAMAGED}{error}"
    return facts
