"""The model in loops that Numba compiles: forward, backward and Adam by hand, float32, one thread.

Rows are the positions of a batch, document after document; R is their number. All of a step is
compiled, and so is the loop over the steps.
"""

from __future__ import annotations

import time
from math import exp, log, sqrt

import numba
import numpy as np

from bench.task.task import Task
from bench.variants.padded import InProcess

compiled = numba.njit(error_model="numpy")
EPSILON, ZERO, ONE = np.float32(1e-5), np.float32(0), np.float32(1)


@compiled
def add_product(x, w, y):
    """y (R, O) += x (R, I) w (I, O)."""
    R, I, O = x.shape[0], x.shape[1], w.shape[1]  # noqa: E741
    for r in range(R):
        for i in range(0, I - I % 4, 4):
            a, b, c, d = x[r, i], x[r, i + 1], x[r, i + 2], x[r, i + 3]
            for o in range(O):
                y[r, o] += a * w[i, o] + b * w[i + 1, o] + c * w[i + 2, o] + d * w[i + 3, o]
        for i in range(I - I % 4, I):
            a = x[r, i]
            for o in range(O):
                y[r, o] += a * w[i, o]


@compiled
def add_outer(dy, x, dw):
    """dw (O, I) += the transpose of dy (R, O) times x (R, I)."""
    R, O, I = x.shape[0], dy.shape[1], x.shape[1]  # noqa: E741
    for o in range(O):
        for r in range(0, R - R % 4, 4):
            a, b, c, d = dy[r, o], dy[r + 1, o], dy[r + 2, o], dy[r + 3, o]
            for i in range(I):
                dw[o, i] += a * x[r, i] + b * x[r + 1, i] + c * x[r + 2, i] + d * x[r + 3, i]
        for r in range(R - R % 4, R):
            a = dy[r, o]
            for i in range(I):
                dw[o, i] += a * x[r, i]


@compiled
def rmsnorm(x, y, scale):
    """y = x * scale, the reciprocal root mean square of each row: x, y (R, C), scale (R,)."""
    R, C = x.shape
    for r in range(R):
        squares = ZERO
        for c in range(C):
            squares += x[r, c] * x[r, c]
        scale[r] = ONE / sqrt(squares / np.float32(C) + EPSILON)
        for c in range(C):
            y[r, c] = x[r, c] * scale[r]


@compiled
def add_rmsnorm_backward(dy, y, scale, dx):
    R, C = y.shape
    for r in range(R):
        mean = ZERO
        for c in range(C):
            mean += dy[r, c] * y[r, c]
        mean /= np.float32(C)
        for c in range(C):
            dx[r, c] += scale[r] * (dy[r, c] - y[r, c] * mean)


@compiled
def softmax(x, n):
    """Of the first n, in place; the largest of them and the sum of exp(x - the largest)."""
    most = x[0]
    for i in range(1, n):
        most = max(most, x[i])
    total = ZERO
    for i in range(n):
        x[i] = exp(x[i] - most)
        total += x[i]
    for i in range(n):
        x[i] /= total
    return most, total


@compiled
def attention(qkv, first, end, H, weights, mixed):
    """Of the document in rows first .. end - 1: weights (R, H, T) and mixed (R, C) from qkv."""
    C = mixed.shape[1]
    D = C // H
    scale = ONE / sqrt(np.float32(D))
    for r in range(first, end):
        n = r - first + 1
        for h in range(H):
            w = weights[r, h]
            for t in range(n):
                score = ZERO
                for c in range(h * D, h * D + D):
                    score += qkv[r, c] * qkv[first + t, C + c]
                w[t] = score * scale
            softmax(w, n)
            for t in range(n):
                for c in range(h * D, h * D + D):
                    mixed[r, c] += w[t] * qkv[first + t, 2 * C + c]


@compiled
def attention_backward(dmixed, qkv, first, end, H, weights, dqkv, dscores):
    """Adds to dqkv (R, 3 C); dscores (T,) is scratch."""
    C = dmixed.shape[1]
    D = C // H
    scale = ONE / sqrt(np.float32(D))
    for r in range(first, end):
        n = r - first + 1
        for h in range(H):
            w = weights[r, h]
            mean = ZERO
            for t in range(n):
                d = ZERO
                for c in range(h * D, h * D + D):
                    d += dmixed[r, c] * qkv[first + t, 2 * C + c]
                    dqkv[first + t, 2 * C + c] += w[t] * dmixed[r, c]
                dscores[t] = d
                mean += d * w[t]
            for t in range(n):
                d = w[t] * (dscores[t] - mean) * scale
                for c in range(h * D, h * D + D):
                    dqkv[r, c] += d * qkv[first + t, C + c]
                    dqkv[first + t, C + c] += d * qkv[r, c]


