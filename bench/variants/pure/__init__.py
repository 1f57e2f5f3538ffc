"""The original algorithm under CPython, garbage collector on and off, and under PyPy's compiler."""

import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from bench.task.task import Task
from bench.variants.sessions import ProgramSession
from bench.variants.variant import Variant

WORKER = str(Path(__file__).with_name("worker.py"))
VERSION = ".".join(platform.python_version_tuple()[:2])


def pure(
    name: str, label: str, python: str, *options: str, slow_on: tuple[str, ...], **settings: Any
) -> Variant:
    """Where it is slow gradients are not asked for: one step takes seconds."""

    def open_session(task: Task) -> ProgramSession:
        command = [shutil.which(python) or python, *options]
        return ProgramSession(command, task, gradients=task.workload.name not in slow_on)

    return Variant(
        name,
        label,
        "pure Python",
        open_session,
        workloads=("d16", "d32", "d64", "d128"),
        batches=(1,),
        dtype="float64",
        steady=True,
        slow_on=slow_on,
        timeout=900.0,
        **settings,
    )


def run_by_cpython() -> str | None:
    if platform.python_implementation() == "CPython":
        return None
    return "the benchmark is not run by CPython"


def pypy_installed() -> str | None:
    if shutil.which("pypy3"):
        return None
    return "no pypy3 on the PATH; install it with `apt install pypy3` or `brew install pypy3`"


def cpython(name: str, label: str, *options: str, variation_of: str = "") -> Variant:
    return pure(
        name,
        f"CPython {VERSION}{label}",
        sys.executable,
        WORKER,
        *options,
        slow_on=("d64", "d128"),
        warmup=0.0,
        available=run_by_cpython,
        variation_of=variation_of,
    )


VARIANTS = [
    cpython("cpython", ""),
    cpython("cpython-nogc", ", gc off", "--no-gc", variation_of="cpython"),
    pure(
        "pypy",
        "PyPy",
        "pypy3",
        "-E",
        WORKER,
        slow_on=("d128",),
        warmup=4.0,  # until the compiler has seen every path
        available=pypy_installed,
    ),
]
