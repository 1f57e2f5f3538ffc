"""README.md of the report, for reading in a repository."""

from __future__ import annotations

import re

from bench.report.format import WARNING, explained, provenance
from bench.report.method import METHOD, warnings
from bench.report.part import Part, Table, number_columns, used_columns
from bench.results import Results, VariantFacts


def markdown_table(lines: Table) -> list[str]:
    columns = used_columns(lines)
    right = number_columns(lines)
    text = ["| " + " | ".join(escaped(line[i]) for i in columns) + " |" for line in lines]
    rule = "|" + "|".join("---:" if i in right else "---" for i in columns) + "|"
    return [text[0], rule, *text[1:]]


def escaped(text: str) -> str:
    """For a cell: what a variant calls itself, or says of itself, stays text."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return text.replace("|", "\\|").replace("]", "\\]")


def described(variant: VariantFacts, source: str | None) -> str:
    file = escaped(variant["source"])
    link = f"[{file}]({source}{file})" if file and source is not None else file
    return f"- **{escaped(variant['label'])}**: {escaped(variant['about'])} {link}".rstrip()


def markdown(results: Results, parts: list[Part], source: str | None) -> str:
    text = ["# Benchmark report", "", escaped(provenance(results).replace(" | ", " · ")), ""]
    text += ["The same with every round, in one file for the browser: [index.html](index.html).\n"]
    text += [f"- {WARNING} {escaped(words)}" for words in warnings(results)] + [""]
    for part in parts:
        text += [f"{'#' * part.level} {escaped(part.heading)}", "", part.text, ""]
        text += [f"![{escaped(d.wide.title)}]({d.file})\n" for d in part.drawings]
        for lines in part.tables:
            text += [*markdown_table(lines), ""]
        text += [f"{escaped(words)}\n" for words in part.missing]
    if variants := explained(results):
        text += ["## The rows", "", *(described(v, source) for v in variants.values()), ""]
    text += ["## Method", "", METHOD, "## Machine", "", "| | |", "|---|---|"]
    text += [f"| {escaped(key)} | {escaped(str(value))} |" for key, value in results.run.items()]
    text += [
        "",
        "`results.json` holds every round in pyperf's format: `pyperf stats results.json`, "
        "`pyperf compare_to old.json results.json` (where disturbed rounds count as well). Made by "
        "`python -m bench.run_all`.",
    ]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(text)) + "\n"
