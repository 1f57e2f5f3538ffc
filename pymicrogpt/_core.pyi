"""The compiled engines. Internal: the public surface is pymicrogpt.Trainer and pymicrogpt.GPT."""

from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

class EngineRecord(TypedDict):  # see pymicrogpt.EngineInfo
    name: str
    available: bool
    reason: str  # why it cannot run here; empty when it can
    isa: str
    lanes: int  # f32 (or f64) values per vector
    dtype: str  # "float32" or "float64"
    label: str
    arch: str
    supported: bool
    simd: bool
    prefix_sharing: bool
    skip_zeros: bool
    threads: bool
    generates: bool
    phases: bool

def engines() -> list[EngineRecord]: ...
def flush_denormals(on: bool) -> None:
    """Whether denormal numbers become zero in this thread; the engines see to it themselves."""

def tensors(
    *, n_layer: int, n_embd: int, n_head: int, block_size: int, vocab_size: int
) -> list[tuple[str, tuple[int, int], int]]:
    """Every parameter tensor as the engines have it: its name, its shape (out, in), and where it
    begins in a flat array of all parameters."""

def build_info() -> dict[str, str]:
    """Compiler, its version and the flags of each translation unit."""

def peak(engine: str, runs: int = 80) -> dict[str, float]:
    """Measured roofs of one core with the vectors of an engine, per second: "fma_flops",
    "l1_bytes", "l2_bytes", each the best of `runs` runs of a millisecond. ValueError where the
    engine has no vectors or cannot run here, or `runs` is below 1."""

def fma_rate(engine: str, runs: int = 2) -> float:
    """The first of these alone, at this moment: in some three milliseconds."""

def clock_rate(runs: int = 3) -> float:
    """Cycles per second of this core at this moment, by a chain of additions: the best of `runs`
    runs of a millisecond. 0 where the compiler allows none; ValueError for `runs` below 1."""

# Python's random numbers. state: 624 words and an index, (625,) uint32, as random.getstate() has
# them; it is changed in place.
def shuffled(state: NDArray[np.uint32], count: int) -> NDArray[np.uint32]:
    """The order (count,) that random.shuffle would give to 0 .. count - 1."""

def gauss(
    state: NDArray[np.uint32], waiting: float | None, sigma: float, count: int
) -> tuple[NDArray[np.float64], float | None]:
    """`count` numbers of random.gauss(0, sigma), and then gauss_next, of which `waiting` is the one
    before."""

# Documents: text, offsets and order of a pymicrogpt._documents.Documents. Nothing is checked.
def encode(
    text: NDArray[Any],
    offsets: NDArray[np.int64],
    order: NDArray[np.uint32] | None,
    ids: NDArray[np.int32],  # by code point, -1 for none
    bos: int,
    characters: int,  # of all these documents
) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
    """Tokens and offsets as Trainer takes them, and the first document with a character that has no
    id, or -1."""

def seen(
    text: NDArray[Any], offsets: NDArray[np.int64], order: NDArray[np.uint32] | None
) -> NDArray[np.bool_]:
    """Which code points occur."""

def framed(
    text: NDArray[Any],
    offsets: NDArray[np.int64],
    order: NDArray[np.uint32] | None,
    first: int,
    last: int,
) -> bytes:
    """Documents first .. last - 1, each as UTF-8 behind the eight bytes of its length."""

def held_out(
    text: NDArray[Any],
    offsets: NDArray[np.int64],
    order: NDArray[np.uint32] | None,
    state: NDArray[np.uint32],
    wanted: int,
) -> NDArray[np.bool_]:
    """Which of them Corpus.split() holds out, with a random.Random in this state."""

class Generator:
    """Draws many documents at once in a SIMD engine, fastest about `documents` of them."""

    def __init__(
        self,
        engine: str,
        *,
        n_layer: int,
        n_embd: int,
        n_head: int,
        block_size: int,
        vocab_size: int,
        documents: int,
    ) -> None: ...
    def load(self, parameters: NDArray[np.float64]) -> None:
        """Takes the parameters, flat, in the natural layout."""
    def generate(
        self,
        first: int,
        count: int,
        temperature: float,
        seed: int,
        top_k: int,
        prompt: NDArray[np.int32],
        most: int,
    ) -> NDArray[np.int32]:
        """Documents number first, first + 1, ... of the stream of `seed`, one after the other,
        of at most `most` tokens, each beginning with the prompt (n,), n <= most, and followed by
        BOS. Only the top_k most likely tokens are drawn from, or all with 0."""

class Trainer:
    """One model in one engine. Shapes and values are checked here too; messages are for people."""

    def __init__(
        self,
        engine: str,
        tokens: NDArray[np.int32],  # (M,) all documents, each with BOS at both ends
        offsets: NDArray[np.int64],  # (N + 1,)
        *,
        n_layer: int,
        n_embd: int,
        n_head: int,
        block_size: int,
        vocab_size: int,
        batch_size: int,
        learning_rate: float,
        beta1: float,
        beta2: float,
        eps: float,
        num_steps: int,
        threads: int,
        prefix_sharing: bool,
        skip_zeros: bool = True,  # in a SIMD engine; False: all hidden units, the same bits
    ) -> None: ...
    @property
    def engine(self) -> str: ...  # resolved: "auto" becomes the engine chosen
    @property
    def isa(self) -> str: ...
    @property
    def lanes(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def nbytes(self) -> int: ...  # memory that the engine holds
    @property
    def threads(self) -> int: ...  # of the next step; 0 given means: found out on the first steps
    step: int  # steps done so far; settable, for resuming
    def run(self, num_steps: int) -> NDArray[np.float64]:
        """Losses of `num_steps` more steps. Releases the GIL; a signal stops it between steps."""
    def profile(self, num_steps: int) -> dict[str, float]:
        """Seconds of each phase over `num_steps` more steps. ValueError where there are none."""
    @property
    def activity(self) -> dict[str, float] | None:
        """Shares of the MLP in the last batch, means over the layers: "values" that are not zero,
        "units" with such a value, units "resting" (reading parameters wakes them). All 0 before the
        first batch; None for an engine that does not count them."""
    def gradients(self) -> tuple[float, NDArray[np.float64]]:
        """Loss and flat gradient of the next batch, without stepping."""
    def loss(self, tokens: NDArray[np.int32], offsets: NDArray[np.int64]) -> float:
        """Mean loss over other documents, forward only."""
    def get(self, slot: str) -> NDArray[np.float64]:
        """Flat, in the natural layout; slot: "parameter", "first_moment" or "second_moment"."""
    def set(self, slot: str, values: NDArray[np.float64]) -> None: ...
