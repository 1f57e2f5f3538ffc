"""The result file: pyperf's JSON, so that pyperf's commands work on it, and what we add to it; and
estimates from its rounds.

Every row that was measured is a pyperf benchmark named workload/batch/variant: one run for each
round, its value in seconds per sample. Under the key "pymicrogpt" stand the machine, the workloads,
all rows, also those without a value and why, and what the probes found. Tables and figures are made
from this file alone.

An estimate is the centre of the rounds that no neighbour disturbed, with an interval: the median of
the means of all pairs of them (J. L. Hodges and E. L. Lehmann, Estimates of location based on rank
tests, 1963), which two wild rounds of seven move as little as they move the median, and which sound
ones tell better by a fifth. Where the undisturbed are fewer than QUIET_ROUNDS it is the fastest
round, since a neighbour only adds to a time. A ratio is formed within each round and only then
summarised: a slow spell of the machine that lasts longer than a round slows both sides and cancels.
Where the rounds of both sides are not of the same moments, it is the ratio of their centres. The
interval is the percentile bootstrap, seeded, so that a result file always gives the same figures.
Few rounds cannot give LEVEL: the range of n rounds holds the true centre with probability
1 - 2^(1 - n), 75 % for three, and is the interval then.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import (
    Any,
    TypedDict,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import numpy as np

# 1 had no `activity` of rounds and no `engine_memory` of rows, 2 no `coverage`, 3 no `cold_start`,
# 4 no `launch_floor`
FORMAT = 5
BASELINE = "cpython"
ACTIVITY = (
    "steal_percent", "busy_cores", "load_avg_1min", "clock_ghz", "peak_share", "repeats"
)  # fmt: skip
GOOD_PEAK = 0.85  # a round is disturbed where one core can do less, of the highest of the run
QUIET_ROUNDS = 2  # so many that were not are enough to leave out the others
# Of variants and their rows: the order of tables and the colours of figures.
GROUPS = (
    "pure Python", "autograd tape", "array libraries", "hand-derived", "WebAssembly", "SIMD",
    "other",
)  # fmt: skip

MOST = 1e30  # beyond what any number in a file can be

DIGITS = 6  # of what a result file holds: more than any clock is good for
LEVEL = 0.95
ENOUGH_ROUNDS = 6  # the fewest that give it
RESAMPLES = 10_000
SEED = 2026
SPREAD_LIMIT = 0.10  # a value known no better than this share of itself gets a warning


Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True)
class Estimate:
    """A centre and the interval that holds it with probability `level`, at least."""

    value: float
    low: float
    high: float
    rounds: int
    crowded: bool = False  # the fastest round instead, or a ratio with one: all were disturbed

    @property
    def level(self) -> float:
        """0 for a single round, which has no interval: low and high are its value then."""
        return min(LEVEL, 1 - 2.0 ** (1 - self.rounds))

    @property
    def spread(self) -> float:
        """Half of the interval's width, as a share of the value."""
        return (self.high - self.low) / (2 * self.value) if self.value else 0.0

    def __mul__(self, factor: float) -> Estimate:
        return replace(
            self, value=factor * self.value, low=factor * self.low, high=factor * self.high
        )

    def doubts(self) -> list[str]:
        """Why not to lean on the value, in words; empty where nothing is amiss."""
        if self.crowded:
            return ["fastest round, beside a neighbour"]
        if self.rounds == 1:
            return ["one round, no interval"]
        words = []
        if self.level < LEVEL:
            words.append(f"{self.rounds} rounds, interval of {100 * self.level:.0f} %")
        if self.spread > SPREAD_LIMIT:
            words.append(f"spread of ±{100 * self.spread:.0f} %")
        return words

    def doubts_as_ratio(self) -> list[str]:
        """The same for a ratio, which also says nothing where its interval holds 1."""
        same = self.rounds > 1 and self.low <= 1 <= self.high
        return [*self.doubts(), *(["no difference shown"] if same else [])]


