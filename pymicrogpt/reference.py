"""microgpt in pure Python: scalar autograd, the GPT, Adam and sampling. Standard library only.

The yardstick of this package: every scalar operation makes one `Value`, nothing is vectorised,
cached or specialised, and the other engines are checked and timed against it. The same file is
imported as `pymicrogpt.reference` and runs alone, under CPython and PyPy (3.9 or newer):

    python reference.py --corpus names.txt --n-embd 16 --num-steps 1000
"""

# ruff: noqa: B905  (the PyPy of many systems is Python 3.9, whose zip() has no strict=)
from __future__ import annotations

import argparse
import math
import os
import random


class Value:
    """A scalar that remembers its operands and the derivative by each: what autograd needs."""

    __slots__ = ("data", "grad", "operands", "slopes")

    def __init__(self, data, operands=(), slopes=()):
        self.data = data
        self.grad = 0.0  # d(output)/d(self), left by output.backward()
        self.operands = operands
        self.slopes = slopes  # d(self)/d(operand) for each operand

    def __add__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent):
        return Value(self.data**exponent, (self,), (exponent * self.data ** (exponent - 1),))

    def exp(self):
        result = math.exp(self.data)
        return Value(result, (self,), (result,))

    def log(self):
        return Value(math.log(self.data), (self,), (1.0 / self.data,))

    def relu(self):
        return Value(max(0.0, self.data), (self,), (1.0 if self.data > 0.0 else 0.0,))

    def __neg__(self):
        return self * -1.0

    def __sub__(self, other):
        return self + -other

    def __truediv__(self, other):
        return self * other**-1.0

    def __radd__(self, other):
        return self + other

    def __rmul__(self, other):
        return self * other

    def backward(self, grad=1.0):
        """Adds grad * d(self)/d(v) to v.grad, for every v that self was computed from."""
        order, seen = [], set()  # operands before results; a stack instead of recursion: any depth
        stack = [self]
        while stack:
            v = stack.pop()
            if v is None:  # everything below the value under the mark is in order
                order.append(stack.pop())
            elif v not in seen:
                seen.add(v)
                stack += (v, None)
                stack += v.operands
        self.grad += grad
        for v in reversed(order):
            for operand, slope in zip(v.operands, v.slopes):
                operand.grad += slope * v.grad


def linear(x, w):
    """x (in,), w (out, in) -> (out,)"""
    return [sum(w_i * x_i for w_i, x_i in zip(row, x)) for row in w]


def softmax(logits):
    """logits (n,) -> probabilities (n,); the maximum is subtracted as a constant."""
    largest = max(v.data for v in logits)
    exps = [(v - largest).exp() for v in logits]
    total = sum(exps)
    return [e / total for e in exps]


def rmsnorm(x):
    """x (n,) -> x / sqrt(mean(x^2) + 1e-5), without a gain."""
    mean_square = sum(v * v for v in x) / len(x)
    scale = (mean_square + 1e-5) ** -0.5
    return [v * scale for v in x]


def draw_parameters(rng, *, vocab_size, n_layer=1, n_embd=16, block_size=16):
    """Tensors by name, each a list of rows (out, in) of floats, drawn in this order."""

    def tensor(rows, cols):
        return [[rng.gauss(0, 0.08) for _ in range(cols)] for _ in range(rows)]

    tensors = {
        "wte": tensor(vocab_size, n_embd),
        "wpe": tensor(block_size, n_embd),
        "lm_head": tensor(vocab_size, n_embd),
    }
    for i in range(n_layer):
        for name in ("attn_wq", "attn_wk", "attn_wv", "attn_wo"):
            tensors[f"layer{i}.{name}"] = tensor(n_embd, n_embd)
        tensors[f"layer{i}.mlp_fc1"] = tensor(4 * n_embd, n_embd)
        tensors[f"layer{i}.mlp_fc2"] = tensor(n_embd, 4 * n_embd)
    return tensors


