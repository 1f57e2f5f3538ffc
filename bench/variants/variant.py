"""What a variant is: one way of training the model, with what it takes to run and to judge it."""

from __future__ import annotations

import math
import pkgutil
import re
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np

import bench.variants
import pymicrogpt
from bench.results import GROUPS
from bench.task.task import Task
from bench.task.workload import WIDTHS, WORKLOADS, Workload

NAME = r"[\w.+-]+"  # of a variant: it stands in lists with commas, and in the names of rows


class Session(Protocol):
    """One training run of one implementation, inside the worker process.

    It may have `nbytes`, the memory that the implementation says it takes, `process`, the
    subprocess.Popen that trains where that is not the worker itself, `parameters()`, flat as in
    verify(), which bench/measure/quality.py evaluates, and on a GPU, which its info names as "gpu",
    `launch_floor`, the seconds of an empty step (bench/variants/gpu.py).
    """

    info: dict[str, str]  # what built or runs it ("compiler", "isa"): kept in the result file

    def verify(self) -> tuple[float, np.ndarray] | None:
        """Loss and flat gradient of the next batch, without a step. None: cannot, or too slow."""

    def run(self, steps: int) -> tuple[list[float], float]:
        """`steps` more training steps: their losses and the wall time of them all in seconds."""

    def restart(self) -> None:
        """Back to step 0 and the initial parameters. Not timed."""

    def close(self) -> None:
        """Ends what it started."""
        return


@dataclass(frozen=True)
class Variant:
    """A row of the benchmark. `open` gets the task (bench/task/task.py) and returns a session."""

    name: str  # what --variants takes
    label: str  # what people read
    group: str  # one of GROUPS
    open: Callable[[Task], Session]
    available: Callable[[], str | None] = lambda: None  # why not here and what to install, or None
    workloads: tuple[str, ...] = tuple(WIDTHS)
    batches: tuple[int, ...] = (1, 16)
    dtype: str = "float32"  # decides the tolerances
    steady: bool = False  # a step does the same work however far the training is: timed in slices
    skips_zeros: bool = False  # a step costs less, the further a training is
    warmup: float = 0.3  # seconds of untimed steps; 0: the very first step is timed
    slow_on: tuple[str, ...] = ()  # a step or its compilation takes seconds: not in --quick
    timeout: float = 120.0  # seconds that one answer of the worker may take
    variation_of: str = ""  # the variant that this one changes in one respect
    about: str = ""  # a sentence or two on what it is
    source: str = ""  # the file of this repository to read

    def __post_init__(self) -> None:
        fits = {
            "name": isinstance(self.name, str) and re.fullmatch(NAME, self.name),
            "label": isinstance(self.label, str)
            and re.search(r"\w", self.label)
            and self.label.isprintable(),
            "open": callable(self.open),
            "available": callable(self.available),
            "batches": are(int, self.batches) and self.batches and min(self.batches) > 0,
            "workloads": are(str, self.workloads),
            "slow_on": are(str, self.slow_on),
            "warmup": is_number(self.warmup) and self.warmup >= 0,
            "timeout": is_number(self.timeout) and 0 < self.timeout <= threading.TIMEOUT_MAX,
            "variation_of": isinstance(self.variation_of, str),
            "about": isinstance(self.about, str),
            "source": isinstance(self.source, str),
        }
        for field, fit in fits.items():
            if not fit:
                value = getattr(self, field)
                raise ValueError(f"variant {self.name!r}: {field} must not be {value!r}")
        if self.group not in GROUPS:
            raise ValueError(f"variant {self.name}: group must be one of {', '.join(GROUPS)}")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"variant {self.name}: dtype must be float32 or float64")
        if not (self.warmup or self.steady):
            raise ValueError(f"variant {self.name}: without a warm-up it must be steady")
        if unknown := set(self.workloads) - set(WORKLOADS):
            raise ValueError(f"variant {self.name}: unknown workloads {', '.join(sorted(unknown))}")

    def missing(self) -> str | None:
        """Why it cannot run here, or None: what `available` says, or fails with."""
        try:
            reason = self.available()
        except (Exception, SystemExit) as error:
            return f"available() failed: {in_words(error)}"
        return reason if reason is None else str(reason)

    def batches_on(self, workload: Workload) -> tuple[int, ...]:
        return (workload.batch_size,) if workload.batch_size else self.batches


def load_variants(extra: Iterable[str] = ()) -> dict[str, Variant]:
    """Every variant by name: of the modules in bench/variants that have a list VARIANTS, and of the
    files named in `extra`, which must have one.

    ValueError for a file that cannot be loaded or has none, or for a name used twice.
    """
    modules = [
        import_module(f"bench.variants.{module.name}")
        for module in pkgutil.iter_modules(bench.variants.__path__)
    ]
    modules += [_import_file(Path(path)) for path in extra]
    found: dict[str, Variant] = {}
    for module in modules:
        for variant in getattr(module, "VARIANTS", []):
            if variant.name in found:
                raise ValueError(f"{module.__file__}: there is a variant {variant.name} already")
            found[variant.name] = variant
    return dict(sorted(found.items(), key=lambda item: GROUPS.index(item[1].group)))


def find_variant(name: str, extra: Iterable[str] = ()) -> Variant:
    """The same for one, without the files that come after its own: these may do anything."""
    for files in ((), *((file,) for file in extra)):
        if found := load_variants(files).get(name):
            return found
    raise ValueError(f"there is no variant {name}")


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"no variant file {path}")
    module = ModuleType(f"bench_variant_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look for their annotations
    try:
        exec(compile(path.read_bytes(), path, "exec"), module.__dict__)
    except SyntaxError as error:
        line = f", line {error.lineno}" if error.lineno else ""
        raise ValueError(f"{path}{line}: {error.msg}") from error
    except (Exception, SystemExit) as error:  # whatever the file raises
        raise ValueError(f"{path} cannot be loaded: {in_words(error)}") from error
    variants = getattr(module, "VARIANTS", None)
    if not isinstance(variants, list):
        raise ValueError(f"{path} has no list VARIANTS")
    if wrong := [item for item in variants if not isinstance(item, Variant)]:
        kind = type(wrong[0]).__name__
        raise ValueError(f"{path}: VARIANTS holds one of type {kind}, which is no Variant")
    return module


def in_words(error: BaseException) -> str:
    """In one line; an error of somebody else's class may not even have words."""
    try:
        words = " ".join(str(error).split())
    except Exception:
        words = ""
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def are(kind: type, values: object) -> bool:
    return isinstance(values, (tuple, list)) and all(type(value) is kind for value in values)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def best_engine(variants: dict[str, Variant]) -> str | None:
    """The best SIMD engine that runs here, of the variants given; None where there is none."""
    for info in pymicrogpt.engines():  # best first
        if info.available and info.name in variants and variants[info.name].group == "SIMD":
            return info.name
    return None
