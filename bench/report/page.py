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
import html
import re
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

from bench.report.format import TIMES, WARNING, digits, per_cent, provenance
from bench.report.method import METHOD, PUBLISHED, warnings
from bench.report.part import Drawing, Drawn, Part, Table, number_columns, used_columns
from bench.report.plot import Spot
from bench.results import ACTIVITY, BASELINE, Estimate, Results, Row

STYLE, SCRIPT = (
    Path(__file__).with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".css", ".js")
)

TOLD = tuple(key for key in ACTIVITY if key != "load_avg_1min")  # of each round: for size


def page(results: Results, parts: list[Part], data: bytes) -> str:
    """The HTML of a report; `data` are the bytes of its result file."""
    ends = (
        ("method", "Method", paragraphs(METHOD)),
        ("published", "Published elsewhere", paragraphs(PUBLISHED) + published(results)),
        ("machine", "Machine", machine(results)),
        ("rounds", "Every round", rounds(results, data)),
    )
    links = [(f"part{i}", part.heading) for i, part in enumerate(parts) if part.level == 2]
    links += [(name, heading) for name, heading, _ in ends]
    words, text = headline(results)
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy()}">\n',
            f'<title>{escape(text)}</title>\n<link rel="icon" href="data:,">\n',
            f"<style>{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{words}</h1>\n",
            f'<p class="quiet">{escape(provenance(results).replace(" | ", " · "))}</p>\n',
            cards(results),
            warning_box(results),
            contents(links),
            "</header>\n<main>\n",
            *(section(f"part{i}", part) for i, part in enumerate(parts)),
            *(
                f'<section aria-labelledby="{name}">\n<h2 id="{name}">{heading}</h2>\n{body}'
                "</section>\n"
                for name, heading, body in ends
            ),
            f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


def escape(text: object) -> str:
    return html.escape(str(text), quote=True)


def policy() -> str:
    """No request to anywhere, and no style or script but those of this file."""
    allowed = (
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in (STYLE, SCRIPT)
    )
    style, script = allowed
    return f"default-src 'none'; img-src data:; style-src {style}; script-src {script}"


def claim(what: str, row: Row, value: float, text: str) -> str:
    """A number of the headline, with the row it stands for and all of its digits."""
    return f'<data value="{value!r}" data-{what}="{escape(row.name)}">{escape(text)}</data>'


def headline(results: Results) -> tuple[str, str]:
    """The finding of the run as HTML and as text: the largest speed-up over CPython."""
    best = [row for name in results.workloads if (row := results.fastest(name))]
    if not best:
        return "Nothing was measured", "Nothing was measured"
    sped = [(factor.value, row) for row in best if (factor := results.speedup(row))]
    if not sped or all(row.variant == BASELINE for _, row in sped):
        row = best[0]
        before, number, after = "in ", f"{digits(row.microseconds)} µs", " a sample"
        marked = claim("microseconds", row, row.microseconds, number)
    else:
        most, row = max(sped, key=lambda pair: pair[0])
        before, number, after = "", digits(most) + TIMES, " as fast as CPython at batch 1"
        marked = claim("speedup", row, most, number)
    before = f"{row.prose} trains {row.workload} {before}"
    return escape(before) + marked + after, before + number + after


def cards(results: Results) -> str:
    """For each workload and batch size the fastest row and its numbers."""
    fastest: dict[tuple[str, int], Row] = {}
    for name in results.workloads:
        for row in sorted(results.ranked(name), key=lambda row: row.batch):
            fastest.setdefault((name, row.batch), row)
    items = []
    for row in fastest.values():
        time, speedup = row.estimate, results.speedup(row)
        lines = [
            f"{escape(row.workload)}: {escape(row.title)}",
            f"<strong>{claim('microseconds', row, time.value, digits(time.value))} µs</strong> "
            f"per sample ({ends('microseconds', row, time)})",
        ]
        if speedup and row.variant != BASELINE:
            factor = claim("speedup", row, speedup.value, digits(speedup.value) + TIMES)
            mark = f" {WARNING}" if speedup.doubts() else ""
            lines.append(f"{factor} CPython ({ends('speedup', row, speedup)}){mark}")
        rate, peak = results.gflops(row), results.run.get("peak_gflops")
        text = f"{claim('gflops', row, rate, digits(rate))} GFLOP/s"
        if peak:
            text += f", {claim('share', row, rate / peak, per_cent(rate / peak))} of the FMA peak"
        doubts = time.doubts()
        lines += [text, *([f"{WARNING} {escape(', '.join(doubts))}"] if doubts else [])]
        items.append(f"<li>{'<br>'.join(lines)}</li>\n")
    return f'<ul class="cards">\n{"".join(items)}</ul>\n' if items else ""


