"""Where and with what a run was measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.measure.process import ROOT
from pymicrogpt import _core, engines

if TYPE_CHECKING:
    from pymicrogpt import Corpus


def describe() -> dict[str, Any]:
    """Metadata of a run. The keys that pyperf has too carry pyperf's names."""
    facts: dict[str, Any] = {
        "cpu_model_name": cpu_model(),
        "cpu_count": os.cpu_count() or 1,
        "platform": platform.platform(),
        "python_version": f"{platform.python_implementation()} {platform.python_version()}",
        "pymicrogpt_version": installed_version(),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        **{f"build_{key}": value for key, value in _core.build_info().items()},
    }
    if hasattr(os, "getloadavg"):
        facts["load_avg_1min"] = round(os.getloadavg()[0], 2)
    facts |= peaks()
    return {key: value for key, value in facts.items() if value != ""}


def peaks() -> dict[str, float]:
    """Measured roofs of one core: those of each ISA, and "peak_gflops", the highest for FMA."""
    roofs = {}
    for engine in engines():
        if engine.simd and engine.available:
            for name, rate in _core.peak(engine.name).items():
                roofs[f"peak_{engine.name}_g{name}"] = round(rate * 1e-9, 1)
    flops = [rate for name, rate in roofs.items() if name.endswith("fma_flops")]
    return {**roofs, "peak_gflops": max(flops)} if flops else {}


def clock_ghz() -> float:
    """Of this core at this moment, in some three milliseconds; 0 where it cannot be measured."""
    from pymicrogpt import _core

    return round(_core.clock_rate() * 1e-9, 3)


def installed_version() -> str:
    try:
        return version("pymicrogpt")
    except PackageNotFoundError:
        return "not installed"


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


def commit() -> str:
    """Short hash of the checkout, "+" behind it when files differ; empty outside of git."""
    git = ("git", "-C", str(ROOT))
    short = _output(*git, "rev-parse", "--short", "HEAD")
    changed = _output(*git, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!reports")
    return short + ("+" if changed else "")


def cpu_ticks() -> list[int]:
    """Processor time of all cores since boot: user, nice, system, idle, iowait, irq, softirq and
    steal, what the hypervisor gave to other guests. Empty where the system does not tell."""
    with suppress(OSError), Path("/proc/stat").open(encoding="utf-8") as file:
        return [int(field) for field in file.readline().split()[1:9]]
    return []


class Watch:
    """What else went on while something was timed; nothing where the system does not tell."""

    def __init__(self) -> None:
        self.start = cpu_ticks()

    def facts(self) -> dict[str, float]:
        """Since the start: `steal_percent` of the processor time, `busy_cores` (the one that is
        being timed among them), and the load average of the last minute, all rounded."""
        facts = {}
        ticks = [end - start for start, end in zip(self.start, cpu_ticks(), strict=False)]
        if total := sum(ticks):
            *_, idle, waiting, _, _, stolen = ticks
            facts["steal_percent"] = round(100 * stolen / total, 2)
            busy = total - idle - waiting - stolen
            facts["busy_cores"] = round((os.cpu_count() or 1) * busy / total, 2)
        if hasattr(os, "getloadavg"):
            facts["load_avg_1min"] = round(os.getloadavg()[0], 2)
        return facts


def processor_seconds(pid: int) -> float:
    """Processor time of a process so far, all its threads; 0 where the system does not tell."""
    if pid == os.getpid():
        return time.process_time()
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # user and system
    return 0.0


def peak_memory(pid: int) -> int:
    """Bytes that a process had resident at most; 0 where the system does not tell.

    Linux tells it of the program alone; getrusage there begins with what the parent had.
    """
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if pid == os.getpid():
        with suppress(ImportError):
            import resource

            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return most * (1 if sys.platform == "darwin" else 1024)
    return 0


def _output(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def corpus_facts(corpus: Corpus) -> dict[str, str]:
    """The corpus in words; where it is the embedded one, why is told apart."""
    source, reason = without_folders(corpus.source), ""
    if source.startswith("embedded "):
        source, _, reason = source.removesuffix(")").partition(" (")
    facts = {"corpus": f"{len(corpus):,} documents, {source}"}
    return facts | ({"corpus_reason": reason} if reason else {})


def without_folders(text: str) -> str:
    """A text for the report, which may be published: files by their names alone."""
    return re.sub(r"(?<![\w:/])/(?:[^/\s]+/)+", "", text)
