"""What a sweep tries: every combination of the given values, or random draws."""

from __future__ import annotations

import itertools
import math
import os
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import Config, checked_float, checked_int

Settings = dict[str, Any]  # all of DEFAULTS, by name

# Everything that makes one trial. Where `seconds` is given, `num_steps` is None.
DEFAULTS: Settings = {
    "n_layer": 1,
    "n_embd": 16,
    "n_head": 4,
    "block_size": 16,
    "batch_size": 16,
    "learning_rate": 0.01,
    "beta1": 0.85,
    "beta2": 0.99,
    "num_steps": 1000,
    "seconds": None,  # of CPU time; as many steps as train in it, found out in each trial
    "seed": 42,
    "engine": "auto",
    "evals": 10,  # measurements of the held-out loss, evenly over the steps
}
SHAPE = ("n_layer", "n_embd", "n_head", "block_size")
FLOATS = ("learning_rate", "beta1", "beta2", "seconds")
DRAWS = 1000  # until one is a valid shape, or is new
INT_MAX = 2**63 - 1  # of settings: results.parquet has no larger integers
MOST_TRIALS = 1_000_000  # a slip of the finger asks for more than memory holds


@dataclass(frozen=True)
class Range:
    """Values from `low` to `high`, both included, to draw from: evenly over their logarithms, or
    with log=False over themselves. Two integers give integers. ValueError where there are none."""

    low: float
    high: float
    log: bool = True

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"{name} of a range must be a number, not {value!r}")
            if isinstance(value, int) and abs(value) > INT_MAX:
                raise ValueError(f"{name} of a range must be at most {INT_MAX}")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"a range needs finite low < high, not {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range starts above 0, not at {self.low}")

    def draw(self, rng: random.Random) -> float:
        """A value from `rng`."""
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        if isinstance(self.low, int) and isinstance(self.high, int):
            value = round(value)
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Space:
    """The trials of a sweep, each with all its settings.

    An axis is a value, a sequence of values, or (in random spaces) a Range; its name is one of
    DEFAULTS. Give `num_steps` or `seconds`, not both. `seeds` is how many to run of each
    combination, from 42 up, or which.

    TypeError and ValueError name the axis that is wrong. A combination that no model can have is
    left to its trial, which fails with the reason.

    missing: by how many a random space has fewer combinations than were to be drawn
    """

    trials: tuple[Settings, ...]
    missing: int = field(default=0, compare=False)

    @classmethod
    def grid(cls, *, seeds: int | Sequence[int] = 1, **axes: Any) -> Space:
        """Every combination of the values of all axes."""
        values = _axes(axes)
        for name, axis in values.items():
            if isinstance(axis, Range):
                raise ValueError(
                    f"{name} is a range, which only a random space can draw from: random must say "
                    "how many draws"
                )
        combinations = itertools.product(*(values[name] for name in values))  # type: ignore[arg-type]
        number = math.prod(map(len, values.values()))  # type: ignore[arg-type]
        return cls._of((dict(zip(values, c, strict=True)) for c in combinations), number, seeds)

    @classmethod
    def random(
        cls, trials: int, *, draw_seed: int = 0, seeds: int | Sequence[int] = 1, **axes: Any
    ) -> Space:
        """`trials` different draws of every axis, or all combinations where there are fewer. More
        trials of the same `draw_seed` begin with the same ones. ValueError where no draw has n_embd
        divisible by n_head."""
        trials = checked_int("trials", trials)
        rng = random.Random(checked_int("draw_seed", draw_seed, minimum=0))
        return cls._of(_draws(_axes(axes), trials, rng), trials, seeds)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], **changes: Any) -> Space:
        """The space in a TOML file:

            random = 100    # draws; without it, the whole grid
            seeds = 3

            [axes]
            learning_rate = { low = 0.001, high = 0.1 }    # or log = false
            n_embd = [16, 32]

        `changes` (random, seeds, draw_seed, or an axis) replace what the file says. ValueError
        names the file and what is wrong in it."""
        path = Path(path)
        try:
            content = _load_toml(path)
            axes = content.pop("axes", {})
            if not isinstance(axes, dict):
                raise ValueError("axes must be a table: [axes]")
            options = {name: content.pop(name) for name in OPTIONS if name in content}
            if content:
                raise ValueError(
                    f"{next(iter(content))!r} is unknown here; the file has "
                    f"{', '.join(OPTIONS)} and the table [axes]"
                )
            axes = {name: _toml_axis(name, value) for name, value in axes.items()}
            return cls.of(**{**_without_rival(axes, changes), **options, **changes})
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def of(cls, *, random: int | None = None, draw_seed: int | None = None, **axes: Any) -> Space:
        """Space.random with `random` trials, or Space.grid where it is None. ValueError for a
        `draw_seed` of no draws."""
        if random is not None:
            return cls.random(random, draw_seed=0 if draw_seed is None else draw_seed, **axes)
        if draw_seed is not None:
            raise ValueError(
                "draw_seed is for the draws of a random space: random must say how many"
            )
        return cls.grid(**axes)

    @classmethod
    def _of(
        cls, combinations: Iterator[Settings], number: int, seeds: int | Sequence[int]
    ) -> Space:
        chosen: Sequence[int]
        if isinstance(seeds, Sequence) and not isinstance(seeds, (str, bytes)):
            chosen = [checked_int("seed", seed, 0, INT_MAX) for seed in seeds]
        else:
            first = DEFAULTS["seed"]
            chosen = range(first, first + checked_int("seeds", seeds))
        if not chosen:
            raise ValueError("seeds is empty")
        if number * len(chosen) > MOST_TRIALS:
            raise ValueError(
                f"these are {number * len(chosen):,} trials; a sweep has at most {MOST_TRIALS:,}"
            )
        found = list(combinations)
        trials = tuple({**DEFAULTS, "seed": s, **c} for c in found for s in chosen)
        return cls(trials, number - len(found))

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def varied(self) -> list[str]:
        """Names of the settings that differ between trials."""
        return varied(self.trials)


