"""What the benchmark can do beside `python -m bench.run_all`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pymicrogpt
from bench.command import Refused, described, end, say, writable
from bench.guard import compare, instructions, repeatability
from bench.measure import machine, pareto, recipes
from bench.report import export, write
from bench.results import Results
from bench.variants.variant import best_engine, load_variants
from pymicrogpt._signals import Signals


class Pareto:
    """Adds the figure "the best model for a time" to the report in DIR, in about six minutes;
    `bench.run_all --full` has it."""

    @staticmethod
    def arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(
            "report", nargs="?", type=Path, default=Path("reports"), metavar="DIR",
            help="the folder of a report (reports)",
        )  # fmt: skip
        parser.add_argument("--corpus", metavar="PATH", help="text file, one document a line")

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        if not args.report.is_dir():
            raise Refused(f"there is no report in {args.report}")
        results = Results.load(args.report)
        writable("DIR", args.report, folder=True)
        corpus = pymicrogpt.Corpus.load(args.corpus)
        here = machine.describe() | machine.corpus_facts(corpus)
        for fact, words in (("cpu_model_name", "CPU"), ("corpus", "corpus")):
            if results.run[fact] != here[fact]:
                raise Refused(
                    f"the {words} of the report in {args.report} is {results.run[fact]}; "
                    f"here it is {here[fact]}"
                )
        variants = load_variants()
        engine = best_engine(variants) or "autovec"
        probe = pareto.run_pareto(
            corpus, engine, variants[engine].label, lambda _, words: say(words)
        )
        results.probes = [*(p for p in results.probes if p.name != "pareto"), probe]
        write.write_or_keep(results, args.report)
        return 0


COMMANDS: dict[str, Any] = {
    "report": write,
    "export": export,
    "compare": compare,
    "pareto": Pareto,
    "recipes": recipes,
    "repeatability": repeatability,
    "instructions": instructions,
}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module in COMMANDS.items():
        doc = module.__doc__ or ""
        command = commands.add_parser(name, help=doc.split("\n")[0], **described(doc))
        module.arguments(command)
    args = parser.parse_args(argv)
    return end(f"bench {args.command}", COMMANDS[args.command].run, args)


if __name__ == "__main__":
    Signals.one_is_enough = True
    sys.exit(main())
