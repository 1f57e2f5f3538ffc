"""The original algorithm under CPython, garbage collector on and off, and under PyPy's compiler."""

import platform
import sys
from pathlib import Path
from typing import Any

from bench.task.task import Task
from bench.variants.sessions import ProgramSession, program_available
from bench.variants.variant import Variant

WORKER = str(Path(__file__).with_name("worker.py"))
VERSION = ".".join(platform.python_version_tuple()[:2])


def pure(
    name: str, label: str, *command: str, slow_on: tuple[str, ...], **settings: Any
) -> Variant:
    """Where it is slow gradients are not asked for: one step takes seconds."""

    def open_session(task: Task) -> ProgramSession:
        return ProgramSession(list(command), task, gradients=task.workload.name not in slow_on)

    return Variant(
        name, label, "pure Python", open_session, workloads=("d16", "d32", "d64", "d128"),
        batches=(1,), dtype="float64", steady=True, slow_on=slow_on, timeout=900.0,
        source="pymicrogpt/reference.py", **settings,
    )  # fmt: skip


def run_by_cpython() -> str | None:
    if platform.python_implementation() == "CPython":
        return None
    return "the benchmark is not run by CPython"


def cpython(name: str, label: str, about: str, *options: str, variation_of: str = "") -> Variant:
    return pure(
        name, f"CPython {VERSION}{label}", sys.executable, WORKER, *options, warmup=0.0,
        slow_on=("d64", "d128"), available=run_by_cpython, variation_of=variation_of, about=about,
    )  # fmt: skip


VARIANTS = [
    cpython("cpython", "",
            "The algorithm of microgpt in pure Python: scalar autograd, one object for each value, "
            "in double precision. All speed-ups are over this row."),
    cpython("cpython-nogc", ", gc off",
            "The same with the cyclic garbage collector off, which else looks through all objects "
            "of the graph again and again.", "--no-gc", variation_of="cpython"),
    pure(
        "pypy", "PyPy", "pypy3", "-E", WORKER, slow_on=("d128",),
        warmup=4.0,  # until the compiler has seen every path
        about="The same source under PyPy, whose compiler has seen every path before.",
        available=program_available("pypy3", apt="pypy3", brew="pypy3"),
    ),
]  # fmt: skip
