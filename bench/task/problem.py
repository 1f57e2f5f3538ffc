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

import numpy as np

from bench.task.workload import Workload

MAGIC = b"MGPTPROB"


def encoded(
    workload: Workload,
    batch_size: int,
    vocab_size: int,
    tokens: np.ndarray,
    offsets: np.ndarray,
    parameters: np.ndarray,
) -> bytes:
    """The bytes of a problem file; the arrays are those of a Task."""
    w = workload
    header = [w.n_layer, w.n_embd, w.n_head, w.block_size, vocab_size, batch_size]
    header += [w.num_steps, len(offsets) - 1, len(tokens), len(parameters)]
    tokens = tokens.astype("<i4")
    parts = [
        np.array(header, "<i8"),
        np.array([w.learning_rate, w.beta1, w.beta2, w.eps], "<f8"),
        offsets.astype("<i8"),
        tokens,
        np.zeros(-tokens.nbytes % 8, "u1"),
        parameters.astype("<f8"),
    ]
    return MAGIC + b"".join(part.tobytes() for part in parts)