def ends(what: str, row: Row, found: Estimate) -> str:
    """An interval of the headline."""
    if found.rounds == 1:
        return "one round"
    low = claim(f"{what}-low", row, found.low, digits(found.low))
    high = claim(f"{what}-high", row, found.high, digits(found.high))
    return f"{100 * found.level:.0f} % interval {low} to {high}"


def warning_box(results: Results) -> str:
    words = warnings(results)
    if not words:
        return ""
    items = "".join(f"<li>{escape(text)}</li>\n" for text in words)
    return (
        f'<section class="warnings" aria-labelledby="warnings">\n<h2 id="warnings">{WARNING} '
        f"Before you read the numbers</h2>\n<ul>\n{items}</ul>\n</section>\n"
    )


def contents(links: list[tuple[str, str]]) -> str:
    items = "".join(
        f'<li><a href="#{name}">{escape(heading.partition(":")[0])}</a></li>\n'
        for name, heading in links
    )
    return f'<nav aria-label="Contents">\n<ul>\n{items}</ul>\n</nav>\n'


def section(name: str, part: Part) -> str:
    """Sections of level 3 follow that of level 2 which they belong to."""
    text = [f'<h{part.level} id="{name}">{escape(part.heading)}</h{part.level}>\n']
    text.append(paragraphs(part.text))
    text += [picture(drawing) for drawing in part.drawings]
    text += [table(lines, part.heading) for lines in part.tables]
    text += [f"<p>{WARNING} {escape(words)}</p>\n" for words in part.missing]
    return f'<section aria-labelledby="{name}">\n{"".join(text)}</section>\n'


def paragraphs(text: str) -> str:
    """Text of our own: paragraphs, *emphasis* and `code`."""
    text = escape(text.strip())
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)
    return "".join(f"<p>{block}</p>\n" for block in re.split(r"\n{2,}", text) if block)


def picture(drawing: Drawing) -> str:
    wide = drawing.wide
    return (
        '<figure>\n<picture><source media="(max-width: 40rem)" '
        f'srcset="{svg_uri(drawing.narrow.svg).replace(" ", "%20")}">'
        f'<img alt="{escape(f"{wide.title}. {wide.notes}")}" src="{svg_uri(wide.svg)}"></picture>\n'
        f"{spots(wide, 'wide', told=True)}"
        f"{spots(drawing.narrow, 'narrow', len(drawing.narrow.spots) != len(wide.spots))}"
        "</figure>\n"
    )


def spots(drawn: Drawn, layout: str, told: bool) -> str:
    """Above the image of a layout: its values, told by the browser where the pointer rests on them,
    and by the script at a tap and by keyboard too. The texts are `told` in the wide layout; a phone
    has no pointer, so that the script finds them there, where both layouts have the same values."""
    if not drawn.spots:
        return ""
    width, height = drawn.pixels

    def rect(s: Spot) -> str:
        where = f'<rect x="{s.x:.0f}" y="{s.y:.0f}" width="{s.width:.0f}" height="{s.height:.0f}"'
        if not told:
            return where + "/>"
        row = escape(implementation(s.name))
        return f'{where} data-row="{row}"><title>{escape(s.text)}</title></rect>'

    return (
        f'<svg class="spots {layout}" viewBox="0 0 {width:.0f} {height:.0f}" role="group" '
        'preserveAspectRatio="none" aria-label="Values of the figure">'
        f"{''.join(map(rect, drawn.spots))}</svg>\n"
    )


