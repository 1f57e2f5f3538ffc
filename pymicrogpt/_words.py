"""Words of messages."""

from __future__ import annotations

import re

# What a terminal would obey: control characters, and those that turn the direction of text.
_ORDERS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escaped(text: str, keep: str = "") -> str:
    """For a terminal: control characters other than those to `keep` as Python writes them."""

    def number(match: re.Match[str]) -> str:
        return match[0] if match[0] in keep else match[0].encode("unicode_escape").decode()

    return _ORDERS.sub(number, text)


def counted(n: int, noun: str) -> str:
    """1 document, 2 documents"""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
