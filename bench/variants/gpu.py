"""What rows on a GPU share: whether there is one, their batch sizes, and what a launch takes."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from statistics import median

from bench.variants.variant import Variant

BATCHES = (1, 16, 256, 4096)
LAUNCHES = 1000
STARTS_WITHIN = 120.0  # seconds: a library that has not found a GPU then sees none


@cache
def has_driver() -> bool:
    """Of NVIDIA: what both libraries' builds for GPUs need, asked for without any of them."""
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


@cache
def succeeds(program: str) -> bool:
    """Whether this Python program, in a process of its own, ends without an error."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, timeout=STARTS_WITHIN
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def on_gpu(row: Variant, program: str, otherwise: str) -> Variant:
    """The row at BATCHES, where its library is installed, a driver is there and `program` finds a
    GPU with that library; `otherwise` is the reason where it does not. A machine without a driver
    has one row, for the reason."""

    def available() -> str | None:
        if reason := row.available():
            return reason
        if not has_driver():
            return "no GPU: there is no driver of NVIDIA"
        return None if succeeds(program) else otherwise

    return replace(row, available=available, batches=BATCHES if has_driver() else (1,))


def launch_floor(launch: Callable[[], object]) -> float:
    """Seconds of the emptiest step, the median of LAUNCHES: `launch` starts one addition to one
    number, and waits until it is done."""
    seconds = []
    for _ in range(LAUNCHES + LAUNCHES // 10):  # the first ones warm up
        start = time.perf_counter()
        launch()
        seconds.append(time.perf_counter() - start)
    return median(seconds[-LAUNCHES:])
