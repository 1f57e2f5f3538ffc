"""The result file: pyperf's JSON, so that pyperf's commands work on it, and what we add to it.

Every row that was measured is a pyperf benchmark named workload/batch/variant: one run for each
round, its value in seconds per sample. Under the key "pymicrogpt" stand the machine, the workloads,
all rows, also those without a value and why, and what the probes found. Tables and figures are made
from this file alone.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from bench.statistics import Estimate, estimate, ratio

FORMAT = 3  # 1 had no `activity` of rounds and no `engine_memory` of rows, 2 no `coverage`
BASELINE = "cpython"
ACTIVITY = ("steal_percent", "busy_cores", "load_avg_1min")


@dataclass
class Round:
    """What was timed in one round."""

    seconds: float
    steps: int
    documents: int
    positions: int
    activity: dict[str, float] = field(default_factory=dict)  # machine.Watch.facts(), if recorded


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
    def microseconds(self) -> float:
        """Per sample, the median of the rounds."""
        return 1e6 * median(self.values)

    @property
    def estimate(self) -> Estimate:
        """Microseconds per sample with their interval."""
        return estimate(self.values) * 1e6

    @property
    def wall_seconds(self) -> float:
        """Of all timed steps."""
        return sum(r.seconds for r in self.rounds)


def over(row: Row, other: Row) -> Estimate:
    """How many times as fast `row` is as `other`, by the ratios of their rounds."""
    return ratio(other.values, row.values)


@dataclass
class Probe:
    """What one probe (bench/probes.py) found on one workload, or on workloads of its own."""

    name: str
    workload: str  # empty: of none
    engine: str
    label: str  # of the engine
    status: str = "ok"  # ok, error or skipped
    reason: str = ""  # why it is not ok
    cases: list[dict] = field(default_factory=list)  # raw values, as the probe describes them


@dataclass
class Results:
    """Everything that one run found."""

    run: dict[str, str | int | float]  # machine, version, corpus, options
    workloads: dict[str, dict]  # Workload.describe(), mean_positions, flops_per_sample, num_params
    rows: list[Row]
    published: dict[str, dict[str, float]]
    published_source: str
    probes: list[Probe] = field(default_factory=list)

    def of(self, workload: str, status: str = "ok") -> list[Row]:
        return [row for row in self.rows if row.workload == workload and row.status == status]

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
        """The fastest first, without variations of another row: these are to explain it."""
        rows = [row for row in self.of(workload) if not row.variation_of]
        return sorted(rows or self.of(workload), key=lambda row: row.microseconds)

    def fastest(self, workload: str) -> Row | None:
        return next(iter(self.ranked(workload)), None)

    def gflops(self, row: Row) -> float:
        return self.workloads[row.workload]["flops_per_sample"] / row.microseconds * 1e-3

    def probed(self, name: str) -> list[Probe]:
        """Those of that name that have values."""
        return [probe for probe in self.probes if probe.name == name and probe.status == "ok"]

    def peak(self, engine: str) -> float | None:
        """GFLOP/s that one core was measured to do with the vectors of an engine."""
        return self.run.get(f"peak_{engine}_gfma_flops")

    def save(self, path: Path) -> None:
        import pyperf

        benchmarks = []
        for row in self.rows:
            if not row.ok:
                continue
            facts = {
                **{key: _one_line(value) for key, value in self.run.items()},
                **{key: _one_line(value) for key, value in row.info.items()},
                "name": row.name,
                "unit": "second",
                "variant": row.variant,
                "workload": row.workload,
                "batch_size": row.batch,
                "loss": row.loss,
            }
            runs = [
                pyperf.Run(
                    [value],
                    metadata={
                        **facts,
                        "duration": r.seconds,
                        "loops": r.documents,
                        "steps": r.steps,
                        "positions": r.positions,
                        **{f"round_{key}": value for key, value in r.activity.items()},
                    },
                    collect_metadata=False,
                )
                for value, r in zip(row.values, row.rounds, strict=True)
            ]
            benchmarks.append(pyperf.Benchmark(runs))

        data = {"version": "1.0", "benchmarks": []}  # pyperf has no suite without a benchmark
        if benchmarks:
            buffer = io.StringIO()
            pyperf.BenchmarkSuite(benchmarks).dump(buffer)
            data = json.loads(buffer.getvalue())
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            del row["rounds"], row["values"]  # they are in the benchmarks
        data["pymicrogpt"] = {
            "format": FORMAT,
            "run": self.run,
            "workloads": self.workloads,
            "rows": rows,
            "published": self.published,
            "published_source": self.published_source,
            "probes": [asdict(probe) for probe in self.probes],
        }
        path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """ValueError when the file is not a result of this benchmark."""
        import pyperf

        text = path.read_bytes()
        try:
            data = json.loads(text)
            ours = data["pymicrogpt"]
            if ours["format"] not in range(1, FORMAT + 1):
                raise ValueError(f"format {ours['format']}; known are 1 to {FORMAT}")
            rows = {}
            for record in ours["rows"]:
                row = Row(**record)
                if ours["format"] < 3:
                    row.steady = True  # as all rows were timed
                if ours["format"] == 1:
                    row.peak_memory = 0  # it was that of the process which had started its own
                rows[row.name] = row
            probes = [Probe(**record) for record in ours.get("probes", [])]
            if data["benchmarks"]:
                for benchmark in pyperf.BenchmarkSuite.load(str(path)):
                    row = rows[benchmark.get_name()]
                    for run in benchmark.get_runs():
                        facts = run.get_metadata()
                        row.values += run.values
                        row.rounds.append(
                            Round(
                                facts["duration"],
                                facts["steps"],
                                facts["loops"],
                                facts["positions"],
                                {k: facts[f"round_{k}"] for k in ACTIVITY if f"round_{k}" in facts},
                            )
                        )
            return cls(
                run=ours["run"],
                workloads=ours["workloads"],
                rows=list(rows.values()),
                published=ours["published"],
                published_source=ours["published_source"],
                probes=probes,
            )
        except Exception as error:  # pyperf fails in any way on what it does not expect
            raise ValueError(f"{path} is not a result file of bench.run_all: {error}") from error


def _one_line(value: str | int | float) -> str | int | float:
    """pyperf wants metadata on one line, and never empty."""
    return (" ".join(value.split()) or "-") if isinstance(value, str) else value