def estimate(values: Sequence[float]) -> Estimate:
    """The centre of the rounds with its interval. ValueError without a value."""
    if not len(values):
        raise ValueError("no round was measured")
    return _estimate(tuple(values))


@lru_cache(4096)  # tables and figures ask for the same ones
def _estimate(values: tuple[float, ...]) -> Estimate:
    array = np.asarray(values, float)
    (centre,), count = _centres(array[None]).tolist(), len(array)
    if 1 - 2.0 ** (1 - count) < LEVEL:
        return Estimate(centre, float(array.min()), float(array.max()), count)
    drawn = _centres(array[_resamples(count)])
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(centre, float(low), float(high), count)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """The centre of the ratios of the same rounds."""
    return estimate([a / b for a, b in zip(numerators, denominators, strict=True)])


def ratio_of_centres(numerators: Sequence[float], denominators: Sequence[float]) -> Estimate:
    """Of rounds that are of different moments, each side drawn by itself."""
    above, below = estimate(numerators), estimate(denominators)
    value, rounds = above.value / below.value, min(above.rounds, below.rounds)
    # Errors that are independent of each other add up as the root of the sum of their squares.
    up = math.hypot(above.high / above.value - 1, below.value / below.low - 1)
    down = math.hypot(1 - above.low / above.value, 1 - below.value / below.high)
    return Estimate(value, value * (1 - min(down, 1)), value * (1 + up), rounds)


def quiet_rounds(peak_shares: Sequence[float]) -> int:
    """Rounds that no neighbour disturbed."""
    return sum(share >= GOOD_PEAK for share in peak_shares)


def is_crowded(peak_shares: Sequence[float]) -> bool:
    """Whether a disturbed round counts, since there are too few others."""
    return quiet_rounds(peak_shares) < min(QUIET_ROUNDS, len(peak_shares))


@dataclass(frozen=True)
class Timed:
    """A time of each round, and what share of its peak the core could give then."""

    values: Sequence[float]
    peak_shares: Sequence[float]
    again: bool = False  # some were done again: at other moments than the rounds of others

    @classmethod
    def of_case(cls, case: Mapping[str, Any], values: Sequence[float], of: str = "") -> Timed:
        """Of what a probe found (bench/cases.py), also where nobody looked for neighbours."""
        shares = case.get(f"peak_shares{of}") or [1.0] * len(values)
        return cls(values, shares, bool(case.get(f"repeats{of}")))

    @property
    def crowded(self) -> bool:
        return is_crowded(self.peak_shares)

    @property
    def counting(self) -> list[int]:
        """The rounds that estimates are of."""
        if self.crowded:
            return [min(range(len(self.values)), key=self.values.__getitem__)]
        return [i for i, share in enumerate(self.peak_shares) if share >= GOOD_PEAK]

    @property
    def counted(self) -> list[float]:
        return [self.values[i] for i in self.counting]

    @property
    def estimate(self) -> Estimate:
        return replace(estimate(self.counted), crowded=self.crowded)

    def over(self, other: Timed) -> Estimate:
        """The ratio of both. Rows stop when their budget is spent, so that the shorter list is of
        the first rounds."""
        both = min(len(self.values), len(other.values))
        mine, theirs = ([i for i in of.counting if i < both] for of in (self, other))
        if mine == theirs and (self == other or not (self.again or other.again)):
            found = ratio([self.values[i] for i in mine], [other.values[i] for i in mine])
        else:
            found = ratio_of_centres(self.counted, other.counted)
        return replace(found, crowded=self.crowded or other.crowded)


def per_time(work: float, time: Estimate) -> Estimate:
    """Work per time, with the interval that follows from that of the time."""
    return replace(time, value=work / time.value, low=work / time.high, high=work / time.low)


def known(value: float) -> Estimate:
    """What is no centre of rounds."""
    return Estimate(value, value, value, 0)


