"""What the report says of itself: how it was measured, and what a reader must know before."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from bench.report.format import WARNING, row_list
from bench.results import (
    GOOD_PEAK,
    LEVEL,
    QUIET_ROUNDS,
    SPREAD_LIMIT,
    Probe,
    Results,
    Row,
    is_crowded,
)

METHOD, PUBLISHED = (
    Path(__file__).with_name(name).read_text(encoding="utf-8")
    for name in ("method.md", "published.md")
)


def warnings(results: Results) -> list[str]:
    """What a reader must know before the numbers; empty after a quiet run without a fault."""
    words, about = [], results.run
    measured = [row for row in results.rows if row.ok]
    rounds = [r for row in results.rows for r in row.rounds]
    busy = [r.activity["busy_cores"] for r in rounds if "busy_cores" in r.activity]
    if busy and median(busy) > 1.2:
        words.append(
            f"Other programs kept {median(busy) - 1:.1f} cores busy while rows were timed "
            "(median of the rounds)."
        )
    if not busy and about.get("load_avg_1min", 0) > 1:  # a minute behind: the lesser witness
        words.append(
            f"The load average was {about['load_avg_1min']} when the run began: the machine was "
            "not idle."
        )
    if reason := about.get("corpus_reason"):
        words.append(f"Trained was on the names that the package has in it: {reason}.")
    if about.get("steal_percent", 0) > 1:
        words.append(f"{about['steal_percent']} % of the processor time went to other guests.")
    repeats = int(sum(r.activity.get("repeats", 0) for r in rounds))
    disturbed = sum(r.disturbed for r in rounds)
    beside = [row for row in measured if row.crowded]
    if repeats or disturbed:
        words.append(
            f"A neighbour was busy: before or after {disturbed} of {len(rounds)} rounds one core "
            f"could do less than {100 * GOOD_PEAK:.0f} % of its best"
            + (f", and {repeats:,} times a round was done again. " if repeats else ". ")
            + ("They do not count" if not beside else
               f"Where a row has fewer than {QUIET_ROUNDS} others, its fastest round counts: "
               f"{row_list(beside)}") + "."
        )  # fmt: skip
    probed = [
        case[key] for probe in results.probes for case in probe.cases for key in case
        if key.startswith("peak_shares")
    ]  # fmt: skip
    if count := sum(map(is_crowded, probed)):
        words.append(
            f"Of the {len(probed)} values of probes and trainings for quality {count} are of a "
            "round beside a neighbour."
        )
    if sittings := about.get("resumed"):
        words.append(
            f"The run was interrupted, and went on at {sittings}. Factors within a workload are of "
            "one sitting each; those between workloads may be of two."
        )
    wide = [row for row in measured if row.estimate.spread > SPREAD_LIMIT]
    if wide:
        worst = max(wide, key=lambda row: row.estimate.spread)
        words.append(
            f"Of {len(measured)} rows {len(wide)} {'is' if len(wide) == 1 else 'are'} known no "
            f"better than ±{100 * SPREAD_LIMIT:.0f} %, marked {WARNING}; the widest is "
            f"{worst.workload}, {worst.title}, ±{100 * worst.estimate.spread:.0f} %."
        )
    few = [row for row in measured if row.estimate.level < LEVEL]
    if few := [row for row in few if not row.crowded and row not in wide]:
        words.append(
            f"{len(few)} more {'has' if len(few) == 1 else 'have'} too few rounds for an interval "
            f"of 95 %: {row_list(few)}."
        )
    everything: list[Row | Probe] = [*results.rows, *results.probes]
    for found in everything:
        if found.status == "error":
            what = found.title if isinstance(found, Row) else f"probe {found.name}"
            of = f"{found.workload}, " if found.workload else ""
            words.append(f"Error: {of}{what}: {found.reason}")
    return words
