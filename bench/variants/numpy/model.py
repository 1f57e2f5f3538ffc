"""The model in NumPy: forward, backward and Adam by hand, float32."""

from __future__ import annotations

from functools import cache

import numpy as np

from bench.task.task import Task
from bench.variants.padded import PaddedSession, rates, tensor_places

EPSILON = np.float32(1e-5)


def rms_scale(x: np.ndarray) -> np.ndarray:
    """(R, C) -> (R, 1), the reciprocal root mean square of each row."""
    squares = np.einsum("rc,rc->r", x, x)[:, None]
    squares *= np.float32(1 / x.shape[1])
    squares += EPSILON
    np.sqrt(squares, out=squares)
    return np.reciprocal(squares, out=squares)


def rms_backward(dy: np.ndarray, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Gradient of x where y = x * scale, in place of dy."""
    mean = np.einsum("rc,rc->r", dy, y)[:, None]
    mean *= np.float32(1 / y.shape[1])
    dy -= y * mean
    dy *= scale
    return dy


@cache
def causal_mask(n: int) -> np.ndarray:
    """(n, n): -inf where a key comes after its query, else 0."""
    return np.triu(np.full((n, n), -np.inf, np.float32), 1)


class NumpySession(PaddedSession):
    def __init__(self, task: Task):
        from threadpoolctl import threadpool_limits

        threadpool_limits(1)
        self.places = tensor_places(task)
        self.one_hot = np.eye(task.vocab_size, dtype=np.float32)
        self.one_hot_position = np.eye(task.workload.block_size, dtype=np.float32)
        super().__init__(task, f"numpy {np.__version__}")

    def reset(self, parameters: np.ndarray) -> None:
        self.flat = parameters
        self.gradient = np.zeros_like(parameters)
        self.scratch = np.empty_like(parameters)
        self.moment1 = np.zeros_like(parameters)  # over 1 - beta1
        self.moment2 = np.zeros_like(parameters)  # over 1 - beta2
        self.weights = self.views(self.flat)
        self.gradients = self.views(self.gradient)

    def views(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        return {name: flat[at].reshape(shape) for name, (at, shape) in self.places.items()}

    def parameters(self) -> np.ndarray:
        return self.flat.astype(float)

    def verify(self) -> tuple[float, np.ndarray]:
        loss = self.backward(self.done)
        return float(loss), self.gradient.astype(float)

    def step(self, step: int) -> float:
        loss = self.backward(step)
        self.adam(step)
        return float(loss)

    def backward(self, step: int) -> np.float32:
        """Loss of a step's batch; its gradient is left in self.gradient."""
        workload, B, w, dw = self.task.workload, self.task.batch_size, self.weights, self.gradients
        first = self.documents.first(step)
        T, C, H = int(self.documents.longest[first]), workload.n_embd, workload.n_head
        D, R = C // H, B * T  # R: rows, padding included
        tokens = self.documents.tokens[first : first + B]
        weights = self.documents.weights[first : first + B, :T].ravel()
        held = np.flatnonzero(weights)  # rows of the rectangle that are no padding
        share = weights[held, None]
        inputs, targets = tokens[:, :T].ravel()[held], tokens[:, 1 : T + 1].ravel()[held]
        rows, position = np.arange(len(held)), held % T

        embedded = w["wte"][inputs] + w["wpe"][position]
        first_scale = rms_scale(embedded)
        x = first = embedded * first_scale
        kept = []
        for i in range(workload.n_layer):
            scale_a = rms_scale(x)
            a = x * scale_a
            qkv = a @ w[f"layer{i}.attn_wqkv"].T
            qkv[:, :C] *= np.float32(D**-0.5)
            rectangle = np.zeros((R, 3 * C), np.float32)
            rectangle[held] = qkv
            q, k, v = rectangle.reshape(B, T, 3, H, D).transpose(2, 0, 3, 1, 4)
            attention = q @ k.swapaxes(2, 3)  # (B, H, T, T)
            attention += causal_mask(T)
            attention -= attention.max(-1, keepdims=True)
            np.exp(attention, out=attention)
            attention /= attention.sum(-1, keepdims=True)
            mixed = np.empty((B, T, H, D), np.float32)
            np.matmul(attention, v, out=mixed.swapaxes(1, 2))
            mixed = mixed.reshape(R, C)[held]
            x = mixed @ w[f"layer{i}.attn_wo"].T + x
            scale_m = rms_scale(x)
            m = x * scale_m
            hidden = m @ w[f"layer{i}.mlp_fc1"].T
            np.maximum(hidden, 0, out=hidden)
            x = hidden @ w[f"layer{i}.mlp_fc2"].T + x
            kept.append((scale_a, a, q, k, v, attention, mixed, scale_m, m, hidden))

        p = x @ w["lm_head"].T
        p -= p.max(-1, keepdims=True)
        correct = p[rows, targets]
        np.exp(p, out=p)
        total = p.sum(-1, keepdims=True)
        loss = share[:, 0] @ (np.log(total[:, 0]) - correct)

        p *= share / total
        p[rows, targets] -= share[:, 0]
        np.matmul(p.T, x, out=dw["lm_head"])
        dx = p @ w["lm_head"]
        for i in reversed(range(workload.n_layer)):
            scale_a, a, q, k, v, attention, mixed, scale_m, m, hidden = kept[i]
            np.matmul(dx.T, hidden, out=dw[f"layer{i}.mlp_fc2"])
            dhidden = dx @ w[f"layer{i}.mlp_fc2"]
            dhidden *= hidden > 0
            np.matmul(dhidden.T, m, out=dw[f"layer{i}.mlp_fc1"])
            dx += rms_backward(dhidden @ w[f"layer{i}.mlp_fc1"], m, scale_m)
            np.matmul(dx.T, mixed, out=dw[f"layer{i}.attn_wo"])
            rectangle = np.zeros((R, C), np.float32)
            rectangle[held] = dx @ w[f"layer{i}.attn_wo"]
            dmixed = rectangle.reshape(B, T, H, D).swapaxes(1, 2)
            dqkv = np.empty((B, T, 3, H, D), np.float32)
            dq, dk, dv = dqkv.transpose(2, 0, 3, 1, 4)
            np.matmul(attention.swapaxes(2, 3), dmixed, out=dv)
            dscores = dmixed @ v.swapaxes(2, 3)
            dscores -= np.einsum("bhqk,bhqk->bhq", dscores, attention)[..., None]
            dscores *= attention
            np.matmul(dscores, k, out=dq)
            dq *= np.float32(D**-0.5)
            np.matmul(dscores.swapaxes(2, 3), q, out=dk)
            dqkv = dqkv.reshape(R, 3 * C)[held]
            np.matmul(dqkv.T, a, out=dw[f"layer{i}.attn_wqkv"])
            dx += rms_backward(dqkv @ w[f"layer{i}.attn_wqkv"], a, scale_a)
        dx = rms_backward(dx, first, first_scale)
        np.matmul(self.one_hot[inputs].T, dx, out=dw["wte"])
        np.matmul(self.one_hot_position[position].T, dx, out=dw["wpe"])
        return loss

    def adam(self, step: int) -> None:
        m, v, update = self.moment1, self.moment2, self.scratch
        rate, eps = rates(self.task, step)
        m *= np.float32(self.task.workload.beta1)
        m += self.gradient
        v *= np.float32(self.task.workload.beta2)
        v += np.square(self.gradient, out=update)
        np.sqrt(v, out=update)
        update += np.float32(eps)
        np.divide(m, update, out=update)
        update *= np.float32(rate)
        self.flat -= update
