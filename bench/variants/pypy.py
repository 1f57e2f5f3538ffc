"""The same file as CPython's rows under PyPy's just-in-time compiler."""

import shutil

from bench.session import ProgramSession
from bench.task import Task
from bench.variant import Variant
from bench.variants.cpython import PURE_WORKER

SLOW_ON = ("d128",)


def open_session(task: Task) -> ProgramSession:
    command = [shutil.which("pypy3"), "-E", PURE_WORKER]
    return ProgramSession(command, task, gradients=task.workload.name not in SLOW_ON)


def available() -> str | None:
    if shutil.which("pypy3"):
        return None
    return "no pypy3 on the PATH; install it with `apt install pypy3` or `brew install pypy3`"


VARIANTS = [
    Variant(
        "pypy",
        "PyPy",
        "pure Python",
        open_session,
        available,
        workloads=("d16", "d32", "d64", "d128"),
        batches=(1,),
        dtype="float64",
        steady=True,
        warmup=4.0,  # until the compiler has seen every path
        slow_on=SLOW_ON,
        timeout=900.0,
    )
]
