"""Characters <-> token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ._documents import Documents, alphabet_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_SHOWN = 20  # characters of an alphabet in a message


class Tokenizer:
    """One token per character: ids 0 .. V-2 in the order of `alphabet`; id V-1 is BOS, which
    begins and ends a document.

    TypeError where the alphabet is not made of strings; ValueError where it is empty, repeats a
    character, or holds a string that is not one character.
    """

    def __init__(self, alphabet: Sequence[str]) -> None:
        self._alphabet = tuple(alphabet)
        for character in self._alphabet:
            if not isinstance(character, str):
                raise TypeError(f"an alphabet holds characters, not {character!r}")
            if len(character) != 1:
                raise ValueError(f"an alphabet holds single characters, not {character!r}")
        self._ids = {character: i for i, character in enumerate(self._alphabet)}
        if not self._ids:
            raise ValueError("the alphabet is empty")
        if len(self._ids) != len(self._alphabet):
            twice = next(c for c in self._alphabet if self._alphabet.count(c) > 1)
            raise ValueError(f"the alphabet holds {twice!r} more than once")

    @classmethod
    def from_documents(cls, documents: Iterable[str]) -> Tokenizer:
        """The sorted characters of all documents."""
        return cls(alphabet_of(documents))

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The character of each id, BOS left out."""
        return self._alphabet

    @property
    def vocab_size(self) -> int:
        """V, the number of ids: the characters and BOS."""
        return len(self._alphabet) + 1

    @property
    def bos(self) -> int:
        """The id of BOS, V - 1."""
        return len(self._alphabet)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self._alphabet == other._alphabet

    def __hash__(self) -> int:
        return hash(self._alphabet)

    def __repr__(self) -> str:
        return f"Tokenizer({''.join(self._alphabet)!r})"

    def encode(self, document: str) -> list[int]:
        """Token ids (len(document) + 2,) with BOS at both ends. ValueError for a character that
        is not in the alphabet."""
        if not isinstance(document, str):
            raise TypeError(f"a document is a str, not {document!r}")
        try:
            return [self.bos, *map(self._ids.__getitem__, document), self.bos]
        except KeyError as error:
            character = error.args[0]
            place = f"position {document.index(character)}"
            if len(document) <= MOST_SHOWN:
                place += f" of {document!r}"
            few = "".join(self._alphabet[:MOST_SHOWN])
            more = len(self._alphabet) - MOST_SHOWN
            raise ValueError(
                f"character {character!r} at {place} is not in the alphabet {few!r}"
                + (f" and {more:,} more" if more > 0 else "")
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The characters of `ids`, BOS left out. ValueError for an id outside 0 .. V-1."""
        characters = []
        for i in ids:
            if not 0 <= i <= self.bos:
                raise ValueError(f"token id {i} is outside 0 .. {self.bos}")
            if i != self.bos:
                characters.append(self._alphabet[i])
        return "".join(characters)

    def encode_all(self, documents: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """All documents at once: tokens (M,) and offsets (N + 1,), where document d is
        tokens[offsets[d] : offsets[d + 1]], as encode() gives it. ValueError as there."""
        import numpy as np

        if isinstance(documents, Documents):
            tokens, offsets, stranger = documents.encode(self._alphabet, self.bos)
            if stranger >= 0:
                self.encode(documents[stranger])  # raises, and says which character it was
            return tokens, offsets
        for document in documents:
            if not isinstance(document, str):
                raise TypeError(f"a document is a str, not {document!r}")
        lengths = np.fromiter(map(len, documents), np.int64, len(documents))
        offsets = np.zeros(len(documents) + 1, np.int64)
        np.cumsum(lengths + 2, out=offsets[1:])

        alphabet = _code_points("".join(self._alphabet))
        order = np.argsort(alphabet)
        characters = _code_points("".join(documents))
        found = order[np.searchsorted(alphabet, characters, sorter=order) % len(order)]
        unknown = np.flatnonzero(alphabet[found] != characters)
        if unknown.size:
            document = np.searchsorted(np.cumsum(lengths), unknown[0], side="right")
            self.encode(documents[document])  # raises, and says which character it was

        # The k-th character of all has 1 BOS before its own document and 2 more for each earlier.
        tokens = np.full(offsets[-1], self.bos, np.int32)
        bos_before = 1 + 2 * np.repeat(np.arange(len(documents)), lengths)
        tokens[np.arange(len(characters)) + bos_before] = found
        return tokens, offsets

    def decode_all(self, tokens: NDArray[np.int32]) -> list[str]:
        """Documents from tokens (M,) 0 .. V-1, where each is followed by BOS."""
        end = next(c for c in map(chr, range(len(self._alphabet) + 1)) if c not in self._ids)
        code_points = _code_points("".join(self._alphabet) + end)
        text = code_points[tokens].tobytes().decode("utf-32-le", "surrogatepass")
        return text.split(end)[:-1]


def _code_points(text: str) -> NDArray[np.uint32]:
    import numpy as np

    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))
