"""The loss curve of a run."""

from __future__ import annotations

import io
from pathlib import Path

from ..storage.files import write_atomically
from .settings import State


def draw_losses(state: State, path: Path) -> None:
    """A PNG of the training loss, and of the held-out loss where there is one, against the step.
    OSError where it cannot be written."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    training = [(step, loss) for step, loss, _ in state.history if loss is not None]
    held_out = [(step, loss) for step, _, loss in state.history if loss is not None]
    with plt.style.context("petroff10" if "petroff10" in plt.style.available else "default"):
        figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
        axes.plot(*zip(*training, strict=True), marker="o", markersize=3, label="training")
        title = f"Loss {training[-1][1]:.3f} after {training[-1][0]:,} steps"
        if held_out and state.best_step is not None and state.best_val_loss is not None:
            axes.plot(*zip(*held_out, strict=True), marker="o", markersize=3, label="held out")
            axes.plot(state.best_step, state.best_val_loss, "k*", markersize=10, label="kept")
            title = f"Best held-out loss {state.best_val_loss:.3f}, at step {state.best_step:,}"
            axes.legend()
        axes.set(title=title, xlabel="step", ylabel="loss (nats a token)")
        axes.grid(alpha=0.3)
        png = io.BytesIO()
        figure.savefig(png, dpi=150, format="png")
        plt.close(figure)
    write_atomically(path, png.getvalue())
