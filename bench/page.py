"""The report as one page for the browser: index.html, which asks for nothing outside of itself.

Figures are inside of it, in a wide layout and one for the phone; so is the result file, for
download. Without JavaScript everything is there; with it, tables can be sorted. Whatever comes from
a variant or a machine is escaped, and the page allows itself no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable
from itertools import takewhile

from bench import figures
from bench.figures import Drawn
from bench.figures.style import TIMES, WARNING, digits, per_cent, provenance
from bench.results import ACTIVITY, BASELINE, Results, Row
from bench.sections import sections
from bench.statistics import Estimate
from bench.tables import METHOD, PUBLISHED, Part, Table, number_columns, used_columns, warnings

STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1c1c1c; --quiet: #595959; --line: #d4d4d4;
  --soft: #f4f4f6; --accent: #6d21a0; --warn: #7a4a00; --warn-back: #fff5df; --bad: #a1120a; }
@media (prefers-color-scheme: dark) {
  :root { --back: #17171a; --ink: #ececec; --quiet: #ababab; --line: #45454c; --soft: #232328;
    --accent: #cf9cf0; --warn: #ffcf7d; --warn-back: #33290f; --bad: #ff8f85; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--back); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: clamp(1.5rem, 4.5vw, 2.5rem); line-height: 1.15; margin: .5rem 0; }
h2 { margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 2px solid var(--line); }
h3 { margin: 2rem 0 .5rem; }
p, li { max-width: 46rem; }
a { color: var(--accent); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: 0; list-style: none; }
.quiet, .published td, .published th { color: var(--quiet); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 1rem;
  padding: 0; list-style: none; }
.cards li { background: var(--soft); border-radius: .5rem; padding: .75rem 1rem; }
.cards strong { font-size: 1.6rem; }
.warnings { background: var(--warn-back); color: var(--warn); border-radius: .5rem;
  padding: .1rem 1rem; border-left: .3rem solid; }
figure { margin: 1.25rem 0; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: .4rem; }
.box { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .4rem .6rem; color: var(--quiet); }
th, td { padding: .3rem .6rem; text-align: left; white-space: nowrap; vertical-align: top; }
.number { text-align: right; }
td:last-child:not(.number) { white-space: normal; min-width: 18rem; }
thead th { background: var(--soft); }
tbody tr { border-top: 1px solid var(--line); }
tbody th { font-weight: inherit; }
th:first-child { position: sticky; left: 0; background: var(--back); }
@media (max-width: 40rem) { tbody th { white-space: normal; min-width: 9rem; } }
.warnings h2 { border: 0; margin: 0; font-size: 1.15rem; }
.error td, .error th { color: var(--bad); font-weight: bold; }
.doubtful td:last-child { color: var(--warn); }
th button { all: unset; cursor: pointer; font-weight: bold; }
th button:focus-visible { outline: 2px solid var(--accent); }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
"""
SCRIPT = """
const value = cell => {
  const text = cell?.textContent.trim() ?? "", number = parseFloat(text.replace(/[,<\\s]/g, ""));
  return /^[<\\d]/.test(text) && !isNaN(number) ? number : text;
};
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows].map(row => [value(row.cells[column]), row]);
      const rank = x => x === "" ? 2 : typeof x === "string" ? 1 : 0;  // numbers, text, nothing
      rows.sort(([a], [b]) => rank(a) - rank(b) ||
        (up ? 1 : -1) * (rank(a) ? String(a).localeCompare(b) : a - b));
      table.tBodies[0].append(...rows.map(([, row]) => row));
    };
  });
}
"""


def page(results: Results, drawn: list[Drawn], data: bytes) -> str:
    """The HTML of a report; `data` are the bytes of its result file."""
    narrow = {figure.name: figure for figure in figures.draw(results, narrow=True)}
    parts = sections(results, drawn)
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
            *(section(f"part{i}", part, narrow) for i, part in enumerate(parts)),
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
        factor, row = max(sped, key=lambda pair: pair[0])
        before, number, after = "", digits(factor) + TIMES, " as fast as CPython at batch 1"
        marked = claim("speedup", row, factor, number)
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


def section(name: str, part: Part, narrow: dict[str, Drawn]) -> str:
    """Sections of level 3 follow that of level 2 which they belong to."""
    text = [f'<h{part.level} id="{name}">{escape(part.heading)}</h{part.level}>\n']
    text.append(paragraphs(part.text))
    text += [picture(figure, narrow.get(figure.name)) for figure in part.figures]
    text += [table(lines, part.heading) for lines in part.tables]
    text += [f"<p>{WARNING} {escape(words)}</p>\n" for words in part.missing]
    return f'<section aria-labelledby="{name}">\n{"".join(text)}</section>\n'


def paragraphs(text: str) -> str:
    """Text of our own: paragraphs, *emphasis* and `code`."""
    text = escape(text.strip())
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    text = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", text)
    return "".join(f"<p>{block}</p>\n" for block in re.split(r"\n{2,}", text) if block)


def picture(wide: Drawn, narrow: Drawn | None) -> str:
    source = (
        f'<source media="(max-width: 40rem)" srcset="{data_uri("image/png", narrow.png)}">'
        if narrow
        else ""
    )
    return (
        f'<figure>\n<picture>{source}<img alt="{escape(f"{wide.title}. {wide.notes}")}" '
        f'src="{data_uri("image/png", wide.png)}"></picture>\n</figure>\n'
    )


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def table(lines: Table, caption: str) -> str:
    """A table that scrolls inside of its box where the page is narrow.

    The last cell of a line takes the place of empty ones before it: a reason is seen at once.
    """
    columns, right = used_columns(lines), number_columns(lines)

    def cell(tag: str, i: int, text: str, more: str = "") -> str:
        style = ' class="number"' if i in right else ""
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
    label = escape(caption)
    return (
        f'<div class="box" role="region" tabindex="0" aria-label="{label}">\n<table>\n'
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
    link = f'<a download="results.json" href="{data_uri("application/json", data)}">'
    head = ("row", "round", "µs per sample", "seconds", "steps", "documents", "positions")
    return (
        f"<p>{link}Download results.json</a>: every round in pyperf's format.</p>\n"
        "<details>\n<summary>All rounds as a table</summary>\n"
        + table([(*head, *(key.replace("_", " ") for key in ACTIVITY)), *raw(results)], "Rounds")
        + "</details>\n"
    )


def raw(results: Results) -> Iterable[tuple[str, ...]]:
    for row in results.rows:
        for i, (value, r) in enumerate(zip(row.values, row.rounds, strict=True), 1):
            counts = (r.steps, r.documents, r.positions)
            yield (
                f"{row.workload}, {row.title}",
                str(i),
                f"{1e6 * value:.6g}",
                f"{r.seconds:.6g}",
                *map(str, counts),
                *(str(r.activity.get(key, "")) for key in ACTIVITY),
            )
