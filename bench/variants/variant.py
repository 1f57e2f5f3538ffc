"""What a variant is: one way of training the model, with what it takes to run and to judge it."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from bench.results import GROUPS
from bench.task.workload import WIDTHS, WORKLOADS, Workload

if TYPE_CHECKING:
    import numpy as np

    from bench.task.task import Task


class Session(Protocol):
    """One training run of one implementation, inside the worker process.

    It may have `nbytes`, the memory that the implementation says it takes, and `process`, the
    subprocess.Popen that trains where that is not the worker itself.
    """

    info: dict[str, str]  # what built or runs it ("compiler", "isa"): kept in the result file

    def verify(self) -> tuple[float, np.ndarray] | None:
        """Loss and flat gradient of the next batch, without a step. None: cannot, or too slow."""

    def run(self, steps: int) -> tuple[list[float], float]:
        """`steps` more training steps: their losses and the wall time of them all in seconds."""

    def restart(self) -> None:
        """Back to step 0 and the initial parameters. Not timed."""

    def close(self) -> None: ...

    # A session may have `parameters() -> np.ndarray`, flat as in verify(): bench/measure/quality.py
    # evaluates them.


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

    def __post_init__(self) -> None:
        if self.group not in GROUPS:
            raise ValueError(f"variant {self.name}: group must be one of {', '.join(GROUPS)}")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"variant {self.name}: dtype must be float32 or float64")
        if not (self.warmup or self.steady):
            raise ValueError(f"variant {self.name}: without a warm-up it must be steady")
        if unknown := set(self.workloads) - set(WORKLOADS):
            raise ValueError(f"variant {self.name}: unknown workloads {', '.join(sorted(unknown))}")

    def batches_on(self, workload: Workload) -> tuple[int, ...]:
        return (workload.batch_size,) if workload.batch_size else self.batches


def load_variants(extra: Iterable[str] = ()) -> dict[str, Variant]:
    """Every variant by name: of the modules in bench/variants that have a list VARIANTS, and of the
    files named in `extra`, which must have one.

    ValueError for a file that cannot be loaded or has none, or for a name used twice.
    """
    import bench.variants

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


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"no variant file {path}")
    module = ModuleType(f"bench_variant_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look for their annotations
    try:
        exec(compile(path.read_bytes(), path, "exec"), module.__dict__)
    except SyntaxError as error:
        raise ValueError(f"{path}, line {error.lineno}: {error.msg}") from error
    except Exception as error:  # whatever the file raises
        raise ValueError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    variants = getattr(module, "VARIANTS", None)
    if not isinstance(variants, list):
        raise ValueError(f"{path} has no list VARIANTS")
    if wrong := [item for item in variants if not isinstance(item, Variant)]:
        raise ValueError(f"{path}: VARIANTS holds {wrong[0]!r}, which is no Variant")
    return module