OPTIONS = ("random", "draw_seed", "seeds")


def varied(trials: Sequence[Settings]) -> list[str]:
    return [name for name in DEFAULTS if len({trial[name] for trial in trials}) > 1]


def _axes(axes: Mapping[str, Any]) -> dict[str, Range | list[Any]]:
    """Checked values by name, in the order of DEFAULTS, so that a draw does not depend on it."""
    if unknown := [name for name in axes if name not in DEFAULTS]:
        raise ValueError(f"{unknown[0]!r} is no setting; there are {', '.join(DEFAULTS)}")
    if "seed" in axes:
        raise ValueError("seed is no axis: give seeds, how many or which")
    if "num_steps" in axes and "seconds" in axes:
        raise ValueError("seconds must not be given beside num_steps")
    checked: dict[str, Range | list[Any]] = {}
    for name in DEFAULTS:
        if name not in axes:
            continue
        axis = axes[name]
        if isinstance(axis, Range):
            if name == "engine":
                raise TypeError("engine must be a name, not a range")
            if name not in FLOATS and not isinstance(axis.draw(random.Random(0)), int):
                raise TypeError(f"a range of {name} needs integers, not {axis.low}, {axis.high}")
            checked[name] = axis
        else:
            scalar = isinstance(axis, (str, bytes)) or not isinstance(axis, Sequence)
            checked[name] = [_checked(name, value) for value in ([axis] if scalar else axis)]
            if not checked[name]:
                raise ValueError(f"{name} has no values")
    if "seconds" in axes:
        checked["num_steps"] = [None]
    return checked


def _checked(name: str, value: Any) -> Any:
    """The value in the one type that its setting has, so that equal trials have equal keys. Whether
    a model can be trained with it is for the trial to find out."""
    if name == "engine":
        if not isinstance(value, str):
            raise TypeError(f"engine must be a name, not {value!r}")
        return value
    if name == "seconds":
        return checked_float(name, value)
    if name == "evals":
        return checked_int(name, value)
    if name in FLOATS:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError(f"{name} must be a number, not {value!r}")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be a number, not {value!r}") from None
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(f"{name} must be finite, not {value!r}")
        return number
    return checked_int(name, value, -INT_MAX, INT_MAX)


def _draws(
    axes: Mapping[str, Range | list[Any]], number: int, rng: random.Random
) -> Iterator[Settings]:
    """Different ones, at most `number`. What is drawn does not depend on how many follow."""
    seen: set[tuple[Any, ...]] = set()
    old = 0  # draws in a row that were there before
    while len(seen) < number and old < DRAWS:
        try:
            drawn = _draw(axes, rng)
        except ValueError:
            if not seen:
                raise
            break
        if (values := tuple(drawn.values())) in seen:
            old += 1
            continue
        old = 0
        seen.add(values)
        yield drawn
    if len(seen) < number:  # all but a few unlikely ones
        rest = [c for c in _all_shapes(axes) if tuple(c.values()) not in seen]
        rng.shuffle(rest)
        yield from rest[: number - len(seen)]


def _all_shapes(axes: Mapping[str, Range | list[Any]]) -> Iterator[Settings]:
    """Every combination that a model can have; none where there are too many to go through."""
    values: list[Sequence[Any]] = []
    for axis in axes.values():
        if not isinstance(axis, Range):
            values.append(list(dict.fromkeys(axis)))
        elif (
            isinstance(axis.low, int)
            and isinstance(axis.high, int)
            and axis.high - axis.low < MOST_TRIALS
        ):
            values.append(range(axis.low, axis.high + 1))
        else:
            return
    if math.prod(map(len, values)) > MOST_TRIALS:
        return
    for combination in itertools.product(*values):
        settings = dict(zip(axes, combination, strict=True))
        try:
            _check_shape(settings)
        except ValueError:
            continue
        yield settings


def _check_shape(settings: Settings) -> None:
    """ValueError where no model can have it."""
    shape: list[Any] = [settings.get(name, DEFAULTS[name]) for name in SHAPE]
    Config(*shape)


def _draw(axes: Mapping[str, Range | list[Any]], rng: random.Random) -> Settings:
    reason: ValueError | None = None
    for _ in range(DRAWS):
        drawn: Settings = {
            name: axis.draw(rng) if isinstance(axis, Range) else rng.choice(axis)
            for name, axis in axes.items()
        }
        try:
            _check_shape(drawn)
        except ValueError as error:
            reason = error
        else:
            return drawn
    raise ValueError(f"none of {DRAWS:,} draws is a shape that a model can have: {reason}")


def _without_rival(axes: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A change to seconds replaces the file's num_steps, and the other way round."""
    rivals = {"num_steps": "seconds", "seconds": "num_steps"}
    dropped = {rivals[name] for name in changes if name in rivals}
    return {name: axis for name, axis in axes.items() if name not in dropped}


def _load_toml(path: Path) -> dict[str, Any]:
    import importlib

    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    try:
        tomllib = importlib.import_module(name)
    except ImportError:
        raise ValueError(f"TOML needs {name}: pip install 'pymicrogpt[sweep]'") from None
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except RecursionError:
        raise ValueError("its values are nested too deeply") from None
    return content


def _toml_axis(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if not {"low", "high"} <= value.keys() <= {"low", "high", "log"}:
        raise ValueError(
            f"{name}: a range is {{ low = ..., high = ... }}, and log = false if wanted"
        )
    return Range(**value)