def implementation(name: str) -> str:
    """Of "d16, AVX2, batch 1" and the like: page.js finds it in tables in the same way."""
    return re.sub(r"^d\d+, ", "", name).partition(", batch")[0]


def svg_uri(svg: str) -> str:
    """For an attribute in double quotes: shorter than base64."""
    text = svg.replace("%", "%25").replace("#", "%23").replace('"', "'").replace("&", "&amp;")
    return f"data:image/svg+xml,{text}"


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def table(lines: Table, caption: str) -> str:
    """A table that scrolls inside of its box where the page is narrow.

    The last cell of a line takes the place of empty ones before it: a reason is seen at once.
    """
    columns, right = used_columns(lines), number_columns(lines)
    all_right = len(right) == len(columns) - 1  # said once for the table, not in every cell

    def cell(tag: str, i: int, text: str, more: str = "") -> str:
        style = ' class="number"' if i in right and not all_right else ""
        return f"<{tag}{style}{more}>{escape(text)}</{tag.split()[0]}>"

    def cells(line: tuple[str, ...]) -> str:
        first, *middle, last = (line[i] for i in columns)
        empty = len(list(takewhile(lambda text: not text, reversed(middle))))
        empty = 0 if columns[-1] in right else empty  # a number stays in its column
        middle = middle[: len(middle) - empty]
        text = cell('th scope="row"', columns[0], first)
        text += "".join(cell("td", i, t) for i, t in zip(columns[1:], middle, strict=False))
        return text + cell("td", columns[-1], last, f' colspan="{empty + 1}"' if empty else "")

    head = "".join(cell('th scope="col"', i, lines[0][i]) for i in columns)
    body = "".join(f"<tr{row_class(line)}>{cells(line)}</tr>\n" for line in lines[1:])
    label, numbers = escape(caption), ' class="numbers"' if all_right else ""
    return (
        f'<div class="box" role="region" tabindex="0" aria-label="{label}">\n'
        f"<table{numbers}>\n"
        f"<caption>{label}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n"
        "</table>\n</div>\n"
    )


def row_class(line: tuple[str, ...]) -> str:
    last = line[-1]
    kinds = (("error: ", "error"), ("published elsewhere: ", "published"), (WARNING, "doubtful"))
    return next((f' class="{name}"' for start, name in kinds if last.startswith(start)), "")


def published(results: Results) -> str:
    lines: Table = [("workload", "implementation", "µs per sample", "source")]
    for workload, times in results.published.items():
        for name, microseconds in times.items():
            source = f"published elsewhere: {results.published_source}"
            lines.append((workload, name, f"{microseconds:,}", source))
    return table(lines, "Published elsewhere") if len(lines) > 1 else ""


def machine(results: Results) -> str:
    facts = [(key, " ".join(str(value).split())) for key, value in results.run.items()]
    return table([("fact", "value"), *facts], "Where and with what this was measured")


def rounds(results: Results, data: bytes) -> str:
    packed = data_uri("application/gzip", gzip.compress(data, mtime=0))
    link = f'<a download="results.json.gz" href="{packed}">'
    head = ("row", "round", "µs per sample", "seconds", "steps", "positions")
    return (
        f"<p>{link}Download results.json.gz</a>: every round in pyperf's format.</p>\n"
        "<details>\n<summary>All rounds as a table</summary>\n"
        + table([(*head, *(key.replace("_", " ") for key in TOLD)), *raw(results)], "Rounds")
        + "</details>\n"
    )


def raw(results: Results) -> Iterable[tuple[str, ...]]:
    for row in results.rows:
        for i, (value, r) in enumerate(zip(row.values, row.rounds, strict=True), 1):
            counts = (r.steps, r.positions)
            yield (
                f"{row.workload}, {row.title}",
                str(i),
                f"{1e6 * value:.6g}",
                f"{r.seconds:.6g}",
                *map(str, counts),
                *(str(r.activity.get(key, "")) for key in TOLD),
            )
