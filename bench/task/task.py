"""A task: the data, the initial parameters and the truth that every variant is held against.

The truth comes from `tape`, the float64 autograd engine, once per run, workload and batch size; for
running text and for large batches, of which it would take minutes and more memory than there is,
from bench/task/float64.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.task import float64
from bench.task.problem import encoded
from bench.task.workload import WORKLOADS, Workload
from pymicrogpt import Corpus, Trainer

MANY = 16  # documents in a batch: of more the tape would take minutes


def truth_steps(workload: Workload, batch_size: int) -> int:
    """Losses compared with the truth; later ones need only be finite.

    Fewer for wide models, whose training at this learning rate is chaos: at n_embd 256 correct
    engines are 5 % apart after 12 steps. Fewer of large batches, down to two, which take long.
    """
    return min(20, 1024 // workload.n_embd, max(2, 8192 // batch_size))


# Relative errors allowed for the loss and the gradients of the first batch, and for later losses.
# float64: sums of up to 1e5 products, 1e-16 each, which 20 steps of training amplify. float32:
# 6e-8 for each operation, and sums whose error grows with the square root of their length.
TOLERANCE = {
    "float64": {"loss": 1e-9, "gradients": 1e-9, "later": 1e-9},
    "float32": {"loss": 1e-6, "gradients": 1e-5, "later": 0.05},
}


def tolerance(dtype: str, step: int, n_embd: int) -> float:
    """Relative error allowed for the loss of a step, 0 being the first.

    Adam divides a gradient by its own size: where it is nearly zero, rounding becomes a full step
    of the learning rate, so that float32 departs from the truth, by a factor that grows with the
    width. In 120 trainings of 20 steps a factor of n_embd per step was never seen; the departure
    stayed under 1e-6 at n_embd 32, 2e-3 at 64, and 2e-2 at 128. A learning rate that is wrong by
    1 % shows at the second step as 7e-4 or more.
    """
    allowed = TOLERANCE[dtype]
    return min(allowed["loss"] * n_embd**step, allowed["later"])


class WrongResult(Exception):
    """An implementation computed something else than the truth."""

    kind = "wrong"  # in the reason of a row, instead of the name of this class


@dataclass(frozen=True)
class Task:
    """One workload at one batch size on one corpus."""

    workload: Workload
    batch_size: int
    vocab_size: int
    tokens: np.ndarray  # (M,) int32, all documents, BOS at both ends of each
    offsets: np.ndarray  # (N + 1,) int64
    parameters: np.ndarray  # (P,) float64, natural layout
    losses: np.ndarray  # (truth_steps(workload, batch_size),) of the first steps
    gradients: np.ndarray  # (P,) of the first batch
    problem: Path  # the same in the file format of bench/task/problem.py, for external programs

    @classmethod
    def prepare(cls, workload: Workload, batch_size: int, corpus: Corpus, folder: Path) -> Task:
        """Compute the truth and write the files of a task into `folder`. A workload of running text
        takes a corpus of blocks of its block_size."""
        trainer = Trainer(
            corpus,
            workload.config,
            engine="autovec" if workload.running_text else "tape",
            batch_size=batch_size,
            seed=workload.seed,
            **workload.optimizer,
        )
        tokens, offsets = trainer.tokenizer.encode_all(trainer.documents)
        flat = np.concatenate([p.ravel() for p in trainer.model.parameters.values()])
        vocab_size, steps = trainer.tokenizer.vocab_size, truth_steps(workload, batch_size)
        if workload.running_text or batch_size > MANY:
            losses, gradients = float64.train(
                workload, batch_size, vocab_size, tokens, offsets, flat, steps
            )
        else:
            gradients = np.concatenate([g.ravel() for g in trainer.gradients().values()])
            losses = trainer.run(steps)
        problem = folder / f"{workload.name}-b{batch_size}.problem"
        task = cls(
            workload, batch_size, vocab_size, tokens, offsets, flat, losses, gradients, problem
        )
        task.write_problem()
        arrays = ("vocab_size", "tokens", "offsets", "parameters", "losses", "gradients")
        np.savez(task.file, **{name: getattr(task, name) for name in arrays})
        return task

    def write_problem(self) -> None:
        """Writes the file for external programs."""
        documents = self.vocab_size, self.tokens, self.offsets
        content = encoded(self.workload, self.batch_size, *documents, self.parameters)
        self.problem.write_bytes(content)

    @property
    def mean_positions(self) -> float:
        """Trained positions of a document, the mean of the corpus."""
        return float(self.workload.positions(self.offsets).mean())

    @property
    def flops(self) -> float:
        """Useful floating-point operations of a training step per document."""
        return self.workload.flops(self.offsets, self.vocab_size)

    def describe(self) -> dict[str, float | int | str]:
        """For the result file: of the workload, the same at every batch size."""
        return {
            **self.workload.describe(),
            "vocab_size": self.vocab_size,
            "num_params": len(self.parameters),
            "mean_positions": self.mean_positions,
            "flops_per_sample": self.flops,
        }

    @property
    def file(self) -> Path:
        return self.problem.with_suffix(".npz")

    @classmethod
    def load(cls, path: str | Path) -> Task:
        path = Path(path)
        workload, batch = path.stem.split("-b")
        with np.load(path) as arrays:
            return cls(
                WORKLOADS[workload],
                int(batch),
                problem=path.with_suffix(".problem"),
                **{**arrays, "vocab_size": int(arrays["vocab_size"])},
            )

    def positions(self, first_step: int, steps: int) -> int:
        """Positions trained in `steps` steps from `first_step` on."""
        per_document = self.workload.positions(self.offsets)
        documents = np.arange(first_step * self.batch_size, (first_step + steps) * self.batch_size)
        return int(per_document[documents % len(per_document)].sum())

    def check_gradients(self, dtype: str, loss: float, gradients: np.ndarray) -> None:
        """Loss and flat gradient of the first batch. WrongResult where they are not the truth."""
        allowed = TOLERANCE[dtype]
        bound = allowed["gradients"] * self._kinks(dtype)
        self._check_loss(0, loss, allowed["loss"] * self._sums(dtype))
        if gradients.shape != self.gradients.shape:
            raise WrongResult(f"{gradients.size} gradients instead of {self.gradients.size}")
        found = self.workload.config.tensors(gradients, self.vocab_size)
        for name, truth in self.workload.config.tensors(self.gradients, self.vocab_size).items():
            error = np.linalg.norm(found[name] - truth) / np.linalg.norm(truth)
            if not error <= bound:
                raise WrongResult(
                    f"gradient of {name} is off by {error:.1e} relative, allowed is {bound:.0e}"
                )

    def _sums(self, dtype: str) -> float:
        """A loss may be summed in order, by vectors of eight: of batch 4096 that is 8192 additions,
        each wrong by up to half a unit of the sum: 2e-6 in all. 1 up to batch 256."""
        return 1.0 if dtype == "float64" else max(1.0, self.batch_size / 256) ** 0.5

    def _kinks(self, dtype: str) -> float:
        """A hidden unit within rounding of 0, one in some 1e7, may fall on either side of the ReLU,
        as one did among the 1e6 of batch 256 at n_embd 128: 1.4e-5 in the gradient of wte. 1 up to
        batch 16 at n_embd 256.

        A batch of running text has 1.6e6 or 2.4e6 hidden values. Three or four lie within 3e-6 of
        their root mean square around 0; any of these on the other side moves a gradient by 1e-4 to
        5e-3, as one of NumPy's at "shakespeare" does. Rows without are within 4e-6. So a mistake of
        less than 1e-2 shows at the other workloads alone."""
        if dtype == "float64":
            return 1.0
        if self.workload.running_text:
            return 1000.0
        return max(1.0, self.batch_size * self.workload.n_embd / 4096)

    def check_losses(self, dtype: str, first_step: int, losses: list[float]) -> None:
        """Losses of the steps from `first_step` on: all finite, the first near the truth."""
        for step, loss in enumerate(losses[: max(0, len(self.losses) - first_step)], first_step):
            allowed = tolerance(dtype, step, self.workload.n_embd) * self._sums(dtype)
            self._check_loss(step, loss, allowed)
        if not np.isfinite(np.array(losses, float)).all():
            raise WrongResult(f"a loss after step {first_step + 1} is not finite")

    def _check_loss(self, step: int, loss: float | None, allowed: float) -> None:
        truth = self.losses[step]
        loss = float("nan") if loss is None else loss
        if not abs(loss - truth) <= allowed * truth:
            raise WrongResult(
                f"loss of step {step + 1} is {loss:.9g} instead of {truth:.9g} "
                f"(allowed is {allowed:.0e} relative)"
            )
