"""What can train a model on this machine."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # everything that imports the package pays for what is imported here
if TYPE_CHECKING:
    from .engine_info import EngineInfo


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def reference_engine() -> EngineInfo:
    import platform

    from .engine_info import EngineInfo

    implementation = platform.python_implementation()
    isa = f"{implementation} {platform.python_version()}"
    return EngineInfo("reference", True, "", isa, 1, "float64", implementation)


def engines() -> list[EngineInfo]:
    """Every engine by name: the pure-Python reference, then the compiled ones, best first."""
    from . import _core
    from .engine_info import EngineInfo

    return [reference_engine(), *(EngineInfo(**record) for record in _core.engines())]
