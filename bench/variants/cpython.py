"""The original algorithm under the Python that runs the benchmark, garbage collector on and off."""

import platform
import sys
from pathlib import Path

from bench.session import ProgramSession
from bench.task import Task
from bench.variant import Variant

PURE_WORKER = str(Path(__file__).parents[1] / "pure_worker.py")
SLOW_ON = ("d64", "d128")
VERSION = ".".join(platform.python_version_tuple()[:2])


def open_session(task: Task, *options: str) -> ProgramSession:
    command = [sys.executable, PURE_WORKER, *options]
    return ProgramSession(command, task, gradients=task.workload.name not in SLOW_ON)


def available() -> str | None:
    if platform.python_implementation() == "CPython":
        return None
    return "the benchmark is not run by CPython"


COMMON = {
    "group": "pure Python",
    "available": available,
    "workloads": ("d16", "d32", "d64", "d128"),
    "batches": (1,),
    "dtype": "float64",
    "steady": True,
    "warmup": 0.0,
    "slow_on": SLOW_ON,
    "timeout": 900.0,
}

VARIANTS = [
    Variant("cpython", f"CPython {VERSION}", open=open_session, **COMMON),
    Variant(
        "cpython-nogc",
        f"CPython {VERSION}, gc off",
        open=lambda task: open_session(task, "--no-gc"),
        variation_of="cpython",
        **COMMON,
    ),
]