@compiled
def backward(flat, transposed, gradient, shape, tokens, offsets, step):
    """Loss of a step's batch; its gradient is left in `gradient`. All three are flat (P,)."""
    L, C, H, block_size, V, B = shape
    rows = 0
    starts = np.empty(B + 1, np.int64)  # of the documents, in rows
    for b in range(B):
        at = (step * B + b) % (len(offsets) - 1)
        starts[b] = rows
        rows += min(offsets[at + 1] - offsets[at] - 1, block_size)
    starts[B] = rows
    inputs, targets = np.empty(rows, np.int64), np.empty(rows, np.int64)
    for b in range(B):
        at = offsets[(step * B + b) % (len(offsets) - 1)]
        for i in range(starts[b + 1] - starts[b]):
            inputs[starts[b] + i] = tokens[at + i]
            targets[starts[b] + i] = tokens[at + i + 1]

    E, CC = V * C, C * C
    head = E + block_size * C  # where lm_head begins
    layers = head + E  # and the layers
    embedded = np.empty((rows, C), np.float32)
    for b in range(B):
        for r in range(starts[b], starts[b + 1]):
            for c in range(C):
                position = E + (r - starts[b]) * C
                embedded[r, c] = flat[inputs[r] * C + c] + flat[position + c]
    x, first_scale = np.empty((rows, C), np.float32), np.empty(rows, np.float32)
    rmsnorm(embedded, x, first_scale)
    first = x.copy()
    a, m = np.empty((L, rows, C), np.float32), np.empty((L, rows, C), np.float32)
    scale_a, scale_m = np.empty((L, rows), np.float32), np.empty((L, rows), np.float32)
    qkv = np.zeros((L, rows, 3 * C), np.float32)
    weights = np.empty((L, rows, H, block_size), np.float32)
    mixed = np.zeros((L, rows, C), np.float32)
    hidden = np.zeros((L, rows, 4 * C), np.float32)
    for i in range(L):
        at = layers + 12 * i * CC
        rmsnorm(x, a[i], scale_a[i])
        add_product(a[i], transposed[at : at + 3 * CC].reshape(C, 3 * C), qkv[i])
        for b in range(B):
            attention(qkv[i], starts[b], starts[b + 1], H, weights[i], mixed[i])
        add_product(mixed[i], transposed[at + 3 * CC : at + 4 * CC].reshape(C, C), x)
        rmsnorm(x, m[i], scale_m[i])
        h = hidden[i]
        add_product(m[i], transposed[at + 4 * CC : at + 8 * CC].reshape(C, 4 * C), h)
        for r in range(rows):
            for c in range(4 * C):
                h[r, c] = max(h[r, c], ZERO)
        add_product(h, transposed[at + 8 * CC : at + 12 * CC].reshape(4 * C, C), x)
    p = np.zeros((rows, V), np.float32)
    add_product(x, transposed[head:layers].reshape(C, V), p)

    loss = 0.0
    for b in range(B):
        share = ONE / np.float32(B * (starts[b + 1] - starts[b]))
        for r in range(starts[b], starts[b + 1]):
            logit = p[r, targets[r]]
            most, total = softmax(p[r], V)
            loss += (log(total) + most - logit) * share  # of a probability that is 0 in float32 too
            p[r, targets[r]] -= ONE
            for c in range(V):
                p[r, c] *= share

    gradient[:] = 0
    add_outer(p, x, gradient[head:layers].reshape(V, C))
    dx = np.zeros((rows, C), np.float32)
    add_product(p, flat[head:layers].reshape(V, C), dx)
    dscores = np.empty(block_size, np.float32)
    for i in range(L - 1, -1, -1):
        at = layers + 12 * i * CC
        wqkv, wo = slice(at, at + 3 * CC), slice(at + 3 * CC, at + 4 * CC)
        fc1, fc2 = slice(at + 4 * CC, at + 8 * CC), slice(at + 8 * CC, at + 12 * CC)
        add_outer(dx, hidden[i], gradient[fc2].reshape(C, 4 * C))
        dhidden = np.zeros((rows, 4 * C), np.float32)
        add_product(dx, flat[fc2].reshape(C, 4 * C), dhidden)
        for r in range(rows):
            for c in range(4 * C):
                dhidden[r, c] = dhidden[r, c] if hidden[i, r, c] > 0 else ZERO
        add_outer(dhidden, m[i], gradient[fc1].reshape(4 * C, C))
        dm = np.zeros((rows, C), np.float32)
        add_product(dhidden, flat[fc1].reshape(4 * C, C), dm)
        add_rmsnorm_backward(dm, m[i], scale_m[i], dx)
        add_outer(dx, mixed[i], gradient[wo].reshape(C, C))
        dmixed = np.zeros((rows, C), np.float32)
        add_product(dx, flat[wo].reshape(C, C), dmixed)
        dqkv = np.zeros((rows, 3 * C), np.float32)
        for b in range(B):
            start, end = starts[b], starts[b + 1]
            attention_backward(dmixed, qkv[i], start, end, H, weights[i], dqkv, dscores)
        add_outer(dqkv, a[i], gradient[wqkv].reshape(3 * C, C))
        da = np.zeros((rows, C), np.float32)
        add_product(dqkv, flat[wqkv].reshape(3 * C, C), da)
        add_rmsnorm_backward(da, a[i], scale_a[i], dx)
    dfirst = np.zeros((rows, C), np.float32)
    add_rmsnorm_backward(dx, first, first_scale, dfirst)
    for b in range(B):
        for r in range(starts[b], starts[b + 1]):
            for c in range(C):
                gradient[inputs[r] * C + c] += dfirst[r, c]
                gradient[E + (r - starts[b]) * C + c] += dfirst[r, c]
    return loss


