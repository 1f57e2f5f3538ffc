"""How many hidden values are left to multiply by, over the steps of a training."""

from __future__ import annotations

from functools import partial

import numpy as np

from bench.cases import DensityCase
from bench.report import plot
from bench.report.format import per_cent
from bench.report.part import Drawing, Part, Parts, Table, not_measured
from bench.results import Results, known, mean_share

WORDS = """\
Behind the ReLU a hidden value that is not positive is exactly zero, and the engine skips it: above
n_embd 16 in every batch, else in those of a document or two. *Values* are those not zero among all
of a batch, *units* those active in at least one row of it, *at rest* those that no longer move: no
gradient, and no step of Adam that counts. With a smaller learning rate fewer fall silent, so that
the same engine takes longer. The mean is that of all steps of the training."""
LEAST = 1e-3  # a share below is drawn there
BATCH = 16  # of the lines; the table has batch 1 as well
DASHES = ("-", "--", ":")  # by learning rate, the largest first


def parts(results: Results) -> Parts:
    cases = collect(results)
    lines = [case for case in cases if case["batch"] == BATCH]
    drawings = [Drawing("density", partial(figure, results, lines))] if lines else []
    tables = [table(cases)] if cases else []
    missing = not_measured(results, "density")
    yield Part((6, 2), "Zeros in the MLP", WORDS, drawings, tables, missing, level=3)


def table(cases: list[DensityCase]) -> Table:
    *_, last = told = stops(cases[0])
    head = ("n_embd", "batch", "learning rate", *(f"values, step {stop:,}" for stop in told))
    lines = [(*head, "mean", f"units, step {last:,}", "at rest")]
    for case in cases:
        shape = (str(case["n_embd"]), str(case["batch"]), f"{case['learning_rate']:g}")
        shares = [*(at(case, stop) for stop in told), mean(case)]
        shares += [case["units"][-1], case["resting"][-1]]
        lines.append((*shape, *map(per_cent, shares)))
    return lines


def stops(case: DensityCase) -> list[int]:
    """Steps whose shares are told in numbers."""
    return [1, 100, 500, case["steps"][-1]]


def collect(results: Results) -> list[DensityCase]:
    return [case for _, case in results.cases("density")]


def at(case: DensityCase, step: int) -> float:
    """The share of values after some steps, of the sample at or after it."""
    return case["values"][int(np.searchsorted(case["steps"], step))]


def mean(case: DensityCase) -> float:
    """The share of values over the whole training."""
    return mean_share(case["steps"], case["values"])


def figure(results: Results, cases: list[DensityCase]) -> plot.Figure:
    drawn, axes = plot.new_figure(5.4)
    rates = sorted({case["learning_rate"] for case in cases}, reverse=True)
    steps = cases[0]["steps"]
    ends = []
    for case in cases:
        rate, shape = case["learning_rate"], f"n_embd {case['n_embd']}"
        colour = plot.WORKLOAD_COLOURS.get(f"d{case['n_embd']}", plot.QUIET)
        shares = np.maximum(case["values"], LEAST)
        dashes = DASHES[rates.index(rate) % len(DASHES)]
        axes.plot(case["steps"], shares, dashes, color=colour, linewidth=2.2)
        for stop in stops(case):
            share, name = at(case, stop), f"{shape}, learning rate {rate:g}, step {stop:,}"
            plot.whisker(axes, stop, max(share, LEAST), known(share), name)
        name = shape if rate == rates[0] else f"{shape} at {rate:g}"
        told = f"{per_cent(case['values'][-1])}, mean {per_cent(mean(case))}"
        text = f"{name}:{chr(10) if plot.narrow() else ' '}{told}"
        ends.append((text, case["steps"][-1], float(shares[-1]), colour))
    axes.set_yscale("log")
    axes.set_ylim(LEAST, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.yaxis.get_minor_locator().set_params(subs=())
    axes.set_ylabel("hidden values that are not zero (log scale)")
    axes.set_xlim(0, steps[-1])
    axes.xaxis.get_major_locator().set_params(nbins=5)
    axes.set_xlabel("step")
    plot.label_ends(axes, ends, lines=2 if plot.narrow() else 1)
    notes = (
        f"{results.probed('density')[0].label}, batch {BATCH}, one training each; learning rate "
        f"{rates[0]:g} unless another is named. Shares of one batch, every {steps[-1] - steps[-2]} "
        "steps. Beside the lines: the share at their end, and its mean over the training."
    )
    return plot.finish(drawn, results, title(cases), notes)


def title(cases: list[DensityCase]) -> str:
    """About n_embd 64 at the workloads' learning rate."""
    case = next((case for case in cases if case["n_embd"] == 64), cases[-1])
    first, later, last = (per_cent(at(case, step)) for step in (1, 100, 500))
    return (
        f"At n_embd {case['n_embd']} and learning rate {case['learning_rate']:g}, {first} of the "
        f"hidden values are not zero at step 1, {later} at step 100 and {last} at step 500"
    )
