"""Problem files and the line protocol: what a training program in another language has to speak.

A program that wants a row in the benchmark (a variant in Rust, in C, in anything) is started as

    program PROBLEM_FILE

and talks on standard input and output, one line at a time, flushing after each. Any number it
prints may be `null` when it is not finite. It first reads the file and prints

    {"ready": true, "name": "rust-tape", "compiler": "rustc 1.95.0"}

and then answers each line that it reads with one line:

    run K        {"losses": [K numbers], "seconds": S}
                 K more training steps from where it stands; a loss is that of the step's batch
                 before its update. S is the wall time of those steps in seconds: everything from
                 document indices to updated weights, without parsing or printing.
    gradients    {"loss": x, "gradients": [num_params numbers]}
                 loss and flat gradient of the next batch in the layout of the file; no step.
    parameters   {"parameters": [num_params numbers]}
                 as they are now, in the same layout: for the loss against time; a program that
                 does not know this request has no such line in the report.
    quit         nothing; the program ends with exit code 0, as it does at the end of its input.

Anything else, a bad file, or a `run` past num_steps: a message on standard error, exit code 2.

Step s takes documents (s * batch_size + i) mod num_docs, i = 0 .. batch_size - 1, with learning
rate learning_rate * (1 - s / num_steps). The gradient of a batch is the mean of its documents'.

The file, little-endian, with no gaps but the one named:

    magic        8 bytes       "MGPTPROB"
    header       10 int64      n_layer, n_embd, n_head, block_size, vocab_size, batch_size,
                               num_steps, num_docs, num_tokens, num_params
    optimizer    4 float64     learning_rate, beta1, beta2, eps
    offsets      int64         (num_docs + 1,): document d is tokens[offsets[d] : offsets[d + 1]]
    tokens       int32         (num_tokens,): BOS = vocab_size - 1 at both ends of each document
    padding      0 or 4 bytes  to a multiple of 8
    params       float64       (num_params,): wte (V, C), wpe (T, C), lm_head (V, C), then per layer
                               attn_wq, attn_wk, attn_wv, attn_wo (C, C), mlp_fc1 (4C, C),
                               mlp_fc2 (C, 4C); each (out, in), row by row, as in cpp/params.h
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from pymicrogpt.config import Config

MAGIC = b"MGPTPROB"


def write_problem(
    path: str | os.PathLike[str],
    *,
    config: Config,
    vocab_size: int,
    tokens: ArrayLike,
    offsets: ArrayLike,
    parameters: ArrayLike,
    batch_size: int,
    num_steps: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    eps: float,
) -> None:
    """Write one problem file, whole or not at all.

    `tokens` (num_tokens,) and `offsets` (num_docs + 1,) are integers, `parameters` (num_params,)
    is float64 in the natural layout. ValueError where they do not fit together.
    """
    tokens = _flat("tokens", tokens, "<i4")
    offsets = _flat("offsets", offsets, "<i8")
    parameters = _flat("parameters", parameters, "<f8")
    c = config.n_embd
    num_params = (2 * vocab_size + config.block_size) * c + 12 * c * c * config.n_layer
    if len(parameters) != num_params:
        raise ValueError(f"parameters has {len(parameters)} values; this config has {num_params}")
    if len(offsets) < 2 or offsets[0] != 0 or offsets[-1] != len(tokens):
        raise ValueError(f"offsets must run from 0 to the number of tokens, {len(tokens)}")
    if np.diff(offsets).min() < 2:
        raise ValueError("every document needs BOS at both ends: offsets must rise by 2 or more")
    if tokens.min() < 0 or tokens.max() >= vocab_size:
        raise ValueError(f"tokens must lie in 0 .. {vocab_size - 1}")

    shape = [config.n_layer, config.n_embd, config.n_head, config.block_size, vocab_size]
    header = [*shape, batch_size, num_steps, len(offsets) - 1, len(tokens), len(parameters)]
    parts = [
        MAGIC,
        np.array(header, "<i8").tobytes(),
        np.array([learning_rate, beta1, beta2, eps], "<f8").tobytes(),
        offsets.tobytes(),
        tokens.tobytes(),
        bytes(-tokens.nbytes % 8),
        parameters.tobytes(),
    ]
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(b"".join(parts))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _flat(name: str, values: ArrayLike, dtype: str) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be flat, not of shape {array.shape}")
    if dtype != "<f8" and not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers, not {array.dtype}")
    return np.ascontiguousarray(array, dtype)
