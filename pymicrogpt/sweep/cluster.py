"""Trials on a Dask cluster, through dask.distributed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, as_completed
from typing import Any

from distributed import Client, KilledWorker, WorkerPlugin

from .space import Settings
from .trial import Data, Row, SweepError, failed_row, forget, no_scheduler, receive

ANSWER_SECONDS = 4  # until a scheduler must answer, each time
PATIENCE = 30  # seconds until the first worker must be there


class _Receiver(WorkerPlugin):
    """Brings the corpus to every worker of the cluster, and to those that join later."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.name = f"pymicrogpt-sweep-{data.digest}"

    def setup(self, worker: Any) -> None:
        receive(self.data)

    def teardown(self, worker: Any) -> None:
        forget(self.data.digest)


def run_on_cluster(
    function: Callable[[Settings, str], Row], trials: Sequence[Settings], data: Data, address: str
) -> Generator[Row, None, None]:
    """Rows as they come. Closing the generator, or an exception in it, cancels what has not begun.

    Dask itself gives the trials of a worker that dies to another one. SweepError where there is no
    cluster at `address`, it has no workers, or they lack this package.
    """
    try:
        client = Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError, MemoryError) as error:
        raise no_scheduler(address, str(error)) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            raise SweepError(
                f"the Dask scheduler at {address} has no workers; start some with "
                f"`dask worker {address} --nthreads 1`"
            ) from None
        receiver = _Receiver(data)
        try:
            client.register_plugin(receiver)
        except Exception as error:  # whatever the import raised over there
            raise SweepError(
                f"the Dask workers cannot use pymicrogpt: {error}; install the same version there"
            ) from error
        executor = client.get_executor(pure=False)
        try:
            futures = {executor.submit(function, t, data.digest): t for t in trials}
            for future in as_completed(futures):
                settings = futures.pop(future)
                try:
                    yield future.result()
                except KilledWorker as error:
                    yield failed_row(settings, data.digest, f"its workers died: {error}")
                except CancelledError:
                    raise SweepError(f"the Dask scheduler at {address} is gone") from None
        finally:
            if client.status == "running":
                executor.shutdown(wait=False)
                client.unregister_worker_plugin(receiver.name)