def grouped(found: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Those of each key together, in the order in which they come."""
    groups: dict[Key, list[Item]] = {}
    for each in found:
        groups.setdefault(key(each), []).append(each)
    return groups


def mean_share(steps: Sequence[int], shares: Sequence[float]) -> float:
    """Of a share that was sampled after some steps, over all steps: linear between the samples."""
    return float(np.interp(range(1, steps[-1] + 1), steps, shares).mean())


def _centres(values: np.ndarray) -> np.ndarray:
    """Of each row of (rows, count). Of three a wild one would count, so theirs are medians."""
    if values.shape[1] <= 3:
        return np.median(values, axis=1)
    one, other = np.triu_indices(values.shape[1])
    return np.median((values[:, one] + values[:, other]) / 2, axis=1)


@lru_cache(16)
def _resamples(count: int) -> np.ndarray:
    """Indices of rounds, (RESAMPLES, count)."""
    return np.random.default_rng(SEED).integers(0, count, (RESAMPLES, count))


class VariantFacts(TypedDict):
    """What a reader may want to know of the rows of a variant."""

    label: str
    about: str
    source: str  # a file of the repository; "": of somebody else


class WorkloadFacts(TypedDict):
    """Of Task.describe(), what tables and figures need."""

    n_embd: int
    num_params: int
    mean_positions: float
    flops_per_sample: float


@dataclass
class Round:
    """What was timed in one round."""

    seconds: float
    steps: int
    documents: int
    positions: int
    # machine.Watch.facts(), the clock, what share of its best the core could do before and after,
    # and how often the round was done again because of that; each if recorded.
    activity: dict[str, float] = field(default_factory=dict)
    paces: dict[str, float] = field(default_factory=dict)  # of the core, which no file keeps

    @property
    def peak_share(self) -> float:
        return self.activity.get("peak_share", 1.0)

    @property
    def disturbed(self) -> bool:
        return self.peak_share < GOOD_PEAK

    def facts(self) -> dict[str, float]:
        """As the metadata of a run of pyperf."""
        return {"duration": self.seconds, "steps": self.steps, "loops": self.documents,
                "positions": self.positions,
                **{f"round_{key}": value for key, value in self.activity.items()}}  # fmt: skip

    @classmethod
    def of(cls, facts: Mapping[str, Any], what: str) -> Round:
        """From them. ValueError, which names what is missing."""
        wanted = ("duration", "steps", "loops", "positions")
        seconds, steps, documents, positions = _members(facts, what, *wanted)
        activity = {key: facts[f"round_{key}"] for key in ACTIVITY if f"round_{key}" in facts}
        check(activity, dict[str, float], what)
        check(seconds, float, f"the duration of {what}")
        check([steps, documents, positions], list[int], f"the counts of {what}")
        return cls(seconds, steps, documents, positions, activity)


@dataclass
class Row:
    """One variant on one workload at one batch size."""

    variant: str
    label: str
    group: str
    workload: str
    batch: int
    variation_of: str = ""
    steady: bool = False  # each round is the next steps of a training
    coverage: float = 1.0  # else the share of a training that a round has, from its start
    status: str = "ok"  # ok, error, unavailable or skipped
    reason: str = ""  # why it is not ok
    loss: float | None = None  # mean over the steps loss_first_step .. loss_last_step
    loss_first_step: int = 0
    loss_last_step: int = 0
    peak_memory: int = 0  # bytes that its process had resident at most; 0: unknown
    engine_memory: int = 0  # bytes that the engine holds for itself; 0: unknown
    cold_start: float = 0.0  # seconds until its first step was done, after a check; 0: unknown
    launch_floor: float = 0.0  # seconds of an empty step on its GPU; 0: unknown, or none
    info: dict[str, str] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    values: list[float] = field(default_factory=list)  # seconds per sample, one per round

    @property
    def name(self) -> str:
        return f"{self.workload}/b{self.batch}/{self.variant}"

    @property
    def title(self) -> str:
        return f"{self.label}, batch {self.batch}"

    @property
    def prose(self) -> str:
        return f"{self.label} at batch {self.batch}"

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def on_gpu(self) -> bool:
        """What is said of the CPU, its clock, peak and memory, is not of this row."""
        return "gpu" in self.info

    @property
    def peak_shares(self) -> list[float]:
        return [done.peak_share for done in self.rounds]

    def timed(self, of_rounds: Sequence[float]) -> Timed:
        """Values of its rounds, with what is known of them."""
        again = any("repeats" in done.activity for done in self.rounds)
        return Timed(of_rounds, self.peak_shares, again)

    @property
    def crowded(self) -> bool:
        return is_crowded(self.peak_shares)

    @property
    def microseconds(self) -> float:
        """Per sample."""
        return self.estimate.value

    @property
    def estimate(self) -> Estimate:
        """Microseconds per sample with their interval."""
        return self.timed(self.values).estimate * 1e6

    @property
    def wall_seconds(self) -> float:
        """Of all timed steps."""
        return sum(r.seconds for r in self.rounds)


def over(row: Row, other: Row) -> Estimate:
    """How many times as fast `row` is as `other`."""
    return other.timed(other.values).over(row.timed(row.values))


@dataclass
class Probe:
    """What one probe found on one workload, or on workloads of its own."""

    name: str
    workload: str  # empty: of none
    engine: str
    label: str  # of the engine
    status: str = "ok"  # ok, error or skipped
    reason: str = ""  # why it is not ok
    cases: list[Any] = field(default_factory=list)  # of one kind in bench/cases.py


@dataclass
class Results:
    """Everything that one run found."""

    run: dict[str, Any]  # text or numbers: machine, version, corpus, options
    workloads: dict[str, dict[str, Any]]  # Task.describe()
    rows: list[Row]
    published: dict[str, dict[str, float]]
    published_source: str
    probes: list[Probe] = field(default_factory=list)
    variants: dict[str, VariantFacts] = field(default_factory=dict)  # by name

    def of(self, workload: str, *statuses: str) -> list[Row]:
        """Its rows that have a value, or one of these statuses instead."""
        wanted = statuses or ("ok",)
        return [row for row in self.rows if row.workload == workload and row.status in wanted]

    def find(self, workload: str, variant: str, batch: int) -> Row | None:
        wanted = f"{workload}/b{batch}/{variant}"
        return next((row for row in self.rows if row.name == wanted and row.ok), None)

    def baseline(self, workload: str) -> Row | None:
        return self.find(workload, BASELINE, 1)

    def speedup(self, row: Row) -> Estimate | None:
        """Over CPython in this run; None when it was not measured."""
        base = self.baseline(row.workload)
        return over(row, base) if base else None

    def ranked(self, workload: str) -> list[Row]:
        """The fastest first, without variations of another row, which are to explain it, and
        without rows on a GPU, which are no match for one core."""
        rows = [row for row in self.of(workload) if not (row.variation_of or row.on_gpu)]
        return sorted(rows or self.of(workload), key=lambda row: row.microseconds)

    def fastest(self, workload: str) -> Row | None:
        return next(iter(self.ranked(workload)), None)

    def largest_speedup(self) -> tuple[Row, Row] | None:
        """CPython, and the row that is the most times as fast, of one workload."""
        pairs = [
            (base, row)
            for name in self.workloads
            if (base := self.baseline(name)) and (row := self.fastest(name))
            if row.variant != BASELINE
        ]
        return max(pairs, key=lambda pair: over(pair[1], pair[0]).value, default=None)

    def gflops(self, row: Row) -> float:
        return self.workloads[row.workload]["flops_per_sample"] / row.microseconds * 1e-3

    def probed(self, name: str) -> list[Probe]:
        """Those of that name that have values."""
        return [probe for probe in self.probes if probe.name == name and probe.status == "ok"]

    def cases(self, name: str) -> list[tuple[str, Any]]:
        """Their cases, each with its workload."""
        return [(probe.workload, case) for probe in self.probed(name) for case in probe.cases]

    def peak(self, engine: str) -> float | None:
        """GFLOP/s that one core was measured to do with the vectors of an engine."""
        return self.run.get(f"peak_{engine}_gfma_flops")

    def save(self, path: Path) -> None:
        import pyperf

        benchmarks = []
        for row in (row for row in self.rows if row.ok and row.values):
            facts = {**self.run, **row.info, "name": row.name, "unit": "second",
                     "variant": row.variant, "workload": row.workload, "batch_size": row.batch,
                     "loss": row.loss}  # fmt: skip
            known = {k: _one_line(v) for k, v in as_written(facts).items() if v is not None}
            benchmarks.append(pyperf.Benchmark([
                pyperf.Run([value], metadata={**known, **r.facts()}, collect_metadata=False)
                for value, r in zip(row.values, row.rounds, strict=True)
            ]))  # fmt: skip
        data: dict[str, Any] = {"version": "1.0", "benchmarks": []}
        if benchmarks:  # of none pyperf makes no suite
            buffer = io.StringIO()
            pyperf.BenchmarkSuite(benchmarks).dump(buffer)
            data = json.loads(buffer.getvalue())
        data["pymicrogpt"] = {"format": FORMAT, **asdict(self)}
        data["pymicrogpt"]["rows"] = [_short(row) for row in self.rows]
        text = json.dumps(as_written(data), separators=(",", ":"), allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """From a result file, or the folder of its report. ValueError, which says what is missing,
        when it is no result file of this benchmark."""
        path = path / "results.json" if path.is_dir() else path
        content = path.read_bytes()
        try:
            content = gzip.decompress(content) if path.suffix == ".gz" else content
            data = json.loads(content, parse_constant=_refuse)
            (ours,) = _members(data, "the file", "pymicrogpt")
            (version,) = _members(ours, "'pymicrogpt'", "format")
            if version not in range(1, FORMAT + 1):
                raise ValueError(f"its format is {version!r}; known are 1 to {FORMAT}")
            names = ("run", "workloads", "rows", "published", "published_source")
            run, workloads, records, published, source = _members(ours, "'pymicrogpt'", *names)
            wanted = ("cpu_model_name", "pymicrogpt_version", "date", "corpus")
            for name, value in zip(wanted, _members(run, "'run'", *wanted), strict=True):
                check(value, str, f"{name!r} of 'run'")
            for name, value in run.items():
                is_measured = name.startswith(("peak_", *ACTIVITY))
                check(value, float if is_measured else str | float | None, f"{name!r} of 'run'")
            check(workloads, dict[str, WorkloadFacts], "'workloads'")
            check(published, dict[str, dict[str, float]], "'published'")
            check(source, str, "'published_source'")
            rows = {row.name: row for row in _records(Row, "row", records)}
            for row in rows.values():
                if row.group not in GROUPS or row.workload not in workloads:
                    raise ValueError(f"row {row.name} is of no known group or workload")
                if version < 3:
                    row.steady = True  # as all rows were timed
                if version == 1:
                    row.peak_memory = 0  # it was that of the process which had started its own
            probes = _records(Probe, "probe", ours.get("probes", []))
            _load_rounds(path, rows, *_members(data, "the file", "benchmarks"))
            for row in rows.values():
                if row.ok and not row.values:
                    row.status, row.reason = "error", "its rounds are not in the result file"
            variants = ours.get("variants", {})
            check(variants, dict[str, VariantFacts], "'variants'")
            return cls(run, workloads, list(rows.values()), published, source, probes, variants)
        except Exception as error:  # gzip, JSON and pyperf have many ways to fail
            raise ValueError(f"{path} is not a result file of bench.run_all: {error}") from error


def _load_rounds(path: Path, rows: dict[str, Row], benchmarks: list[Any]) -> None:
    import pyperf

    if not benchmarks:
        return
    try:
        suite = pyperf.BenchmarkSuite.load(str(path))
    except Exception as error:  # it fails in any way on what it does not expect
        raise ValueError(f"pyperf cannot read its benchmarks ({error})") from error
    for benchmark in suite:
        name = benchmark.get_name()
        if name not in rows:
            raise ValueError(f"it has a benchmark {name!r} and no such row")
        row = rows[name]
        for run in benchmark.get_runs():
            row.values += run.values
            row.rounds.append(Round.of(run.get_metadata(), f"a run of {name}"))


def _members(found: Any, what: str, *names: str) -> list[Any]:
    """Of a JSON object; ValueError, which names what is not there."""
    if not isinstance(found, Mapping):
        raise ValueError(f"{what} is no object")
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"{what} has no {missing[0]!r}")
    return [found[name] for name in names]


Record = TypeVar("Record", Row, Probe)
IN_WORDS: dict[Any, str] = {  # the types of JSON
    str: "text", int: "a whole number, 0 or more", float: "a number, 0 or more",
    bool: "true or false", list: "a list", dict: "an object", type(None): "null",
}  # fmt: skip


def check(value: Any, kind: Any, what: str) -> None:
    """ValueError, which says what and where it is, for a value of JSON that is not of this type.
    Numbers are finite and not below 0, as all that is measured."""
    origin, of = get_origin(kind), get_args(kind)
    kinds = of if origin in (Union, UnionType) else (origin or kind,)
    inside: list[tuple[Any, Any, str]] = []  # values, their types, and what they are
    if is_typeddict(kind):
        _members(value, what, *sorted(kind.__required_keys__))
        hints = get_type_hints(kind).items()
        inside = [(value[name], each, repr(name)) for name, each in hints if name in value]
    elif kind is not Any and not any(_is(value, each) for each in kinds):
        wanted = " or ".join(IN_WORDS[each] for each in kinds)
        raise ValueError(f"{what} must be {wanted}, not {json.dumps(value)[:40]}")
    elif origin is dict:
        inside = [(item, of[1], repr(name)) for name, item in value.items()]
    elif origin is list:
        inside = [(item, of[0], f"[{index}]") for index, item in enumerate(value)]
    for item, each, name in inside:
        check(item, each, f"{name} of {what}")


def _is(value: Any, kind: Any) -> bool:
    if kind is float:
        return type(value) in (int, float) and 0 <= value < MOST
    return type(value) is kind and (kind is not int or 0 <= value < MOST)


def _records(kind: type[Record], what: str, found: Any) -> list[Record]:
    hints = get_type_hints(kind)
    needed = [f.name for f in fields(kind) if f.default is f.default_factory is MISSING]
    check(found, list[dict[str, Any]], f"the {what}s")
    for index, values in enumerate(found):
        _members(values, f"{what} {index}", *needed)
        if unknown := set(values) - set(hints):
            raise ValueError(f"{what} {index} has an unknown {min(unknown)!r}")
        for name, value in values.items():
            if name not in ("rounds", "values", "cases"):
                check(value, hints[name], f"{name!r} of {what} {index}")
    return [kind(**values) for values in found]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def _short(row: Row) -> dict[str, Any]:
    """Without what is as by default, and the rounds, which are in the benchmarks."""
    usual = {f.name: f.default if f.default is not MISSING else None for f in fields(Row)}
    return {
        name: value
        for name, value in asdict(row).items()
        if name not in ("rounds", "values") and value not in (usual[name], {})
    }


def as_written(value: Any) -> Any:
    """To DIGITS digits, and with null for what is no number: JSON has no NaN and no infinity."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: as_written(item) for key, item in value.items()}
    return [as_written(item) for item in value] if isinstance(value, (list, tuple)) else value


def _one_line(value: Any) -> str | int | float:
    """pyperf wants metadata that is a number or on one line, and never empty."""
    return value if isinstance(value, (int, float)) else " ".join(str(value).split()) or "-"
