"""Training: corpus -> tokenizer -> parameters -> an engine that steps."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._init import init_parameters, shuffled
from ._reference_engine import Encoded, ReferenceEngine
from ._words import counted
from .config import Config, checked_float, checked_int, checked_seed
from .corpus import Corpus
from .engine_info import EngineInfo
from .engines import engines
from .model import GPT
from .storage.checkpoint import CHECKPOINT_FILE, SLOTS, Checkpoint, digest_of
from .storage.weights import to_json
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from . import _core

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Activity:
    """How much of the MLP took part in a step, as shares of 0 to 1. Each is the mean over the
    layers of one batch, whose rows are its distinct prefixes.

    values: hidden values that the ReLU did not set to zero
    units: hidden units with such a value in at least one row
    resting: hidden units that are left out altogether: without a gradient, and what is left of
        Adam's moments changes no bit of their weights. 0 with skip_zeros=False and up to a width
        of 16, where nothing is left out
    """

    values: float
    units: float
    resting: float


class DivergedError(ValueError):
    """A loss is no number any more."""


def check_finite(losses: Array, first_step: int, learning_rate: float) -> None:
    """DivergedError for a loss that is no number; the first is of `first_step`."""
    finite = np.isfinite(losses)
    if not finite.all():
        i = int(np.argmin(finite))
        raise DivergedError(
            f"the training diverged: the loss is {losses[i]} at step {first_step + i}; a "
            f"learning_rate smaller than {learning_rate:g} may help"
        )


class Trainer:
    """Trains one model with Adam, in one engine.

    corpus: what to train on; its characters and BOS are the alphabet
    config: the shape of the model; the original's by default
    engine: a name that engines() lists as available, or "auto" for the best of this machine
        (PYMICROGPT_ISA forces what "auto" chooses)
    batch_size: documents per step; their mean loss is minimised, and 1 is the original
    learning_rate: of the first step; it falls linearly to 0 over num_steps
    num_steps: the steps of the whole training
    seed: of the one stream of randomness that shuffles the documents, draws the parameters and
        then samples; 0 .. 2**64 - 1
    threads: for the SIMD engines, which can share a step between several; "auto" tries one and all
        on the first steps and keeps what is faster. The result is the same to the bit.
    beta1: how much of Adam's first moment stays at a step, 0 <= beta1 < 1
    beta2: the same of the second moment
    eps: what Adam adds to the root of the second moment
    prefix_sharing: compute what documents of a batch with a common beginning have in common only
        once. The same up to rounding: sums in float32 have another order. Engines "reference",
        "tape" and "tape32" never share, nor do the SIMD engines where a document of the batch has
        64 positions or more (and heads 12 features or more).
    skip_zeros: in the MLP, multiply only by hidden values that are not zero; False for comparison.
        The same bits either way. Only the SIMD engines skip: in models wider than 16, and
        in others where a batch is a document or two.

    The attribute `notes` holds the caller's own JSON values by name: save() keeps them, and
    resume() gives them back.

    TypeError and ValueError say which argument is wrong, and what is allowed.

    Trainers in several threads of Python run at once, without its lock, and do not disturb each
    other. One trainer belongs to one thread at a time: in a compiled engine, RuntimeError for a
    call during another. After a fork, parent and child each have a trainer of their own.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: Config | None = None,
        *,
        engine: str = "auto",
        batch_size: int = 16,
        learning_rate: float = 0.01,
        num_steps: int = 1000,
        seed: int = 42,
        threads: int | str = 1,
        beta1: float = 0.85,
        beta2: float = 0.99,
        eps: float = 1e-8,
        prefix_sharing: bool = True,
        skip_zeros: bool = True,
    ) -> None:
        if not isinstance(corpus, Corpus):
            raise TypeError(
                f"corpus must be a Corpus, not {type(corpus).__name__}; see Corpus.load, "
                "Corpus.from_file and Corpus.from_documents"
            )
        if config is not None and not isinstance(config, Config):
            raise TypeError(f"config must be a Config, not {type(config).__name__}")
        if not isinstance(prefix_sharing, (bool, np.bool_)):
            raise TypeError(f"prefix_sharing must be True or False, not {prefix_sharing!r}")
        if not isinstance(skip_zeros, (bool, np.bool_)):
            raise TypeError(f"skip_zeros must be True or False, not {skip_zeros!r}")
        self.corpus = corpus
        self.config = config = config or Config()
        if corpus.block_size not in (None, config.block_size):
            raise ValueError(
                f"the corpus is cut into blocks of {corpus.block_size} characters and the model's "
                f"block_size is {config.block_size}; they must be equal"
            )
        self.batch_size = checked_int("batch_size", batch_size)
        self.learning_rate = checked_float("learning_rate", learning_rate, engine=True)
        self.num_steps = checked_int("num_steps", num_steps)
        self.seed = checked_seed(seed)
        # To the compiled engines 0 is "auto".
        number_of_threads = 0 if threads == "auto" else checked_int("threads", threads)
        self._wanted_threads: int | str = number_of_threads or "auto"
        self.beta1 = checked_float("beta1", beta1, below=1.0, zero=True, engine=True)
        self.beta2 = checked_float("beta2", beta2, below=1.0, zero=True, engine=True)
        self.eps = checked_float("eps", eps, engine=True)
        self.prefix_sharing = bool(prefix_sharing)
        self.skip_zeros = bool(skip_zeros)
        self.notes: dict[str, Any] = {}
        self._evaluated: tuple[Corpus, NDArray[np.int32], NDArray[np.int64]] | None = None
        self._activity: Activity | None = None
        self._activity_step = 0  # which it is of
        check_engine(engine)

        self._rng = random.Random(self.seed)
        self.documents = shuffled(corpus.documents, self._rng)  # in the order of training
        self.tokenizer = Tokenizer(corpus.alphabet)
        settings: dict[str, Any] = {
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "num_steps": self.num_steps,
            "beta1": self.beta1,
            "beta2": self.beta2,
            "eps": self.eps,
        }
        self._engine: ReferenceEngine | _core.Trainer
        if engine == "reference":
            if number_of_threads > 1:
                raise ValueError("engine 'reference' runs on one thread; threads must be 1")
            parameters = init_parameters(config, self.tokenizer.vocab_size, self._rng)
            self._engine = ReferenceEngine(
                Encoded(self.tokenizer, self.documents),
                {name: array.tolist() for name, array in parameters.items()},
                n_head=config.n_head,
                **settings,
            )
        else:
            from . import _core

            tokens, offsets = self.tokenizer.encode_all(self.documents)
            compiled = _core.Trainer(
                engine,
                tokens,
                offsets,
                n_layer=config.n_layer,
                n_embd=config.n_embd,
                n_head=config.n_head,
                block_size=config.block_size,
                vocab_size=self.tokenizer.vocab_size,
                threads=number_of_threads,
                prefix_sharing=self.prefix_sharing,
                skip_zeros=self.skip_zeros,
                **settings,
            )
            # Only now: a model that does not fit in memory has been refused.
            parameters = init_parameters(config, self.tokenizer.vocab_size, self._rng)
            flat = next(iter(parameters.values())).base
            assert flat is not None
            compiled.set("parameter", flat)
            self._engine = compiled

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Writes checkpoint.safetensors to `directory`, which is made where it is missing:
        parameters, both moments, step, position in the documents, random state and settings.
        Whenever this stops, the old checkpoint is there or this one.

        WeightsError where training has diverged to NaN or infinity; TypeError where `notes` is no
        dict of JSON values, ValueError where it holds NaN, infinity or is nested too deeply: the
        checkpoint from before stays. OSError where the file cannot be written.
        """
        if not isinstance(self.notes, dict):
            raise TypeError(f"notes must be a dict of JSON values, not {self.notes!r}")
        to_json(self.notes, "notes")
        self._keep_activity()
        version, numbers, gauss_next = self._rng.getstate()
        Checkpoint(
            config=self.config,
            tokenizer=self.tokenizer,
            engine=self.engine,
            settings={
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "num_steps": self.num_steps,
                "seed": self.seed,
                "threads": self._wanted_threads,
                "beta1": self.beta1,
                "beta2": self.beta2,
                "eps": self.eps,
                "prefix_sharing": self.prefix_sharing,
                "skip_zeros": self.skip_zeros,
            },
            step=self.step,
            next_document=self.step * self.batch_size % len(self.documents),
            num_documents=len(self.documents),
            documents_sha256=self.documents_sha256,
            source=self.corpus.source,
            random_state=[version, list(numbers), gauss_next],
            notes=self.notes,
            slots={slot: self._engine.get(slot) for slot in SLOTS},
        ).save(directory, self._engine.dtype)

    @classmethod
    def resume(
        cls,
        directory: str | os.PathLike[str],
        corpus: Corpus,
        *,
        engine: str | None = None,
        threads: int | str | None = None,
    ) -> Trainer:
        """The trainer that save() left in `directory`, on the same corpus. It goes on, in training
        and in sampling, as the first one would have: to the bit in the same engine of the same
        machine, on any number of threads.

        engine: another one than before. The same maths, no longer the same bits: parameters and
            moments are rounded to its floats.
        threads: as for Trainer; as before by default

        WeightsError, which names the file, where there is no such checkpoint or it is damaged;
        ValueError where the corpus is another or the engine cannot run here.
        """
        saved = Checkpoint.load(directory)
        path = os.path.join(directory, CHECKPOINT_FILE)
        if engine is None:
            engine = saved.engine
            try:
                check_engine(engine)
            except ValueError as error:
                raise ValueError(
                    f"{path} was trained by an engine that is not to be had: {error}; engine must "
                    "name another, which goes on where this one was, though not to the same bits"
                ) from None
        settings = dict(saved.settings)
        if threads is not None:
            settings["threads"] = threads
        trainer = cls(corpus, saved.config, engine=engine, **settings)
        if trainer.documents_sha256 != saved.documents_sha256:
            raise ValueError(
                f"{path} was trained on another corpus: {counted(saved.num_documents, 'document')} "
                f"of {counted(len(saved.tokenizer.alphabet), 'distinct character')} from "
                f"{saved.source}, not these {len(corpus):,} of {len(corpus.alphabet)} from "
                f"{corpus.source}"
            )
        for slot, values in saved.slots.items():
            trainer._engine.set(slot, values)
        trainer._engine.step = trainer._activity_step = saved.step
        saved.restore_random(trainer._rng)
        trainer.notes = saved.notes
        return trainer

    def __getstate__(self) -> Any:
        raise TypeError(
            "a Trainer is neither copied nor pickled: save() it, and Trainer.resume() makes "
            "another that goes on from there"
        )

    @property
    def engine(self) -> str:
        """Name of the engine at work, where "auto" has become a name."""
        return self._engine.engine

    @property
    def isa(self) -> str:
        """What the engine was compiled for, or the Python that runs the reference, in words."""
        return self._engine.isa

    @property
    def threads(self) -> int:
        """Threads of the next step."""
        return self._engine.threads

    @property
    def num_params(self) -> int:
        """Numbers that are trained."""
        return self.config.num_params(self.tokenizer.vocab_size)

    @property
    def nbytes(self) -> int:
        """Memory in bytes that the engine holds between two steps, the documents not counted."""
        return self._engine.nbytes

    @cached_property
    def documents_sha256(self) -> str:
        """SHA-256 of the documents in the order of training."""
        return digest_of(self.documents)

    @property
    def step(self) -> int:
        """Steps done so far, 0 .. num_steps."""
        return self._engine.step

    @property
    def activity(self) -> Activity | None:
        """How much of the MLP took part in the last step; gradients() and evaluate() do not count.
        None before the first step of this trainer, and for engines other than the SIMD ones."""
        self._keep_activity()
        return self._activity

    @property
    def model(self) -> GPT:
        """The model as it is now. Its parameters are copies; its sample() continues the stream of
        randomness of this trainer."""
        self._keep_activity()
        parameters = self._tensors(self._engine.get("parameter"))
        training = {
            "corpus": self.corpus.source,
            "documents": len(self.documents),
            "mode": self.corpus.mode,
            "steps": f"{self.step} of {self.num_steps}",
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "adam": f"beta1 {self.beta1:g}, beta2 {self.beta2:g}, eps {self.eps:g}",
            "seed": self.seed,
            "engine": self.engine,
        }
        return GPT(self.config, self.tokenizer, parameters, self._rng, training)

    def run(self, k: int | None = None) -> Array:
        """Trains for `k` more steps, or for all that are left, and returns their losses (k,),
        each the mean over its batch before the update. ValueError where fewer than `k` are left.

        Ctrl-C stops between two steps: the trainer stays whole and can go on, though the losses
        of the interrupted call are lost.
        """
        left = self.num_steps - self.step
        if k is None:
            k = left
        k = checked_int("k", k, minimum=0)
        if k > left:
            raise ValueError(
                f"cannot run {counted(k, 'step')}: {left} of num_steps={self.num_steps} are left, "
                "and the learning rate is 0 after that; make a trainer with more num_steps"
            )
        return self._engine.run(k)

    def loss_and_gradients(self) -> tuple[float, dict[str, Array]]:
        """Loss of the next batch, and its gradients (out, in) by name. Nothing is updated."""
        self._keep_activity()
        loss, gradients = self._engine.gradients()
        return loss, self._tensors(gradients)

    def gradients(self) -> dict[str, Array]:
        """Gradients (out, in) of the next batch by name. Nothing is updated."""
        return self.loss_and_gradients()[1]

    def evaluate(self, documents: Corpus | Sequence[str]) -> float:
        """Mean loss over `documents` (a Corpus, or what Corpus.from_documents takes), each counting
        once whatever its length, and of each its first block_size predictions; NaN where the
        training has diverged. ValueError for a character that the training corpus does not have."""
        if not isinstance(documents, Corpus):
            documents = Corpus.from_documents(documents)
        self._keep_activity()
        if self._evaluated is None or self._evaluated[0] is not documents:
            self._evaluated = documents, *self.tokenizer.encode_all(documents.documents)
        return self._engine.loss(*self._evaluated[1:])

    def _keep_activity(self) -> None:
        """Before all that follows a step: the engine knows the last batch only, and wakes the units
        at rest where parameters are read. After each step it would cost time."""
        engine = self._engine
        if engine.step == self._activity_step:
            return
        found = getattr(engine, "activity", None)  # the reference has none
        if found is None:
            return
        # Sums of as many shares as there are units may be an ulp or two above 1.
        shares = {name: min(share, 1.0) for name, share in found.items()}
        self._activity, self._activity_step = Activity(**shares), engine.step

    def _tensors(self, flat: Array) -> dict[str, Array]:
        return self.config.tensors(flat, self.tokenizer.vocab_size)


def check_engine(name: str) -> None:
    """ValueError for one that is unknown or cannot run here."""
    if not isinstance(name, str):
        raise TypeError(f"engine must be a name, not {name!r}")
    if name in ("auto", "reference"):
        return
    by_name = {info.name: info for info in engines()}
    if name not in by_name:
        raise ValueError(f"engine {name!r} is unknown; {_available(by_name.values())}")
    if not by_name[name].available:
        raise ValueError(
            f"engine {name!r} cannot run here: {by_name[name].reason}; "
            f"{_available(by_name.values())}"
        )


def _available(infos: Iterable[EngineInfo]) -> str:
    return "this machine has auto, " + ", ".join(info.name for info in infos if info.available)
