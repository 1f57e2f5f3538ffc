"""Scalar autograd on a tape in Rust, compiled here from one file without crates."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from bench.task.task import Task
from bench.variants.sessions import ProgramSession, program_available
from bench.variants.variant import Variant

SOURCE = Path(__file__).with_name("rust_tape.rs")
BUILD = Path(__file__).parents[3] / "build" / "bench"
FLAGS = ("-C", "opt-level=3", "-C", "target-cpu=native", "-C", "panic=abort")


def compiled() -> Path:
    """The program, built anew when its source or the compiler has changed."""
    version = subprocess.run(["rustc", "-vV"], capture_output=True, check=True).stdout
    recipe = SOURCE.read_bytes() + version + " ".join(FLAGS).encode()
    program = BUILD / f"rust_tape-{hashlib.sha256(recipe).hexdigest()[:16]}"
    if not program.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            fresh = Path(folder, "rust_tape")
            command = ["rustc", "--edition=2021", *FLAGS, "-o", str(fresh), str(SOURCE)]
            env = {**os.environ, "RUSTC_VERSION": version.decode().splitlines()[0]}
            result = subprocess.run(command, capture_output=True, text=True, env=env)
            if result.returncode:
                raise RuntimeError(f"rustc could not compile {SOURCE.name}: {result.stderr}")
            os.replace(fresh, program)
    return program


def open_session(task: Task) -> ProgramSession:
    return ProgramSession([str(compiled())], task)


VARIANTS = [
    Variant(
        "rust-tape",
        "Rust tape, f32",
        "autograd tape",
        open_session,
        program_available("rustc", apt="rustc", brew="rust"),
        batches=(1,),
        about="Scalar autograd on a tape in Rust, single precision, compiled for this CPU.",
        source="bench/variants/rust/rust_tape.rs",
    )
]
