"""A row's process: it verifies one variant on one task, and then times it.

`python -m bench.measure.checked` reads its job, {"variant": name, "task": file, "extra": [variant
files]}, and answers with {"info": ...} when the variant is open and its first loss and gradients
are right. A request is {"steps": K}, K more steps to time as it warms up, or a round, which also
tells the paces around it: {"steps": K, "restart": false}, or true for the first K of a training; or
{"finish": true}, which asks what the process needed.
"""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Iterator
from typing import Any

from bench.measure.machine import clock_ghz, peak_memory, processor_seconds
from bench.measure.neighbour import around, paces
from bench.measure.process import Answer, serve
from bench.task.task import Task, WrongResult
from bench.variants.variant import Variant, find_variant

LOSS_WINDOW = 50  # steps over which the loss shown is averaged
ONE_CORE = 1.1  # processor time over wall time that a row may take: one thread, and some room
JUDGED_AFTER = 0.5  # seconds of steps, since a program's processor time comes in units of 10 ms


class CheckedSession:
    """A session of which every loss is checked. Ends its training, then starts it again."""

    def __init__(self, variant: Variant, task: Task):
        self.variant, self.task = variant, task
        self.session = variant.open(task)
        self.step = 0
        self.losses: list[float] = []  # of the training that is going on
        self.final: dict[str, float | int] = {}  # loss at the end of the last whole training
        self.wall = self.processor = 0.0  # seconds of all steps so far
        info = self.session.info
        if not isinstance(info, dict) or {str} < {str, *map(type, (*info, *info.values()))}:
            raise TypeError("the info of its session must be texts by name")
        first = self.session.verify()
        if first is not None:
            task.check_gradients(variant.dtype, *first)

    def run(self, steps: int) -> dict[str, Any]:
        """Times `steps` steps. WrongResult where a loss is not what it must be."""
        seconds, positions = 0.0, 0
        for done in self._trainings(steps):
            losses, elapsed = self._watched(done)
            if len(losses) != done:
                raise WrongResult(f"{len(losses)} losses for {done} steps")
            if not elapsed > 0:
                raise WrongResult(f"{done} steps in {elapsed} s")
            self.task.check_losses(self.variant.dtype, self.step, losses)
            seconds += elapsed
            positions += self.task.positions(self.step, done)
            self.step += done
            self.losses += losses
            if self.step == self.task.workload.num_steps:
                self.final = self._loss()
        return {
            "seconds": seconds,
            "steps": steps,
            "documents": steps * self.task.batch_size,
            "positions": positions,
            **(self.final or self._loss()),
        }

    def restart(self) -> None:
        """Back to the first step, untimed."""
        if self.step:
            self.session.restart()
            self.step, self.losses = 0, []

    def _watched(self, steps: int) -> tuple[list[float], float]:
        """The session's run. WrongResult where it keeps more than one core busy."""
        wall, processor = time.perf_counter(), processor_seconds(self.pid)
        found = self.session.run(steps)
        self.wall += time.perf_counter() - wall
        self.processor += processor_seconds(self.pid) - processor
        if self.wall > JUDGED_AFTER and self.processor > ONE_CORE * self.wall:
            raise WrongResult(f"it keeps {self.processor / self.wall:.2f} cores busy, not one")
        return found

    @property
    def pid(self) -> int:
        """Of the process that trains."""
        process = getattr(self.session, "process", None)
        return process.pid if process else os.getpid()

    def needed(self) -> dict[str, int | float]:
        """Bytes of the process that trains, bytes that the session says that its model takes,
        seconds of an empty step where it has them, and cores: processor time over wall time of all
        steps, 0 where the system does not tell."""
        return {
            "peak_memory": peak_memory(self.pid),
            "engine_memory": operator.index(getattr(self.session, "nbytes", 0)),
            "launch_floor": float(getattr(self.session, "launch_floor", 0.0)),
            "cores": self.processor / self.wall if self.wall else 0.0,
        }

    def _loss(self) -> dict[str, float | int]:
        window = self.losses[-LOSS_WINDOW:]
        return {
            "loss": sum(window) / len(window),
            "loss_first_step": self.step - len(window) + 1,
            "loss_last_step": self.step,
        }

    def _trainings(self, steps: int) -> Iterator[int]:
        """`steps` cut where a training ends; starts the next one there."""
        while steps:
            if self.step == self.task.workload.num_steps:
                self.restart()
            done = min(steps, self.task.workload.num_steps - self.step)
            yield done
            steps -= done


def start(job: dict[str, Any]) -> tuple[dict[str, Any], Answer]:
    variant = find_variant(job["variant"], job["extra"])
    checked = CheckedSession(variant, Task.load(job["task"]))
    measure = paces()

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if "finish" in request:
            needed = checked.needed()
            checked.session.close()
            return needed
        if "restart" not in request:
            return checked.run(request["steps"])
        if request["restart"]:
            checked.restart()
        before = measure()
        reply = checked.run(request["steps"]) | {"clock_ghz": clock_ghz()}
        return reply | {"paces": around(before, measure(), reply["seconds"])}

    return {"info": checked.session.info}, answer


if __name__ == "__main__":
    serve(start)
