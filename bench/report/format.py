"""Numbers and words as the report writes them: the one place for both figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.results import LEVEL, SPREAD_LIMIT, Estimate, Results, Row, VariantFacts

TIMES = "\N{MULTIPLICATION SIGN}"
WARNING = "\N{WARNING SIGN}"  # beside a value that is known too badly
WARNED = (  # below figures
    f"{WARNING}: known no better than \N{PLUS-MINUS SIGN}{100 * SPREAD_LIMIT:.0f} %, of few "
    "rounds, or beside a neighbour"
)


def digits(value: float) -> str:
    """Three significant digits, two below 1, thousands separated: 0.0043, 0.85, 12.3, 1,230."""
    if value >= 99.95:
        return f"{float(f'{value:.3g}'):,.0f}"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.0995 or not value else f"{value:.2g}"


def times(factor: float) -> str:
    return f"{digits(factor)}{TIMES}"


def micro(microseconds: float) -> str:
    return f"{digits(microseconds)} µs"


def duration(microseconds: float) -> str:
    """In the unit that keeps it short."""
    for size, unit in ((1e6, "s"), (1e3, "ms")):
        if microseconds >= size:
            return f"{digits(microseconds / size)} {unit}"
    return micro(microseconds)


def training_time(seconds: float) -> str:
    return "one second" if seconds == 1 else f"{seconds:g} s"


def per_cent(fraction: float) -> str:
    if fraction < 0.001:
        return "< 0.1 %"
    return f"{100 * fraction:.1f} %" if fraction < 0.0995 else f"{100 * fraction:.0f} %"


def interval(found: Estimate) -> str:
    """Its ends, and the level where that is not the usual one."""
    if found.rounds == 1:
        return "none"
    ends = f"{digits(found.low)} to {digits(found.high)}"
    return ends if found.level == LEVEL else f"{ends} ({100 * found.level:.0f} %)"


def with_interval(
    found: Estimate | None, written: Callable[[float], str] = digits
) -> tuple[str, str]:
    """Two cells of a table, empty where there is no value."""
    return (written(found.value), interval(found)) if found else ("", "")


def exact(found: Estimate) -> str:
    """A value to five digits, with its interval and what that is worth."""
    value, low, high = (
        f"{float(f'{number:.5g}'):,.10g}" for number in (found.value, found.low, found.high)
    )
    if found.rounds < 2:
        return f"{value} (no interval)" if found.rounds else value
    worth = f"{100 * found.level:.0f} % of {found.rounds} rounds"
    return f"{value} ({low} to {high}, {worth})"


def megabytes(count: float) -> str:
    return f"{digits(count / 1e6)} MB"


def warned(text: str, doubts: list[str]) -> str:
    """With a mark behind it where there are doubts."""
    return f"{text} {WARNING}" if doubts else text


def provenance(results: Results, threads: str = "one thread") -> str:
    about = results.run
    version = f"pymicrogpt {about['pymicrogpt_version']}"
    if about.get("commit"):
        version += f" ({about['commit']})"
    return (
        f"{about['cpu_model_name']}, {threads} | {version} | {about['date'][:10]} | "
        f"{about['corpus']}"
    )


def verdict(factor: Estimate) -> str:
    """Of a ratio, for a table."""
    doubts = factor.doubts_as_ratio()
    return f"{WARNING} {', '.join(doubts)}" if doubts else "holds"


def explained(results: Results) -> dict[str, VariantFacts]:
    """The variants that have a row with a value or an error, and words about them."""
    measured = {row.variant for row in results.rows if row.status in ("ok", "error")}
    return {n: v for n, v in results.variants.items() if n in measured and v["about"]}


def heading(results: Results, workload: str) -> str:
    w = results.workloads[workload]
    return (
        f"{workload}: n_embd {w['n_embd']}, n_layer {w['n_layer']}, n_head {w['n_head']}, "
        f"block_size {w['block_size']}, {w['num_params']:,} parameters"
    )


def row_list(rows: Iterable[Row]) -> str:
    """The first three."""
    names = [f"{row.workload}, {row.title}" for row in rows]
    return "; ".join(names[:3]) + (" and others" if len(names) > 3 else "")
