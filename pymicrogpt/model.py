"""A model in NumPy, float64: logits and sampling. Training is the engines' work."""

from __future__ import annotations

import os
import random
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._words import counted
from .config import FLOAT_MAX, Config, checked_float, checked_int, checked_seed
from .engines import engines
from .storage.weights import load_model, save_model
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from . import _core

Array = NDArray[np.float64]

NOT_FINITE = "the model holds numbers that are not finite"


class GPT:
    """A model that can be asked, with its own copy of the parameters.

    parameters: arrays (out, in) by name, of the shapes config.parameter_shapes() gives;
        ValueError where a name is missing or unknown, or a shape is another
    rng: where sample() draws from; a new stream, seeded by the system, by default
    training: how the parameters came about, as JSON values by name, for the model card. A trainer
        fills it; more may be added ("held_out_loss", say). It is saved and loaded with the model.
    """

    def __init__(
        self,
        config: Config,
        tokenizer: Tokenizer,
        parameters: Mapping[str, ArrayLike],
        rng: random.Random | None = None,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.rng = rng if rng is not None else random.Random()
        self.training = dict(training or {})
        shapes = config.parameter_shapes(tokenizer.vocab_size)
        if missing := [name for name in shapes if name not in parameters]:
            raise ValueError(f"parameters are missing: {', '.join(missing)}")
        if unknown := [str(name) for name in parameters if name not in shapes]:
            raise ValueError(f"parameters are unknown to this config: {', '.join(unknown)}")
        self.parameters: dict[str, Array] = {}
        for name, shape in shapes.items():
            array = np.array(parameters[name], np.float64, order="C")
            if array.shape != shape:
                raise ValueError(f"parameter {name} must have shape {shape}, not {array.shape}")
            self.parameters[name] = array
        # By engine, with the number of documents that it was made for.
        self._generators: dict[str, tuple[int, _core.Generator]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_generators": {}}  # made again when they are needed

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes model.safetensors (float32), config.json and README.md, a model card, to
        `directory`, which is made where it is missing. Whenever this stops, the directory holds the
        model from before or this one. A README.md that is not a model card stays as it is.

        WeightsError where a parameter is not finite in float32 or config.json is another
        program's; OSError where the files cannot be written; TypeError or ValueError where
        `training` holds what JSON does not, NaN and infinity included.
        """
        save_model(directory, self.config, self.tokenizer, self.parameters, self.training)

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> GPT:
        """The model that save() left in `directory`. WeightsError, which names the file and the
        tensor, for anything that is not exactly such a model; PermissionError where it may not be
        read."""
        config, tokenizer, parameters, training = load_model(directory)
        return cls(config, tokenizer, parameters, training=training)

    def logits(self, tokens: Sequence[int]) -> Array:
        """Logits (n, V) after each of `tokens` (n,), 1 <= n <= block_size. ValueError for another
        number of tokens, or an id outside 0 .. V-1."""
        ids = np.asarray(tokens)
        T, V = self.config.block_size, self.tokenizer.vocab_size
        if ids.ndim != 1 or not 1 <= len(ids) <= T:
            raise ValueError(f"tokens must be a sequence of 1 to {T} ids, not of shape {ids.shape}")
        if ids.dtype.kind not in "iu":
            raise TypeError(f"tokens must be integers, not {ids.dtype}")
        if ids.min() < 0 or ids.max() >= V:
            raise ValueError(f"token ids must lie in 0 .. {V - 1}, not {ids.min()} .. {ids.max()}")
        return self._forward(ids, 0, self._empty_cache())

    def sample(
        self,
        n: int = 20,
        temperature: float = 0.5,
        *,
        prompt: str = "",
        top_k: int | None = None,
        max_new_tokens: int | None = None,
    ) -> list[str]:
        """`n` new documents: token after token from BOS and `prompt`, with which each begins, drawn
        from softmax(logits / temperature), until BOS comes. At temperature 0 that is always the
        most likely token.

        top_k: only the so many most likely tokens are drawn from, and what is as likely as the last
            of them
        max_new_tokens: the most characters after the prompt; by default a document has at most
            block_size characters. Beyond that the model sees BOS and the last block_size / 2 to
            block_size - 1 characters, as if a document began there.

        ValueError for arguments out of range, a character of the prompt that is not in the
        alphabet, a prompt of more than block_size characters without max_new_tokens, and a model of
        NaN or infinity.
        """
        n = checked_int("n", n, minimum=0)
        temperature = checked_float("temperature", temperature, zero=True)
        top_k = self.tokenizer.vocab_size if top_k is None else checked_int("top_k", top_k)
        start = self._encode_prompt(prompt, bounded=max_new_tokens is None)
        most = self.config.block_size
        if max_new_tokens is not None:
            most = len(start) + checked_int("max_new_tokens", max_new_tokens, minimum=0)
        return [self._sample_one(temperature, start, top_k, most) for _ in range(n)]

    def generate(
        self,
        n: int,
        temperature: float = 0.5,
        *,
        prompt: str = "",
        top_k: int | None = None,
        max_new_tokens: int | None = None,
        seed: int = 0,
        engine: str = "auto",
    ) -> list[str]:
        """`n` new documents in a SIMD engine, thousands at a time, in float32.

        The same model as sample(), another stream of randomness: document i depends on the seed and
        on i alone, not on n. prompt, top_k and max_new_tokens are those of sample(). ValueError as
        there, and for an engine that does not generate or cannot run here.

        seed: 0 .. 2**64 - 1
        engine: a name that engines() lists as one that generates, or "auto" for the best that runs
            here
        """
        from . import _core

        n = checked_int("n", n, minimum=0)
        # Below this only the largest logits are left, and beyond float32 there is no reciprocal.
        temperature = max(checked_float("temperature", temperature, zero=True), 1e-30)
        seed = checked_seed(seed)
        start = np.array(self._encode_prompt(prompt, bounded=max_new_tokens is None), np.int32)
        top_k = 0 if top_k is None else min(checked_int("top_k", top_k), self.tokenizer.vocab_size)
        most = self.config.block_size
        if max_new_tokens is not None:
            most = len(start) + checked_int("max_new_tokens", max_new_tokens, 0, 2**24)
        check_generates(engine)
        made_for, generator = self._generators.get(engine, (-1, None))
        if generator is None or made_for < n:
            generator = _core.Generator(
                engine,
                n_layer=self.config.n_layer,
                n_embd=self.config.n_embd,
                n_head=self.config.n_head,
                block_size=self.config.block_size,
                vocab_size=self.tokenizer.vocab_size,
                documents=n,
            )
            self._generators[engine] = n, generator
        parameters = np.concatenate([a.ravel() for a in self.parameters.values()])
        if not np.abs(parameters).max() <= FLOAT_MAX:
            raise ValueError(NOT_FINITE + " in float32")
        generator.load(parameters)
        tokens = generator.generate(0, n, temperature, seed, top_k, start, most)
        return self.tokenizer.decode_all(tokens)

    def _encode_prompt(self, prompt: str, bounded: bool = True) -> list[int]:
        ids = self.tokenizer.encode(prompt)[1:-1]
        if bounded and len(ids) > self.config.block_size:
            raise ValueError(
                f"prompt has {counted(len(ids), 'character')}, and the model's context is "
                f"{self.config.block_size}; give max_new_tokens for longer texts"
            )
        return ids

    def logprobs(self, document: str) -> list[float]:
        """The natural logarithm of the probability of each character after those before it, and
        behind them that of the end, unless block_size characters leave no room for it. Beyond
        block_size the model sees what it sees in sample(). ValueError for a character that is not
        in the alphabet, and a model of NaN or infinity."""
        tokens = self.tokenizer.encode(document)[1:]
        if len(document) >= self.config.block_size:
            tokens.pop()
        logits_after = self._next_logits()
        result: list[float] = []
        for i, token in enumerate(tokens):
            logits = logits_after.send(tokens[i - 1]) if i else next(logits_after)
            logits = logits - logits.max()
            result.append(float(logits[token] - np.log(np.exp(logits).sum())))
        return result

    def _sample_one(self, temperature: float, start: list[int], top_k: int, most: int) -> str:
        bos = self.tokenizer.bos
        tokens = list(start)
        logits_after = self._next_logits(start)
        token: int | None = None
        while len(tokens) < most:
            logits = next(logits_after) if token is None else logits_after.send(token)
            if temperature == 0:
                token = int(np.argmax(logits))
            else:
                if top_k < len(logits):
                    logits[logits < np.partition(logits, -top_k)[-top_k]] = -np.inf
                # The maximum goes before the division, so that no temperature is too small.
                with np.errstate(over="ignore"):
                    weights = np.exp((logits - logits.max()) / temperature)
                weights /= weights.sum()
                token = self.rng.choices(range(bos + 1), weights=weights.tolist())[0]
            if token == bos:
                break
            tokens.append(token)
        return self.tokenizer.decode(tokens)

    def _next_logits(self, start: Sequence[int] = ()) -> Generator[Array, int, None]:
        """Logits (V,) after BOS and `start`, then after each token that is sent."""
        T, bos = self.config.block_size, self.tokenizer.bos
        cache = self._empty_cache()
        tokens = list(start)
        position = 0  # of the first token that the model has not seen
        unseen = [bos, *tokens[max(0, len(tokens) - (T - 1)) :]]
        while True:
            if position == T:  # the context is full: begin anew with its later half
                position = 0
                unseen = [bos, *tokens[len(tokens) - T // 2 :]]
            with np.errstate(invalid="ignore", over="ignore"):
                logits = self._forward(np.array(unseen), position, cache)[-1]
            if not np.isfinite(logits).all():
                raise ValueError(NOT_FINITE)
            position += len(unseen)
            token = yield logits
            tokens.append(token)
            unseen = [token]

    def _empty_cache(self) -> Array:  # keys and values of each layer: (L, 2, T, C)
        c = self.config
        return np.empty((c.n_layer, 2, c.block_size, c.n_embd))

    def _forward(self, tokens: NDArray[np.integer], start: int, cache: Array) -> Array:
        """Logits (n, V) of tokens (n,) at positions start .. start + n - 1, given the `start`
        rows of `cache` before them; their own rows are written to it."""
        p = self.parameters
        H, D = self.config.n_head, self.config.head_dim
        n = len(tokens)
        end = start + n
        in_future = np.arange(end) > np.arange(start, end)[:, None]  # (n, end)
        x = _rmsnorm(p["wte"][tokens] + p["wpe"][start:end])  # (n, C)
        for i in range(self.config.n_layer):
            layer = f"layer{i}."
            a = _rmsnorm(x)
            q = a @ p[layer + "attn_wq"].T
            cache[i, 0, start:end] = a @ p[layer + "attn_wk"].T
            cache[i, 1, start:end] = a @ p[layer + "attn_wv"].T
            k, v = cache[i, :, :end].reshape(2, end, H, D)
            scores = np.einsum("nhd,shd->hns", q.reshape(n, H, D), k) / np.sqrt(D)
            scores[:, in_future] = -np.inf
            weights = np.exp(scores - scores.max(axis=2, keepdims=True))
            weights /= weights.sum(axis=2, keepdims=True)
            attended = np.einsum("hns,shd->nhd", weights, v).reshape(n, H * D)
            x = x + attended @ p[layer + "attn_wo"].T
            hidden = np.maximum(_rmsnorm(x) @ p[layer + "mlp_fc1"].T, 0.0)  # (n, 4C)
            x = x + hidden @ p[layer + "mlp_fc2"].T
        return x @ p["lm_head"].T


def check_generates(engine: str) -> None:
    """ValueError for an engine that is unknown, does not generate or cannot run here."""
    if not isinstance(engine, str):
        raise TypeError(f"engine must be a name, not {engine!r}")
    if engine == "auto":
        return
    by_name = {info.name: info for info in engines()}
    info = by_name.get(engine)
    if info is not None and info.generates and info.available:
        return
    if info is None:
        why = "is unknown"
    elif not info.generates:
        why = "does not generate"
    else:
        why = f"cannot run here: {info.reason}"
    able = [i.name for i in by_name.values() if i.generates and i.available]
    here = f"auto and {', '.join(able)} do" if able else "no engine of this machine does"
    raise ValueError(f"engine {engine!r} {why}; {here}")


def _rmsnorm(x: Array) -> Array:  # (n, C)
    return x * (np.mean(x * x, axis=1, keepdims=True) + 1e-5) ** -0.5
