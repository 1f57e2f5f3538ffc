"""All trials, on a Dask cluster."""

from __future__ import annotations

import os
import signal
import socket
import threading

import pytest

from pymicrogpt import sweep
from pymicrogpt.sweep import Space, SweepError
from pymicrogpt.sweep.run import check_address
from pymicrogpt.sweep.trial import Data

from .common import HELD_OUT, QUICK, TRAIN, kills_its_process, posix, without_times


@posix
def test_dask_does_the_same_though_workers_die(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs pip install '.[sweep]'")
    import dask

    from pymicrogpt.sweep.cluster import run_on_cluster

    monkeypatch.setenv("SWEEP_TEST_DEATHS", str(tmp_path / "deaths"))
    space = Space.grid(
        n_embd=[8, 16, 9], learning_rate=[0.01, 0.02], seeds=3, num_steps=200, evals=4
    )
    local = sweep.run(space, TRAIN, HELD_OUT, tmp_path / "local")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
    ):
        address = cluster.scheduler_address
        [victim, _] = [nanny.pid for nanny in cluster.workers.values()]
        killed = []

        def kill(progress):
            if progress.done == 4:
                os.kill(victim, signal.SIGKILL)
                killed.append(victim)

        rows = sweep.run(
            space, TRAIN, HELD_OUT, tmp_path / "dask", scheduler=address, progress=kill
        )
        assert killed
        assert [without_times(row) for row in rows] == [without_times(row) for row in local]
        assert len({row["worker"] for row in rows if row["worker"]}) >= 2

        # The cluster serves the next sweep, on another corpus, and a trial that no worker survives.
        data = Data(HELD_OUT, HELD_OUT)
        trials = Space.grid(seeds=[42, 43], **QUICK).trials
        found = run_on_cluster(kills_its_process, trials, data, address)
        errors = {row["settings"]["seed"]: row["error"] for row in found}
        assert errors[42] is None
        assert "its workers died" in errors[43]
        assert len((tmp_path / "deaths").read_text()) == 2


def test_no_scheduler_is_told_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="needs pip install '.[sweep]'")
    from pymicrogpt.sweep import cluster

    monkeypatch.setattr(cluster, "PATIENCE", 1)
    for address in ("tcp://127.0.0.1:9", "127.0.0.1", "wrong://host:1"):
        with pytest.raises(SweepError, match="no Dask scheduler answers at"):
            sweep.run(Space.grid(), TRAIN, HELD_OUT, tmp_path, scheduler=address)


def test_a_server_that_is_no_scheduler_is_told_in_one_line():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        answers = threading.Thread(target=lambda: server.accept()[0].sendall(b"HTTP/1.1 400"))
        answers.start()
        with pytest.raises(SweepError, match="something else does"):
            check_address(f"tcp://127.0.0.1:{port}")
        answers.join()
