"""The report as one page for the browser: index.html, which asks for nothing outside of itself.

Figures are inside of it, in a wide layout and one for the phone; so is the result file, for
download. Without JavaScript everything is there, and a value of a figure is told where the pointer
rests on it; with it, at a tap and by the arrow keys too, tables can be sorted, and implementations
switched off. Whatever comes from a variant or a machine is escaped, and the page allows itself no
script but its own.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from bench.report.format import TIMES, WARNING, digits, explained, per_cent, provenance
from bench.report.method import METHOD, PUBLISHED, warnings
from bench.report.part import PICTURE, Drawn, Part, Table, number_columns, used_columns
from bench.results import BASELINE, Estimate, Results, Row, grouped, over

FOLDER = Path(__file__).parent
STYLE, SCRIPT = ((FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))


def page(results: Results, parts: list[Part], data: bytes, source: str | None) -> str:
    """The HTML of a report; `data` are the bytes of its result file, and `source` is where the
    files of the repository are, if anywhere."""
    templates = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    helpers = (used_columns, number_columns, kind, cells, paragraphs, svg_uri, implementation)
    templates.globals.update({helper.__name__: helper for helper in helpers})
    shown = (headline, cards, warnings, published, machine, rounds)
    variants = explained(results)
    templates.globals["row_names"] = {v["label"]: f"row-{name}" for name, v in variants.items()}
    return templates.get_template("page.html").render(
        policy=policy(),
        style=Markup(STYLE),
        script=Markup(SCRIPT),
        **{of.__name__: of(results) for of in shown},
        provenance=provenance(results).replace(" | ", " · "),
        parts=parts,
        method=METHOD,
        about_published=PUBLISHED,
        variants=variants,
        picture=PICTURE,
        source=source,
        packed=base64.b64encode(gzip.compress(data, mtime=0)).decode(),
        WARNING=WARNING,
    )


def policy() -> Markup:
    """No request to anywhere, and no style or script but those of this file."""
    style, script = (
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (STYLE, SCRIPT)
    )
    return Markup(f"default-src 'none'; img-src data:; style-src {style}; script-src {script}")


def claim(what: str, row: Row, value: float, text: str) -> Markup:
    """A number of the headline, with the row it stands for and all of its digits."""
    return Markup('<data value="{!r}" data-{}="{}">{}</data>').format(value, what, row.name, text)


def headline(results: Results) -> Markup:
    """The finding of the run: the largest speed-up over CPython."""
    if found := results.largest_speedup():
        base, row = found
        most = over(row, base).value
        number = claim("speedup", row, most, digits(most) + TIMES)
        words = Markup("{} trains {} {} as fast as CPython at batch 1")
        return words.format(row.prose, row.workload, number)
    fastest = [row for name in results.workloads for row in results.ranked(name)[:1]]
    if not fastest:
        return Markup("Nothing was measured")
    row = fastest[0]
    time = claim("microseconds", row, row.microseconds, f"{digits(row.microseconds)} µs")
    return Markup("{} trains {} in {} a sample").format(row.prose, row.workload, time)


def cards(results: Results) -> list[list[Markup]]:
    """Lines for each workload and batch size: the fastest row and its numbers."""
    return [
        list(card(results, rows[0]))
        for name in results.workloads
        for _, rows in sorted(grouped(results.ranked(name), lambda row: row.batch).items())
    ]


def card(results: Results, row: Row) -> Iterable[Markup]:
    time, speedup = row.estimate, results.speedup(row)
    yield escape(f"{row.workload}: {row.title}")
    yield Markup("<strong>{} µs</strong> per sample ({})").format(
        claim("microseconds", row, time.value, digits(time.value)), ends("microseconds", row, time)
    )
    if speedup and row.variant != BASELINE:
        factor = claim("speedup", row, speedup.value, digits(speedup.value) + TIMES)
        mark = f" {WARNING}" if speedup.doubts() else ""
        yield Markup("{} CPython ({}){}").format(factor, ends("speedup", row, speedup), mark)
    rate, peak = results.gflops(row), results.run.get("peak_gflops")
    text = Markup("{} GFLOP/s").format(claim("gflops", row, rate, digits(rate)))
    if peak:
        share = claim("share", row, rate / peak, per_cent(rate / peak))
        text += Markup(", {} of the FMA peak").format(share)
    yield text
    if doubts := row.estimate.doubts():
        yield escape(f"{WARNING} {', '.join(doubts)}")


def ends(what: str, row: Row, found: Estimate) -> Markup:
    """An interval of the headline."""
    if found.rounds == 1:
        return Markup("no interval")
    low = claim(f"{what}-low", row, found.low, digits(found.low))
    high = claim(f"{what}-high", row, found.high, digits(found.high))
    return Markup("{:.0f} % interval {} to {}").format(100 * found.level, low, high)


def paragraphs(text: str) -> Markup:
    """Text of our own: paragraphs, *emphasis* and `code`."""
    html = str(escape(text.strip()))
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    html = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html)
    return Markup("".join(f"<p>{block}</p>\n" for block in re.split(r"\n{2,}", html) if block))


def implementation(name: str) -> str:
    """Of "d16, AVX2, batch 1" and the like: page.js finds it in the same way."""
    return re.sub(r"^d\d+, ", "", name).partition(", batch")[0]


def svg_uri(drawn: Drawn) -> Markup:
    """For an attribute in double quotes: shorter than base64."""
    text = drawn.svg.replace("%", "%25").replace("#", "%23").replace('"', "'")
    return Markup("data:image/svg+xml," + text.replace("&", "&amp;"))


def cells(line: tuple[str, ...], columns: list[int], right: set[int]) -> list[tuple[int, str, int]]:
    """Column, text and width in columns. The last takes the place of empty ones before it: a reason
    is seen at once."""
    found = [(i, line[i], 1) for i in columns]
    while columns[-1] not in right and len(found) > 2 and not found[-2][1]:
        i, text, span = found.pop()  # a number would stay in its column
        found[-1] = (i, text, span + 1)
    return found


def kind(line: tuple[str, ...]) -> str:
    """Of a line of a table, for the style."""
    kinds = (("error: ", "error"), ("published elsewhere: ", "published"), (WARNING, "doubtful"))
    return next((name for start, name in kinds if line[-1].startswith(start)), "")


def published(results: Results) -> Table:
    lines: Table = [("workload", "implementation", "µs per sample", "source")]
    source = f"published elsewhere: {results.published_source}"
    for workload, times in results.published.items():
        lines += [(workload, name, f"{time:,}", source) for name, time in times.items()]
    return lines


def machine(results: Results) -> Table:
    facts = [(key, " ".join(str(value).split())) for key, value in results.run.items()]
    return [("fact", "value"), *facts]


def rounds(results: Results) -> Table:
    """Each row's, in their order; * is behind those of a core that could do less than its peak."""
    lines: Table = [("row", "steps of a round", "µs per sample, round by round")]
    for row in results.rows:
        if row.ok:
            each = zip(row.values, row.rounds, strict=True)
            times = [f"{digits(1e6 * value)}{'*' if r.disturbed else ''}" for value, r in each]
            steps = f"{row.rounds[-1].steps:,}"
            lines.append((f"{row.workload}, {row.title}", steps, "  ".join(times)))
    return lines
