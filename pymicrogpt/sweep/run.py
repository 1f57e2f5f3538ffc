"""All trials of a space that are not done yet."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..config import checked_int
from ..corpus import Corpus
from ..engines import available_cores
from .pool import run_local
from .space import Settings, Space
from .store import FILE, Store
from .trial import Data, Row, SweepError, cost, key, no_scheduler, run_trial

CONNECT_SECONDS = 3.0


@dataclass(frozen=True)
class Progress:
    """How far a sweep has come.

    done: trials of the space that have a row
    total: trials of the space
    share: of the work of this call, estimated, 0 .. 1
    row: the one that has come; None at the beginning
    best: the least held-out loss of all trials in the folder; None where none has succeeded
    """

    done: int
    total: int
    share: float
    row: Row | None
    best: float | None


def run(
    space: Space,
    train: Corpus,
    held_out: Corpus,
    out_dir: str | os.PathLike[str],
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    retry_failed: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> list[Row]:
    """Trains every trial of `space` on `train`, measures it on `held_out`, and returns the rows
    (see run_trial) in the order of the space, equal trials once.

    Each row is appended to trials.jsonl in `out_dir` as soon as it is there, and a trial that the
    file has is not run again, unless it failed and `retry_failed` is given. So a sweep that was
    stopped or killed goes on when it is called again, and one with more trials runs the new ones.
    load() has the rows of all sweeps in the folder, which are of one corpus and split.

    workers: processes on this machine, one core each; all cores by default
    scheduler: address of a Dask scheduler, tcp://...; its workers are used instead
    progress: called at the beginning and after each row

    SweepError where the sweep cannot start or go on, or the folder has trials on other documents;
    TypeError and ValueError for wrong arguments.
    """
    if workers is not None:
        workers = checked_int("workers", workers)
        if scheduler is not None:
            raise ValueError("a scheduler has its own workers; give workers or scheduler, not both")
    data = Data(train, held_out)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    trials = {key(settings, data.digest): settings for settings in space.trials}
    with Store(out_dir / FILE) as store:
        store.check(data.digest)
        done = {
            k
            for k, row in store.rows.items()
            if k in trials and not (retry_failed and row["error"])
        }
        todo = [settings for k, settings in trials.items() if k not in done]
        todo.sort(key=cost, reverse=True)
        work, worked = sum(map(cost, todo)), 0.0
        losses = [row["held_out_loss"] for row in store.rows.values() if not row["error"]]
        best = min(losses, default=None)
        if progress:
            progress(Progress(len(done), len(trials), 0.0, None, best))
        if todo:
            with closing(_rows(todo, data, workers, scheduler)) as rows:
                for row in rows:
                    store.append(row)
                    done.add(row["key"])
                    worked += cost(row["settings"])
                    if not row["error"]:
                        loss = row["held_out_loss"]
                        best = loss if best is None else min(best, loss)
                    if progress:
                        progress(Progress(len(done), len(trials), worked / work, row, best))
        return [store.rows[k] for k in trials]


def _rows(
    trials: list[Settings], data: Data, workers: int | None, scheduler: str | None
) -> Generator[Row, None, None]:
    if scheduler is None:
        return run_local(run_trial, trials, data, workers or available_cores())
    check_address(scheduler)
    try:
        from .cluster import run_on_cluster
    except ImportError as error:
        raise SweepError(
            f"a Dask cluster needs: pip install 'pymicrogpt[sweep]' ({error})"
        ) from None
    return run_on_cluster(run_trial, trials, data, scheduler)


def check_address(address: str) -> None:
    """SweepError where no Dask scheduler answers there within a few seconds: Dask itself would try
    for long, in silence, and might not end with this process."""
    scheme, _, place = address.rpartition("://")
    if scheme in ("inproc", "ucx", "ws", "wss"):
        return
    match = re.fullmatch(r"(\[[^\]]+\]|[^:/\s]+):(\d{1,5})", place)
    if not match or scheme not in ("", "tcp", "tls") or int(match[2]) > 65535:
        raise no_scheduler(address, "an address is tcp://host:port, as in tcp://127.0.0.1:8786")
    host, port = match[1].strip("[]"), int(match[2])
    result: list[str] = []

    def connect() -> None:
        try:
            with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
                if scheme == "tls":
                    result.append("")
                    return
                # A scheduler greets first, with the length of its greeting in eight bytes.
                greeting = connection.recv(8, socket.MSG_WAITALL)
                is_dask = len(greeting) == 8 and int.from_bytes(greeting, "little") < 1 << 20
                result.append("" if is_dask else "something else does")
        except TimeoutError:
            result.append("no answer")
        except (OSError, OverflowError, UnicodeError) as error:
            result.append(getattr(error, "strerror", None) or str(error))

    # The time-out covers no name resolution; a thread that is left behind does.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(2 * CONNECT_SECONDS)
    reason = result[0] if result else "no answer"
    if reason:
        raise no_scheduler(address, reason)
