"""A text file becomes documents: its lines, or blocks of running text."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from ._documents import Documents

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BOM = b"\xef\xbb\xbf"
LARGE = 4_000_000  # bytes of a file, from which on documents are not strings of their own
SAMPLE = 1 << 16  # bytes that tell text from other data
WRITTEN = bytes(b for b in range(256) if b >= 32 or chr(b).isspace())  # in text, all but controls


def read(file: BinaryIO) -> bytes:
    """All of it, or up to some way after a NUL, which no text has: a device may have no end."""
    parts: list[bytes] = []
    while part := file.read(1 << 24):
        parts.append(part)
        if b"\0" in part:
            break
    return b"".join(parts)


def is_mostly_controls(data: bytes) -> bool:
    """As no text is, though UTF-16 may be."""
    sample = data[:SAMPLE]
    return len(sample.translate(None, WRITTEN)) > 0.4 * len(sample)


def line_number(data: bytes, offset: int) -> int:
    """Number of the line, which ends as it does in _text()."""
    before = data[:offset]
    ends = before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")
    return ends + 1


def parsed(data: bytes, size: int | None) -> Sequence[str]:
    """Blocks of `size` characters, or with None lines."""
    if len(data) >= LARGE:
        try:
            return _large(data, size)
        except ImportError:  # PyPy, where NumPy may be missing
            pass
    return blocks(_text(data).read(), size) if size else lines(data)


def _large(data: bytes, size: int | None) -> Documents:
    import numpy as np

    from . import _core  # noqa: F401  (without it nobody could use them)

    text = _codes(data)
    if size:
        offsets = np.append(np.arange(0, len(text), size, dtype=np.int64), len(text))
        return Documents(text, offsets)

    # Lines: from after one line end to before the next, less the white space at both ends.
    ends = np.append(np.flatnonzero(text == ord("\n")), len(text))
    starts = np.append(0, ends[:-1] + 1)
    blank = np.zeros(1 << 8 * min(text.itemsize, 2), bool)  # there is none beyond U+FFFF
    blank[[i for i in range(len(blank)) if chr(i).isspace()]] = True

    _strip(text, starts, ends, blank, starts, 1)
    _strip(text, starts, ends, blank, ends, -1)
    kept = starts < ends
    if not kept.all():
        starts, ends = starts[kept], ends[kept]
    inside = np.zeros(len(text) + 1, np.int8)
    inside[starts] = 1
    inside[ends] = -1  # nowhere a start: there is a line end between
    offsets = np.zeros(len(starts) + 1, np.int64)
    np.cumsum(np.subtract(ends, starts, out=ends), out=offsets[1:])
    np.cumsum(inside, dtype=np.int8, out=inside)
    return Documents(text[inside[:-1].view(bool)], offsets)


def _strip(
    text: NDArray[Any],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    blank: NDArray[np.bool_],
    edges: NDArray[np.int64],
    step: int,
) -> None:
    """Moves `edges`, the starts or the ends, by `step` while there is white space behind them (1)
    or before them (-1)."""
    import numpy as np

    moving = np.flatnonzero(starts < ends)
    while moving.size:
        characters = text[edges[moving] + min(step, 0)]
        moving = moving[blank[np.minimum(characters, len(blank) - 1)]]
        edges[moving] += step
        moving = moving[starts[moving] < ends[moving]]


def _codes(data: bytes) -> NDArray[Any]:
    """The code points of a text file, its line ends all \\n."""
    import numpy as np

    data = data[len(BOM) :] if data.startswith(BOM) else data
    if data.isascii():
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return np.frombuffer(data, np.uint8)
    text = data.decode("utf-8")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        return np.frombuffer(text.encode("latin-1"), np.uint8)
    except UnicodeEncodeError:
        pass
    codes = np.frombuffer(text.encode("utf-16-le"), "<u2")
    if len(codes) == len(text):  # no pairs of surrogates
        return codes
    return np.frombuffer(text.encode("utf-32-le"), "<u4")


def _text(data: bytes) -> io.StringIO:
    """What a text file holds: its lines end with \\n, \\r\\n or \\r, and nothing else."""
    data = data[len(BOM) :] if data.startswith(BOM) else data
    return io.StringIO(data.decode("utf-8"), newline=None)


def lines(data: bytes) -> tuple[str, ...]:
    return tuple(stripped for line in _text(data) if (stripped := line.strip()))


def blocks(text: str, block_size: int) -> tuple[str, ...]:
    return tuple(text[i : i + block_size] for i in range(0, len(text), block_size))
