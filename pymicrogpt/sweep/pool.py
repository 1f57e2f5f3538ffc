"""Trials on the cores of this machine, through concurrent.futures."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess

from .._signals import signals_held
from .space import Settings
from .trial import Data, Row, SweepError, failed_row, receive

Function = Callable[[Settings, str], Row]
AHEAD = 2  # trials that a worker holds: it starts the next while we write down the last
DEATHS = 3  # of its process, after which a trial counts as failed (as for Dask)
FALSE_STARTS = 3  # of a process in a row, after which the sweep gives up


def run_local(
    function: Function, trials: Sequence[Settings], data: Data, workers: int
) -> Generator[Row, None, None]:
    """Rows as they come. Closing the generator, or an exception in it, stops the workers.

    Each worker is a pool of one process, because a pool of which one process dies fails all that
    it holds: so it is one trial, and known which. That is tried again in a new process.
    """
    todo = deque(trials)
    deaths: Counter[int] = Counter()  # by id() of the settings
    done: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
    slots: list[_Slot] = []
    try:
        if os.name != "nt":
            with _signals_blocked():  # the helper of multiprocessing must outlive its users
                resource_tracker.ensure_running()
        for _ in range(min(workers, len(todo))):
            slots.append(_Slot(data, done))  # where `finally` finds it, before it has a process
            slots[-1].start()
        for slot in slots:
            slot.wait_until_ready()
        for _ in range(AHEAD):
            for slot in slots:
                slot.take(function, todo)
        while any(slot.held for slot in slots):
            slot = done.get()
            if not slot.held or not slot.held[0][1].done():
                continue  # what it tells of was lost with its process, and is taken care of
            settings, future = slot.held.popleft()
            row: Row | None
            try:
                row = future.result()
            except BrokenProcessPool:
                deaths[id(settings)] += slot.was_ready()
                todo.extendleft(held for held, _ in reversed(slot.held))
                if deaths[id(settings)] < DEATHS:
                    todo.appendleft(settings)
                    row = None
                else:
                    reason = f"its worker process died, {DEATHS} times (out of memory?)"
                    row = failed_row(settings, data.digest, reason)
                slot.restart()
            while todo and len(slot.held) < AHEAD:
                if not slot.take(function, todo):
                    break
            if row:
                yield row
    finally:
        with signals_held():  # a second Ctrl-C would leave the other workers
            for slot in slots:
                slot.kill()
            for slot in slots:
                slot.pool.shutdown(cancel_futures=True)


class _Slot:
    """One worker process, and the trials that it holds, the running one first."""

    def __init__(self, data: Data, done: queue.SimpleQueue[_Slot]) -> None:
        self.data = data
        self.done = done
        self.held: deque[tuple[Settings, Future[Row]]] = deque()
        self.false_starts = 0
        self.pool = self._new_pool()
        self.processes: set[BaseProcess] = set()

    def _new_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")  # forking a process with threads is unsafe
        with signals_held():  # half a queue would leave its semaphores
            return ProcessPoolExecutor(1, context, _begin, (self.data,))

    def start(self) -> None:
        before = set(multiprocessing.active_children())
        with _signals_blocked():
            self.pid = self.pool.submit(os.getpid)
            self.processes = set(multiprocessing.active_children()) - before

    def wait_until_ready(self) -> None:
        try:
            self.pid.result()
        except BrokenProcessPool:
            raise SweepError(
                "the worker processes do not start. They import the program that runs the sweep: "
                'in a script, sweep.run must stand below `if __name__ == "__main__":`'
            ) from None

    def take(self, function: Function, todo: deque[Settings]) -> bool:
        """Takes the next trial, if there is one. Not where the process is dead and the trials that
        it holds are about to say so."""
        if not todo:
            return False
        try:
            future = self.pool.submit(function, todo[0], self.data.digest)
        except BrokenProcessPool:
            if self.held:
                return False
            self.restart()
            return self.take(function, todo)
        self.held.append((todo.popleft(), future))
        future.add_done_callback(lambda _: self.done.put(self))
        return True

    def was_ready(self) -> bool:
        """Of a process that died: whether that was later than at its start."""
        return self.pid.exception() is None

    def restart(self) -> None:
        self.false_starts = 0 if self.was_ready() else self.false_starts + 1
        if self.false_starts == FALSE_STARTS:
            raise SweepError("worker processes die as they start; is there no memory left?")
        self.held.clear()
        self.pool.shutdown()
        self.pool = self._new_pool()
        self.start()

    def kill(self) -> None:
        """Ends the process, in the middle of a trial if there is one: rows are on the disk."""
        for process in self.processes:
            process.kill()


def _begin(data: Data) -> None:
    """In a new worker process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    receive(data)


def _end_with_parent() -> None:
    """A worker waits for work for ever, even when nobody is left to send it any."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started inside never see Ctrl-C and a closed terminal, which all of them are told,
    nor SIGTERM: it is the parent that ends them. In the parent they come after the block, even if
    another of its threads has received them."""
    with signals_held():
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            yield
            return
        signals = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
