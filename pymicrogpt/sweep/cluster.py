"""Trials on a Dask cluster, through dask.distributed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from typing import Any, TypeVar

from distributed import Client, KilledWorker, TimeoutError, WorkerPlugin
from distributed.comm import CommClosedError

from .space import Settings
from .trial import Data, Row, SweepError, failed_row, forget, no_scheduler, receive

ANSWER_SECONDS = 3.5  # until a scheduler must answer, each time
QUIET_SECONDS = 1  # without news, after which it is asked whether it is still there
PATIENCE = 30  # seconds until the first worker must be there

T = TypeVar("T")


class _Receiver(WorkerPlugin):
    """Brings the corpus to every worker of the cluster, and to those that join later."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.name = f"pymicrogpt-sweep-{data.digest}"

    def setup(self, worker: Any) -> None:
        receive(self.data)

    def teardown(self, worker: Any) -> None:
        forget(self.data.digest)


class _Client(Client):
    def __del__(self) -> None:
        """Not that of Dask, which waits for a scheduler that hangs, and complains."""


class _Cluster:
    """A client whose calls end though the scheduler hangs, as those of Dask do not: each is made in
    a thread that may be left behind."""

    def __init__(self, address: str) -> None:
        self.address = address
        connecting = _in_thread(
            lambda: _Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
        )
        try:
            self.client = connecting.result(1.5 * ANSWER_SECONDS)
        except Exception as error:  # whatever Dask makes of an answer that is none
            raise no_scheduler(address, str(error) or "no answer") from None
        self.answers = True

    def call(self, function: Callable[[], T]) -> T:
        """What it returns or raises; SweepError where the scheduler goes or hangs meanwhile."""
        done: queue.SimpleQueue[Future[T]] = queue.SimpleQueue()
        _in_thread(function).add_done_callback(done.put)
        try:
            return self.next_of(done).result()
        except Exception as error:
            if isinstance(error, CommClosedError) or self.client.status != "running":
                raise self.gone() from None
            raise

    def next_of(self, done: queue.SimpleQueue[Future[T]]) -> Future[T]:
        """Waits for the next one that is done; SweepError where the scheduler hangs."""
        while True:
            with suppress(queue.Empty):
                return done.get(timeout=QUIET_SECONDS)
            for _ in range(2):  # the first time, this process may have been stopped itself
                answer = _in_thread(lambda: self.client.scheduler_info(n_workers=0))
                if wait([answer], ANSWER_SECONDS).done:
                    break
            else:
                raise self.gone("no longer answers")

    def gone(self, how: str = "is gone") -> SweepError:
        self.answers = False
        return SweepError(f"the Dask scheduler at {self.address} {how}")

    def leave(self, *calls: Callable[[], object]) -> None:
        """Makes the calls and closes the client, as far as that works."""
        for call in (*calls, self.client.close):
            if not (self.answers and wait([_in_thread(call)], ANSWER_SECONDS).done):
                break


def run_on_cluster(
    function: Callable[[Settings, str], Row], trials: Sequence[Settings], data: Data, address: str
) -> Generator[Row, None, None]:
    """Rows as they come. Closing the generator, or an exception in it, cancels what has not begun.

    Dask itself gives the trials of a worker that dies to another one. Where it gives up several,
    some may only have waited beside one that kills: they run once more, one at a time.

    SweepError where there is no cluster at `address`, it has no workers, they lack this package, or
    the scheduler goes or hangs.
    """
    cluster, receiver = _Cluster(address), _Receiver(data)
    client = cluster.client
    leaving: list[Callable[[], object]] = []
    try:
        try:
            cluster.call(lambda: client.wait_for_workers(1, timeout=PATIENCE))
        except TimeoutError:
            raise SweepError(
                f"the Dask scheduler at {address} has no workers; start some with "
                f"`dask worker {address} --nthreads 1`"
            ) from None
        leaving.append(lambda: client.unregister_worker_plugin(receiver.name))
        try:
            cluster.call(lambda: client.register_plugin(receiver))
        except SweepError:
            raise
        except Exception as error:  # whatever the import raised over there
            raise SweepError(
                f"the Dask workers cannot use pymicrogpt: {error}; install the same version there"
            ) from error
        executor = client.get_executor(pure=False)
        leaving.insert(0, lambda: executor.shutdown(wait=False))

        def rows(trials: Sequence[Settings]) -> Generator[Row, None, None]:
            futures: dict[Future[Row], Settings] = cluster.call(
                lambda: {executor.submit(function, t, data.digest): t for t in trials}
            )
            done: queue.SimpleQueue[Future[Row]] = queue.SimpleQueue()
            for future in futures:
                future.add_done_callback(done.put)
            while futures:
                future = cluster.next_of(done)
                settings = futures.pop(future)
                try:
                    row = future.result()
                except KilledWorker as error:
                    given_up.append((settings, f"its workers died: {error}"))
                except CancelledError:
                    raise cluster.gone() from None
                else:
                    yield row

        given_up: list[tuple[Settings, str]] = []
        yield from rows(trials)
        if len(suspects := list(given_up)) > 1:
            given_up.clear()
            for suspect, _ in suspects:
                yield from rows([suspect])
        for culprit, reason in given_up:
            yield failed_row(culprit, data.digest, reason)
    finally:
        cluster.leave(*leaving)


def _in_thread(function: Callable[[], T]) -> Future[T]:
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future