class Reference:
    """The model with its optimizer.

    documents: lists of token ids, each with BOS at both ends
    tensors: as draw_parameters returns them; they also give n_layer, n_embd and vocab_size
    """

    def __init__(
        self,
        documents,
        tensors,
        *,
        n_head=4,
        batch_size=1,
        learning_rate=0.01,
        num_steps=1000,
        beta1=0.85,
        beta2=0.99,
        eps=1e-8,
    ):
        self.documents = documents
        self.tensors = {
            name: [[Value(x) for x in row] for row in rows] for name, rows in tensors.items()
        }
        self.params = [p for rows in self.tensors.values() for row in rows for p in row]
        self.n_layer = sum(name.endswith(".attn_wq") for name in tensors)
        self.n_embd = len(tensors["wte"][0])
        self.n_head = n_head
        self.vocab_size = len(tensors["wte"])
        self.block_size = len(tensors["wpe"])
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.num_steps = num_steps
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.m = [0.0] * len(self.params)  # Adam's moments, one per parameter
        self.v = [0.0] * len(self.params)
        self.steps_done = 0

    def forward(self, token, position, keys, values):
        """Logits (V,) after one more token. keys and values: per layer, the rows (C,) so far."""
        t = self.tensors
        head_dim = self.n_embd // self.n_head
        x = [a + b for a, b in zip(t["wte"][token], t["wpe"][position])]
        x = rmsnorm(x)
        for i in range(self.n_layer):
            a = rmsnorm(x)
            q = linear(a, t[f"layer{i}.attn_wq"])
            keys[i].append(linear(a, t[f"layer{i}.attn_wk"]))
            values[i].append(linear(a, t[f"layer{i}.attn_wv"]))
            attended = []
            for start in range(0, self.n_embd, head_dim):
                head = slice(start, start + head_dim)
                q_h = q[head]
                k_h = [k[head] for k in keys[i]]
                v_h = [v[head] for v in values[i]]
                scores = [sum(q_h[j] * k[j] for j in range(head_dim)) / head_dim**0.5 for k in k_h]
                weights = softmax(scores)
                attended += [
                    sum(weights[s] * v_h[s][j] for s in range(len(v_h))) for j in range(head_dim)
                ]
            x = [a + b for a, b in zip(linear(attended, t[f"layer{i}.attn_wo"]), x)]
            hidden = [v.relu() for v in linear(rmsnorm(x), t[f"layer{i}.mlp_fc1"])]
            x = [a + b for a, b in zip(linear(hidden, t[f"layer{i}.mlp_fc2"]), x)]
        return linear(x, t["lm_head"])

    def empty_cache(self):
        return [[] for _ in range(self.n_layer)], [[] for _ in range(self.n_layer)]

    def loss(self, document):
        """Mean over the positions of -log p(next token), a Value."""
        keys, values = self.empty_cache()
        n = min(self.block_size, len(document) - 1)
        losses = []
        for position in range(n):
            logits = self.forward(document[position], position, keys, values)
            losses.append(-softmax(logits)[document[position + 1]].log())
        return (1.0 / n) * sum(losses)

    def gradient(self):
        """Mean loss of the next batch; its gradients are left in the grad of each parameter."""
        for p in self.params:
            p.grad = 0.0
        total = 0.0
        for i in range(self.batch_size):
            document = self.steps_done * self.batch_size + i
            loss = self.loss(self.documents[document % len(self.documents)])
            loss.backward(1.0 / self.batch_size)
            total += loss.data
        return total / self.batch_size

    def update(self):
        """Adam, with the gradients that gradient() left."""
        step = self.steps_done
        rate = self.learning_rate * (1 - step / self.num_steps)
        beta1, beta2, m, v = self.beta1, self.beta2, self.m, self.v
        for i, p in enumerate(self.params):
            m[i] = beta1 * m[i] + (1 - beta1) * p.grad
            v[i] = beta2 * v[i] + (1 - beta2) * p.grad**2
            m_hat = m[i] / (1 - beta1 ** (step + 1))
            v_hat = v[i] / (1 - beta2 ** (step + 1))
            p.data -= rate * m_hat / (v_hat**0.5 + self.eps)
        self.steps_done = step + 1

    def step(self):
        """One training step; returns the loss before the update."""
        loss = self.gradient()
        self.update()
        return loss

    def sample(self, rng, temperature=0.5):
        """Token ids of one document, without BOS."""
        keys, values = self.empty_cache()
        bos = token = self.vocab_size - 1
        tokens = []
        for position in range(self.block_size):
            logits = self.forward(token, position, keys, values)
            weights = [p.data for p in softmax([v / temperature for v in logits])]
            token = rng.choices(range(self.vocab_size), weights=weights)[0]
            if token == bos:
                break
            tokens.append(token)
        return tokens


def main():
    embedded = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "given_names.txt")
    parser = argparse.ArgumentParser(
        description="Train microgpt in pure Python and print 20 names.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--corpus",
        metavar="PATH",
        default=os.environ.get("PYMICROGPT_CORPUS") or embedded,
        help="text file, one document a line",
    )
    for name, default in {
        "n-layer": 1,
        "n-embd": 16,
        "n-head": 4,
        "block-size": 16,
        "num-steps": 1000,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help="at least 1")
    parser.add_argument("--seed", type=int, default=42, metavar="N", help="of all randomness")
    args = parser.parse_args()
    if min(args.n_layer, args.n_embd, args.n_head, args.block_size, args.num_steps) < 1:
        parser.error("sizes and --num-steps must be at least 1")
    if args.n_embd % args.n_head:
        parser.error("--n-embd must be divisible by --n-head")
    try:
        with open(args.corpus, encoding="utf-8-sig") as file:
            docs = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeError) as error:
        parser.error(f"--corpus {args.corpus}: {error}")
    if not docs:
        parser.error(f"--corpus {args.corpus}: it holds no documents")

    rng = random.Random(args.seed)
    rng.shuffle(docs)
    alphabet = sorted(set("".join(docs)))
    bos = len(alphabet)
    ids = {character: i for i, character in enumerate(alphabet)}
    tensors = draw_parameters(
        rng,
        vocab_size=bos + 1,
        n_layer=args.n_layer,
        n_embd=args.n_embd,
        block_size=args.block_size,
    )
    model = Reference(
        [[bos, *(ids[character] for character in doc), bos] for doc in docs],
        tensors,
        n_head=args.n_head,
        num_steps=args.num_steps,
    )
    print(f"{len(docs)} documents, {bos + 1} tokens, {len(model.params)} parameters")
    for step in range(args.num_steps):
        print(f"step {step + 1:4d} / {args.num_steps:4d}  loss {model.step():.4f}", flush=True)
    for _ in range(20):
        print("".join(alphabet[i] for i in model.sample(rng)))


if __name__ == "__main__":
    main()
