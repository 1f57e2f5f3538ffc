"""All trials, on a Dask cluster."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from pymicrogpt import sweep
from pymicrogpt.sweep import Space, SweepError
from pymicrogpt.sweep.run import check_address
from pymicrogpt.sweep.trial import Data

from .common import HELD_OUT, QUICK, TRAIN, kills_its_process, posix, without_times


@posix
def test_dask_does_the_same_though_workers_die(tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs pip install '.[sweep]'")
    import dask

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

        # The cluster serves the next sweep, on another corpus.
        [row] = sweep.run(
            Space.grid(**QUICK), HELD_OUT, TRAIN, tmp_path / "next", scheduler=address
        )
        assert row["error"] is None


@posix
def test_dask_blames_the_trial_that_kills_alone(tmp_path, monkeypatch):
    """One worker, so that the others wait where seed 43 brings it down."""
    distributed = pytest.importorskip("distributed", reason="needs pip install '.[sweep]'")
    import dask

    from pymicrogpt.sweep.cluster import run_on_cluster

    monkeypatch.setenv("SWEEP_TEST_DEATHS", str(tmp_path / "deaths"))
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=None
        ) as cluster,
    ):
        trials = Space.grid(seeds=[43, 42, 44], **QUICK).trials
        data = Data(TRAIN, HELD_OUT)
        found = list(run_on_cluster(kills_its_process, trials, data, cluster.scheduler_address))
    errors = {row["settings"]["seed"]: row["error"] for row in found}
    assert sorted(errors) == [42, 43, 44] and len(found) == 3
    assert errors[42] is None and errors[44] is None
    assert "its workers died" in errors[43]
    assert len((tmp_path / "deaths").read_text()) == 2


@contextmanager
def cluster_of_processes():
    """A scheduler with one worker: its process, its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    lines = [
        ["dask_scheduler", "--host", "127.0.0.1", "--port", str(port)],
        ["dask_worker", address, "--nthreads", "1", "--no-nanny"],
    ]
    scheduler, worker = processes = [
        subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{name}", *more, "--no-dashboard"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for name, *more in lines
    ]
    try:
        while True:
            try:
                check_address(address)
                break
            except SweepError:
                assert scheduler.poll() is None and worker.poll() is None
        yield scheduler, address
    finally:
        for process in processes:
            process.kill()
            process.wait()


@posix
@pytest.mark.parametrize(
    ("name", "message"), [("SIGKILL", "is gone"), ("SIGSTOP", "no longer answers")]
)
def test_a_scheduler_that_goes_or_hangs_in_the_middle(tmp_path, name, message):
    pytest.importorskip("distributed", reason="needs pip install '.[sweep]'")
    with cluster_of_processes() as (scheduler, address):
        command = [sys.executable, "-m", "pymicrogpt", "sweep", "--n-embd", "8,12", "--seeds", "99"]
        process = subprocess.Popen(
            [*command, "--scheduler", address, "--out-dir", tmp_path, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYMICROGPT_OFFLINE": "1"},
        )
        for _ in range(3):
            assert json.loads(process.stdout.readline())["event"] == "trial"
        scheduler.send_signal(getattr(signal, name))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"the Dask scheduler at {address} {message}; " in err and "trials are kept" in err
    assert err.count("\n") == 1
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) >= 3


@pytest.mark.parametrize("method", ["wait_for_workers", "register_plugin", "submit"])
def test_a_scheduler_that_goes_as_the_sweep_begins(tmp_path, monkeypatch, method):
    pytest.importorskip("distributed", reason="needs pip install '.[sweep]'")
    from pymicrogpt.sweep import cluster

    with cluster_of_processes() as (scheduler, address):
        call = getattr(cluster.Client, method)

        def late(client, *args, **settings):
            scheduler.kill()
            while client.status == "running":
                time.sleep(0.01)
            return call(client, *args, **settings)

        monkeypatch.setattr(cluster.Client, method, late)
        with pytest.raises(SweepError, match="is gone"):
            sweep.run(Space.grid(), TRAIN, HELD_OUT, tmp_path, scheduler=address)


@pytest.mark.parametrize(
    ("greeting", "reason"), [(b"\x28" + bytes(7), "no answer"), (bytes(8), "")], ids=repr
)
def test_a_server_that_greets_as_a_scheduler_does(tmp_path, monkeypatch, greeting, reason):
    pytest.importorskip("distributed", reason="needs pip install '.[sweep]'")
    from pymicrogpt.sweep import cluster

    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = []

        def greet():
            for _ in range(2):  # check_address() and Dask
                connections.append(server.accept()[0])
                connections[-1].sendall(greeting)

        greets = threading.Thread(target=greet)
        greets.start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(SweepError, match=f"no Dask scheduler answers at {address}: {reason}"):
            sweep.run(Space.grid(), TRAIN, HELD_OUT, tmp_path, scheduler=address)
        greets.join()
        for connection in connections:
            connection.close()


def test_no_scheduler_is_told_in_one_line(tmp_path, monkeypatch):
    pytest.importorskip("distributed", reason="needs pip install '.[sweep]'")
    from pymicrogpt.sweep import cluster

    monkeypatch.setattr(cluster, "PATIENCE", 1)
    addresses = ("tcp://127.0.0.1:9", "127.0.0.1", "wrong://host:1", "tcp://127.0.0.1:99999")
    for address in (*addresses, "ucx://127.0.0.1:9", "inproc://1.2.3.4/5/6"):
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
