"""Two kinds of session: engines of pymicrogpt, and programs that speak bench/task/problem.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

import numpy as np

import pymicrogpt
from bench.task.task import Task
from bench.task.workload import WORKLOADS
from bench.variants.variant import Session, Variant
from pymicrogpt import _core


class EngineSession(Session):
    """An engine of pymicrogpt._core, without the Python layer above it that draws parameters."""

    core: Any  # _core.Trainer, or what has its interface

    def __init__(
        self,
        engine: str,
        task: Task,
        prefix_sharing: bool = True,
        threads: int = 1,
        skip_zeros: bool = True,
    ):
        self.task = task
        self.core = _core.Trainer(
            engine,
            task.tokens,
            task.offsets,
            **asdict(task.workload.config),
            vocab_size=task.vocab_size,
            batch_size=task.batch_size,
            threads=threads,
            prefix_sharing=prefix_sharing,
            skip_zeros=skip_zeros,
            **task.workload.optimizer,
        )
        self.info = {"isa": self.core.isa, "dtype": self.core.dtype}
        self.restart()

    def verify(self) -> tuple[float, np.ndarray]:
        return self.core.gradients()

    @property
    def nbytes(self) -> int:
        return self.core.nbytes

    def parameters(self) -> np.ndarray:
        return self.core.get("parameter")

    def run(self, steps: int) -> tuple[list[float], float]:
        start = time.perf_counter()
        losses = self.core.run(steps)
        seconds = time.perf_counter() - start
        return losses.tolist(), seconds

    def restart(self) -> None:
        self.core.set("parameter", self.task.parameters)
        for moment in ("first_moment", "second_moment"):
            self.core.set(moment, np.zeros_like(self.task.parameters))
        self.core.step = 0


class ProgramSession(Session):
    """A program in any language; the protocol is described in bench/task/problem.py."""

    def __init__(self, command: list[str], task: Task, gradients: bool = True):
        self.command = [*command, str(task.problem)]
        self.has_gradients = gradients
        self.start()

    def start(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, text=True)
        assert self.process.stdin and self.process.stdout
        self.requests, self.replies = self.process.stdin, self.process.stdout
        ready = self.receive("its first line")
        self.info = {key: str(value) for key, value in ready.items() if key != "ready"}

    def ask(self, request: str) -> dict:
        with suppress(OSError):  # when it is gone, receive() says so
            print(request, file=self.requests, flush=True)
        return self.receive(request)

    def receive(self, what: str) -> dict:
        line = self.replies.readline()
        if not line:
            code = self.process.wait()
            raise RuntimeError(f"{self.command[0]} ended with exit code {code} at {what!r}")
        return json.loads(line)

    def verify(self) -> tuple[float, np.ndarray] | None:
        if not self.has_gradients:
            return None
        reply = self.ask("gradients")
        return reply["loss"], np.array(reply["gradients"], float)

    def parameters(self) -> np.ndarray:
        return np.array(self.ask("parameters")["parameters"], float)

    def run(self, steps: int) -> tuple[list[float], float]:
        reply = self.ask(f"run {steps}")
        return reply["losses"], reply["seconds"]

    def restart(self) -> None:
        self.close()
        self.start()

    def close(self) -> None:
        self.requests.close()  # the end of its input ends it
        self.replies.close()
        self.process.wait()


def session_of(where: str, *settings: Any) -> Callable[[Task], Session]:
    """For Variant.open: a class as "module:name", whose libraries are imported as it is opened."""

    def open_session(task: Task) -> Session:
        session: Session = resolve_name(where)(*settings, task)
        return session

    return open_session


def engine_available(engine: str) -> Callable[[], str | None]:
    """For Variant.available: why this engine of pymicrogpt cannot run here."""

    def available() -> str | None:
        for info in pymicrogpt.engines():
            if info.name == engine:
                return None if info.available else info.reason
        return "not compiled into this build of pymicrogpt"

    return available


def packages_available(*names: str, pip: str = "") -> Callable[[], str | None]:
    """For Variant.available: which packages are missing, and the pip command that installs them."""

    def available() -> str | None:
        missing = [name for name in names if find_spec(name) is None]
        if missing:
            return f"no {' and '.join(missing)}; pip install {pip or ' '.join(missing)}"
        return None

    return available


def program_available(name: str, *, apt: str, brew: str) -> Callable[[], str | None]:
    """For Variant.available: that this program is missing, and the package that has it."""

    def available() -> str | None:
        if shutil.which(name):
            return None
        return (
            f"no {name} on the PATH; install it with `apt install {apt}` or `brew install {brew}`"
        )

    return available


def library(
    name: str,
    label: str,
    session: str,
    package: str,
    *,
    pip: str = "",
    group: str = "array libraries",
    **settings: Any,
) -> Variant:
    """A row on every workload whose `session` is "module:name" and needs a package."""
    available = packages_available(package, pip=pip)
    every = tuple(WORKLOADS)
    return Variant(name, label, group, session_of(session), available, every, **settings)
