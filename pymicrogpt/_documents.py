"""Documents of a large text as one array of characters, instead of strings of their own."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from ._stream import words_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BLOCK = 100_000  # documents at a time
CODECS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}  # by bytes of a character


class Documents(Sequence[str]):
    """Documents of one array of characters, for files of so many that as strings of their own they
    would not fit in memory. What is made of them is what would be made of a tuple of them.

    text: their code points, one document after the other, in the smallest of uint8, uint16, uint32
    offsets: (count + 1,) int64, where each begins and ends in it
    order: (len,) uint32, which of them are meant, in which order; all in theirs by default
    """

    def __init__(
        self,
        text: NDArray[Any],
        offsets: NDArray[np.int64],
        order: NDArray[np.uint32] | None = None,
    ) -> None:
        self.text, self.offsets, self.order = text, offsets, order

    def __len__(self) -> int:
        return len(self.offsets) - 1 if self.order is None else len(self.order)

    @overload
    def __getitem__(self, i: int) -> str: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[str, ...]: ...
    def __getitem__(self, i: int | slice) -> str | tuple[str, ...]:
        indices = range(len(self))[i]
        if isinstance(indices, range):
            return tuple(self[k] for k in indices)
        document = indices if self.order is None else int(self.order[indices])
        characters = self.text[self.offsets[document] : self.offsets[document + 1]]
        return characters.tobytes().decode(CODECS[characters.itemsize])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (tuple, Documents)):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def take(self, which: NDArray[Any]) -> Documents:
        """Some of them, by their indices, or by a mask (len,)."""
        import numpy as np

        if which.dtype == bool:
            which = np.flatnonzero(which)
        order = which if self.order is None else self.order[which]
        return Documents(self.text, self.offsets, np.ascontiguousarray(order, np.uint32))

    @property
    def lengths(self) -> Iterator[NDArray[np.int64]]:
        """In characters, many at a time, as there may be more than memory for all."""
        import numpy as np

        step = 1 << 20
        for i in range(0, len(self), step):
            if self.order is None:
                yield np.diff(self.offsets[i : i + step + 1])
            else:
                part = self.order[i : i + step].astype(np.int64)
                yield self.offsets[part + 1] - self.offsets[part]

    @property
    def characters(self) -> int:
        """Their number in all."""
        if self.order is None:
            return int(self.offsets[-1])
        return sum(int(lengths.sum()) for lengths in self.lengths)

    @property
    def alphabet(self) -> tuple[str, ...]:
        from . import _core

        return tuple(map(chr, _core.seen(*self._arrays).nonzero()[0].tolist()))

    def held_out(self, rng: random.Random, wanted: int) -> NDArray[np.bool_]:
        """Which of them Corpus.split() holds out."""
        from . import _core

        return _core.held_out(*self._arrays, words_of(rng), wanted)

    def encode(self, alphabet: Sequence[str], bos: int) -> tuple[NDArray[Any], NDArray[Any], int]:
        """Tokens and offsets, and the first document with a character of no alphabet, or -1."""
        import numpy as np

        from . import _core

        ids = np.full(ord(max(alphabet)) + 1, -1, np.int32)
        ids[[ord(character) for character in alphabet]] = np.arange(len(alphabet))
        return _core.encode(*self._arrays, ids, bos, self.characters)

    def framed(self) -> Iterator[bytes]:
        """Each as UTF-8 behind the eight bytes of its length, many at a time."""
        from . import _core

        for first in range(0, len(self), BLOCK):
            yield _core.framed(*self._arrays, first, min(first + BLOCK, len(self)))

    @property
    def _arrays(self) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.uint32] | None]:
        return self.text, self.offsets, self.order


def longer_than(documents: Sequence[str], length: int) -> tuple[int, int]:
    """How many have more characters than `length`, and how many characters the longest has."""
    if isinstance(documents, Documents):
        each = [(int((n > length).sum()), int(n.max())) for n in documents.lengths]
        return sum(count for count, _ in each), max(longest for _, longest in each)
    return sum(len(d) > length for d in documents), max(map(len, documents))


def alphabet_of(documents: Iterable[str]) -> tuple[str, ...]:
    """Their distinct characters, sorted."""
    if isinstance(documents, Documents):
        return documents.alphabet
    return tuple(sorted(set().union(*documents)))