@compiled
def transpose(flat, transposed, shape):
    """Each matrix (out, in) of lm_head and the layers, as (in, out) in its place."""
    L, C, _, block_size, V, _ = shape
    at = (V + block_size) * C
    for k in range(1 + 4 * L):  # q, k and v are one
        of_layer = (k - 1) % 4
        rows, cols = (V, C) if k == 0 else (3 * C, C) if of_layer == 0 else (C, C)
        if k and of_layer > 1:
            rows, cols = (4 * C, C) if of_layer == 2 else (C, 4 * C)
        for i in range(rows):
            for j in range(cols):
                transposed[at + j * rows + i] = flat[at + i * cols + j]
        at += rows * cols


@compiled
def train(flat, moments, shape, optimizer, tokens, offsets, first_step, losses):
    """len(losses) steps from `first_step` on; moments (2, P) are Adam's."""
    learning_rate, num_steps, beta1, beta2, eps = optimizer
    transposed, gradient = np.empty_like(flat), np.empty_like(flat)
    m, v = moments
    keep1, keep2, eps = np.float32(beta1), np.float32(beta2), np.float32(eps)
    for i in range(len(losses)):
        step = first_step + i
        transpose(flat, transposed, shape)
        losses[i] = backward(flat, transposed, gradient, shape, tokens, offsets, step)
        rate = learning_rate * (1 - step / num_steps) / (1 - beta1 ** (step + 1))
        rate, unbias = np.float32(rate), np.float32(1 / (1 - beta2 ** (step + 1)))
        for k in range(len(flat)):
            g = gradient[k]
            m[k] = keep1 * m[k] + (ONE - keep1) * g
            v[k] = keep2 * v[k] + (ONE - keep2) * g * g
            flat[k] -= rate * m[k] / (sqrt(v[k] * unbias) + eps)


class NumbaSession(InProcess):
    def __init__(self, task: Task):
        w = task.workload
        self.shape = (w.n_layer, w.n_embd, w.n_head, w.block_size, task.vocab_size, task.batch_size)
        self.optimizer = (w.learning_rate, float(w.num_steps), w.beta1, w.beta2, w.eps)
        super().__init__(task, f"numba {numba.__version__}")
        start = time.perf_counter()
        self.run(0)
        self.verify()
        self.info["compilation"] = f"{time.perf_counter() - start:.1f} s"

    def reset(self, parameters: np.ndarray) -> None:
        self.flat = parameters
        self.moments = np.zeros((2, len(self.flat)), np.float32)

    def parameters(self) -> np.ndarray:
        return self.flat.astype(float)

    def verify(self) -> tuple[float, np.ndarray]:
        transposed, gradient = np.empty_like(self.flat), np.empty_like(self.flat)
        transpose(self.flat, transposed, self.shape)
        documents = self.task.tokens, self.task.offsets
        loss = backward(self.flat, transposed, gradient, self.shape, *documents, self.done)
        return loss, gradient.astype(float)

    def train(self, steps: int) -> list[float]:
        losses = np.empty(steps)
        documents = self.task.tokens, self.task.offsets
        train(self.flat, self.moments, self.shape, self.optimizer, *documents, self.done, losses)
        return losses.tolist()
