"""Trainers do not disturb each other, in threads or forked processes, and keep their memory."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ENGINES, SIMD

import pymicrogpt as mg

CORPUS = mg.Corpus.from_documents(["anna", "bo", "cleo", "dada", "annabel", "bob", "abba" * 8])
TINY = mg.Config(n_embd=8, n_head=2, block_size=4)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
needs_threads = pytest.mark.skipif(not SIMD, reason="no engine with threads runs here")
forks = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def make(engine, seed=1, threads=1, num_steps=200) -> mg.Trainer:
    return mg.Trainer(
        CORPUS,
        mg.Config(n_layer=2, n_embd=8, n_head=2, block_size=6),
        engine=engine,
        batch_size=3,
        num_steps=num_steps,
        seed=seed,
        threads=threads,
    )


def outcome(trainer: mg.Trainer, k: int | None = None) -> list[bytes]:
    """Losses of k more steps, parameters, and samples."""
    losses = trainer.run(k)
    model = trainer.model
    texts = "\n".join(model.sample(5)) + (
        "\n".join(model.generate(50, engine=trainer.engine)) if trainer.engine in SIMD else ""
    )
    return [losses.tobytes(), *(a.tobytes() for a in model.parameters.values()), texts.encode()]


# Threads


@pytest.mark.parametrize(
    "engine, threads",
    [*((e, 1) for e in ENGINES), *((e, n) for e in SIMD for n in (2, "auto"))],
)
def test_trainers_in_threads_are_as_alone(engine, threads):
    steps = 2 if engine == "reference" else 200
    alone = [outcome(make(engine, seed), steps) for seed in (1, 2)]
    start = threading.Barrier(2)

    def train(seed):
        trainer = make(engine, seed, threads)
        start.wait()
        return outcome(trainer, steps)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(train, (1, 2))) == alone


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "reference"])
def test_one_trainer_in_two_threads_is_refused(engine):
    trainer = mg.Trainer(CORPUS, TINY, engine=engine, num_steps=10**9)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(trainer.run, 2_000)
        refused = 0
        while not done.done():
            for use in (lambda: trainer.run(1), trainer.gradients, lambda: trainer.model):
                try:
                    use()
                except RuntimeError as error:
                    assert "at work in another thread" in str(error)
                    refused += 1
        assert refused
        assert np.isfinite(done.result()).all()
    trainer.run(1)


def test_free_threaded_python_gets_its_lock_back():
    """The module does not declare that it needs no GIL, so importing it enables the GIL."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python has a GIL in any case")
    code = "import pymicrogpt, sys; pymicrogpt.engines(); assert sys._is_gil_enabled()"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


# Copies


@pytest.mark.parametrize("engine", ENGINES)
def test_trainers_are_not_copied(engine):
    trainer = make(engine)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match=r"save\(\).*Trainer\.resume\(\)"):
            copied(trainer)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_models_are_copied(copied):
    model = make("scalar").model
    if SIMD:
        model.generate(20)
    other = copied(model)
    assert model.sample(20) == other.sample(20)
    if SIMD:
        assert model.generate(20) == other.generate(20)
    other.parameters["wte"][:] = 0
    assert model.parameters["wte"].any()


# Processes


def in_child(work) -> bytes:
    """What `work()` returns in a forked process; fails if it has not ended within 20 seconds."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            with open(write, "wb") as pipe:
                pipe.write(work())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(write)
    killer = threading.Timer(20, os.kill, (child, 9))
    killer.start()
    with open(read, "rb") as pipe:
        answer = pipe.read()
    status = os.waitpid(child, 0)[1]
    killer.cancel()
    assert status == 0
    return answer


@needs_fork
@needs_threads
@forks
@pytest.mark.parametrize("asleep", [False, True])
@pytest.mark.parametrize("engine", SIMD)
def test_forked(engine, asleep):
    """A forked process trains with new trainers and with those of its parent, whose threads it does
    not have, and ends them."""
    expected = outcome(make(engine))
    trainer = make(engine, threads=3)
    losses = trainer.run(50)
    if asleep:
        threading.Event().wait(0.05)

    def work():
        nonlocal trainer
        new = outcome(make(engine, threads=2)) == expected
        theirs = outcome(trainer)[1:] == expected[1:]
        trainer = make(engine, threads=3)  # the old one ends
        return pickle.dumps((new, theirs, outcome(trainer) == expected))

    assert pickle.loads(in_child(work)) == (True, True, True)
    again = outcome(trainer)  # and the parent's goes on
    assert losses.tobytes() + again[0] == expected[0] and again[1:] == expected[1:]


@needs_fork
@needs_threads
@forks
def test_forked_and_only_ended():
    trainers = [make(SIMD[0], threads=3) for _ in range(3)]
    trainers[0].run(10)

    def work():
        trainers.clear()
        return b"ended"

    assert in_child(work) == b"ended"


# Memory

LONG_RUN = """
import os, resource, sys
import pymicrogpt as mg

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

engine, steps = sys.argv[1], int(sys.argv[2])
corpus = mg.Corpus.from_documents(["anna", "bo", "cleo", "dada", "annabel", "bob"])
config = mg.Config(n_embd=8, n_head=2, block_size=4)
trainer = mg.Trainer(corpus, config, engine=engine, batch_size=1, num_steps=2 * steps)
part = steps // 100
for _ in range(10):
    trainer.run(part)
    trainer.model.sample(1)
before = resident()
for _ in range(100):
    trainer.run(part)
    trainer.model.sample(1)
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc for the memory")
@pytest.mark.parametrize(
    "engine, steps",
    [(e, 10**6 if e in SIMD else 100 if e == "reference" else 30_000) for e in ENGINES],
)
def test_memory_stays(engine, steps):
    """Less than a byte a step at a million steps: 256 KiB, for the allocators' bookkeeping."""
    command = [sys.executable, "-c", LONG_RUN, engine, str(steps)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown <= 256 * 1024
