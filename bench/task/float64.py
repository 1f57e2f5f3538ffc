"""The truth for running text: the model in NumPy, in float64, one document at a time.

The float64 tape, which is the truth elsewhere, keeps every operation: for one block of the workload
"shakespeare" that is 2.7e9 nodes, some 70 GB, and of "nanogpt-cpu" a step takes ten seconds. Here
the operations are products of matrices, and both truths take a quarter of a minute. Nothing is
shared with a row: no padding, no batches as rectangles, no joined tensors. tests/bench/test_text.py
holds losses and gradients against the tape's, to the tolerance of float64, at a size for which the
tape is fast; at "nanogpt-cpu" the gradients of the first batch were 8e-16 apart.
"""

from typing import Any

import numpy as np

from bench.task.workload import Workload

Tensors = dict[str, np.ndarray]


def rmsnorm(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of x (n, C) by their root mean square, and its reciprocal (n, 1)."""
    scale = (np.mean(x * x, axis=1, keepdims=True) + 1e-5) ** -0.5
    return x * scale, scale


def rmsnorm_backward(dy: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return scale * (dy - y * np.mean(dy * y, axis=1, keepdims=True))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def backward(w: Tensors, workload: Workload, document: np.ndarray, dw: Tensors) -> float:
    """Loss of a document, tokens with BOS at both ends; adds its gradient to dw."""
    n = min(len(document) - 1, workload.block_size)
    tokens, targets, rows = document[:n], document[1 : n + 1], np.arange(n)
    C, H = workload.n_embd, workload.n_head
    root = (C // H) ** -0.5

    def heads(x: np.ndarray) -> np.ndarray:  # (n, C) -> (H, n, C / H)
        return x.reshape(n, H, C // H).transpose(1, 0, 2)

    def joined(x: np.ndarray) -> np.ndarray:  # the inverse
        return x.transpose(1, 0, 2).reshape(n, C)

    first, first_scale = rmsnorm(w["wte"][tokens] + w["wpe"][:n])
    x, kept = first, []
    for i in range(workload.n_layer):
        of = f"layer{i}."
        a, a_scale = rmsnorm(x)
        q, k, v = (heads(a @ w[of + name].T) for name in ("attn_wq", "attn_wk", "attn_wv"))
        scores = q @ k.transpose(0, 2, 1) * root
        attention = softmax(np.where(rows > rows[:, None], -np.inf, scores))
        mixed = joined(attention @ v)
        x = x + mixed @ w[of + "attn_wo"].T
        m, m_scale = rmsnorm(x)
        hidden = np.maximum(m @ w[of + "mlp_fc1"].T, 0)
        x = x + hidden @ w[of + "mlp_fc2"].T
        kept.append((a, a_scale, q, k, v, attention, mixed, m, m_scale, hidden))
    p = softmax(x @ w["lm_head"].T)
    loss = -np.log(p[rows, targets]).mean()

    p[rows, targets] -= 1
    dlogits = p / n
    dw["lm_head"] += dlogits.T @ x
    dx = dlogits @ w["lm_head"]
    for i in reversed(range(workload.n_layer)):
        of = f"layer{i}."
        a, a_scale, q, k, v, attention, mixed, m, m_scale, hidden = kept[i]
        dw[of + "mlp_fc2"] += dx.T @ hidden
        dhidden = dx @ w[of + "mlp_fc2"] * (hidden > 0)
        dw[of + "mlp_fc1"] += dhidden.T @ m
        dx = dx + rmsnorm_backward(dhidden @ w[of + "mlp_fc1"], m, m_scale)
        dw[of + "attn_wo"] += dx.T @ mixed
        dmixed = heads(dx @ w[of + "attn_wo"])
        dattention = dmixed @ v.transpose(0, 2, 1)
        dscores = dattention - (dattention * attention).sum(axis=-1, keepdims=True)
        dscores *= attention * root
        da = np.zeros_like(a)
        for name, d in (
            ("attn_wq", dscores @ k),
            ("attn_wk", dscores.transpose(0, 2, 1) @ q),
            ("attn_wv", attention.transpose(0, 2, 1) @ dmixed),
        ):
            dw[of + name] += joined(d).T @ a
            da += joined(d) @ w[of + name]
        dx = dx + rmsnorm_backward(da, a, a_scale)
    dx = rmsnorm_backward(dx, first, first_scale)
    np.add.at(dw["wte"], tokens, dx)
    dw["wpe"][:n] += dx
    return float(loss)


def train(
    workload: Workload,
    batch_size: int,
    vocab_size: int,
    tokens: np.ndarray,
    offsets: np.ndarray,
    parameters: np.ndarray,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Losses (steps,) of the first steps, and the gradient (P,) of the first batch."""
    o: dict[str, Any] = workload.optimizer
    flat, gradient = parameters.copy(), np.zeros_like(parameters)
    moment1, moment2 = np.zeros_like(flat), np.zeros_like(flat)
    weights, gradients = (workload.config.tensors(x, vocab_size) for x in (flat, gradient))
    losses, first = [], np.empty(0)
    for step in range(steps):
        gradient[:] = 0
        loss = 0.0
        for i in range(batch_size):
            at = (step * batch_size + i) % (len(offsets) - 1)
            document = tokens[offsets[at] : offsets[at + 1]]
            loss += backward(weights, workload, document, gradients) / batch_size
        gradient /= batch_size
        losses.append(loss)
        if not step:
            first = gradient.copy()
        moment1 += (1 - o["beta1"]) * (gradient - moment1)
        moment2 += (1 - o["beta2"]) * (gradient**2 - moment2)
        mean = moment1 / (1 - o["beta1"] ** (step + 1))
        root = np.sqrt(moment2 / (1 - o["beta2"] ** (step + 1)))
        flat -= o["learning_rate"] * (1 - step / o["num_steps"]) * mean / (root + o["eps"])
    return np.array(losses), first
