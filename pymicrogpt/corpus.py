"""Where the documents come from: a file, names.txt, or the corpus that is part of the package."""

from __future__ import annotations

import os
import random
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from . import _names
from ._documents import Documents, alphabet_of
from ._text import BOM, blocks, is_mostly_controls, line_number, lines, parsed, read
from ._words import counted
from .config import checked_float, checked_int, checked_seed
from .storage.files import write_atomically


class CorpusError(ValueError):
    """No documents can be had from what was given; the message says why."""


class CorpusNotFoundError(CorpusError, FileNotFoundError):
    """The file of a corpus does not exist."""


@dataclass(frozen=True)
class Corpus:
    """Documents, each a non-empty string, and their source, in words.

    Lines (block_size None): a document is a line without the white space around it. The model
    learns how documents begin, go on and end.

    Stream: running text, every character of it kept, newlines too, cut into consecutive documents
    of block_size characters (the last may be shorter). A model with the same block_size sees of
    each document BOS and all characters but the last, and predicts all of them: each character of
    the text once, from those before it in its block. Where the text goes on there is no end to
    predict, so only the last, shorter block teaches one.
    """

    documents: Sequence[str]  # a tuple, or Documents
    source: str
    block_size: int | None = None

    @classmethod
    def load(cls, path: str | os.PathLike[str] | None = None) -> Corpus:
        """The file at `path`; else the one that PYMICROGPT_CORPUS names; else names.txt of the
        original microgpt, from the cache or the network; else the embedded corpus.

        PYMICROGPT_OFFLINE=1 skips the network. `source` says which it became and why. Raises what
        from_file raises for a path, given or from the environment; otherwise never fails.
        """
        path = path if path is not None else os.environ.get("PYMICROGPT_CORPUS") or None
        if path is not None:
            return cls.from_file(path)
        cached = _names.cache_file()
        if data := _names.read_cached(cached):
            return cls(lines(data), f"names.txt, cached at {cached}")
        if os.environ.get("PYMICROGPT_OFFLINE", "") not in ("", "0"):
            return cls._embedded("PYMICROGPT_OFFLINE is set")
        try:
            data = _names.download()
        except OSError as error:
            return cls._embedded(f"download of {_names.URL} failed: {error}")
        try:
            if cached is None:
                raise OSError("there is no home directory; set XDG_CACHE_HOME")
            write_atomically(cached, data)
        except OSError as error:
            return cls(lines(data), f"names.txt, downloaded; not cached: {error}")
        return cls(lines(data), f"names.txt, downloaded to {cached}")

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], mode: str = "lines", block_size: int | None = None
    ) -> Corpus:
        """Any UTF-8 text file. mode "lines": one document a line; white space around a line and
        empty lines do not count. mode "stream": running text, cut into blocks of `block_size`
        characters, which "lines" has no use for.

        CorpusNotFoundError (also a FileNotFoundError) where there is no such file; CorpusError
        where it is a directory, not UTF-8, or holds no documents; OSError where it cannot be read;
        ValueError or TypeError for another mode or block_size."""
        if mode not in ("lines", "stream"):
            raise ValueError(f"mode must be 'lines' or 'stream', not {mode!r}")
        size = checked_int("block_size", block_size) if mode == "stream" else None
        path = Path(path)
        if path.is_dir():
            raise CorpusError(
                f"corpus {path} is a directory; give a text file, one document a line"
            )
        try:
            with open(path, "rb") as file:
                data = read(file)
        except FileNotFoundError:
            raise CorpusNotFoundError(f"corpus {path} does not exist") from None
        return cls._from_bytes(data, str(path), size)

    @classmethod
    def from_stdin(cls, mode: str = "lines", block_size: int | None = None) -> Corpus:
        """What standard input holds, as from_file()."""
        if mode not in ("lines", "stream"):
            raise ValueError(f"mode must be 'lines' or 'stream', not {mode!r}")
        size = checked_int("block_size", block_size) if mode == "stream" else None
        if sys.stdin is None:
            raise CorpusError("standard input is closed")
        return cls._from_bytes(read(sys.stdin.buffer), "standard input", size)

    @classmethod
    def _from_bytes(cls, data: bytes, source: str, size: int | None) -> Corpus:
        if not data:
            raise CorpusError(f"corpus {source} is empty; it needs one document a line")
        try:
            if (place := data.find(b"\0")) >= 0:
                data.removeprefix(BOM).decode()
                raise CorpusError(
                    f"corpus {source} holds a NUL at offset {place}, line "
                    f"{line_number(data, place)}: it is UTF-16 or no text; save it as UTF-8"
                )
            if is_mostly_controls(data):
                raise CorpusError(
                    f"corpus {source} is mostly control characters: it is UTF-16 or no text; save "
                    "it as UTF-8"
                )
            documents = parsed(data, size)
        except UnicodeDecodeError as error:
            offset = error.start + (len(BOM) if data.startswith(BOM) else 0)
            raise CorpusError(
                f"corpus {source} is not UTF-8: byte 0x{data[offset]:02x} at offset {offset}, "
                f"line {line_number(data, offset)} ({error.reason}); save it as UTF-8"
            ) from None
        if not documents:
            raise CorpusError(f"corpus {source} holds no documents: all its lines are blank")
        return cls(documents, source, size)

    @classmethod
    def from_documents(cls, documents: Sequence[str]) -> Corpus:
        """Documents in memory, treated as the lines of a file: stripped, empty ones left out.
        TypeError where one is not a str; CorpusError where none is left."""
        if isinstance(documents, (str, bytes)):
            raise TypeError("documents must be a sequence of str, not one string")
        if not isinstance(documents, Iterable):
            raise TypeError(f"documents must be a sequence of str, not {documents!r}")
        documents = list(documents)
        for i, document in enumerate(documents):
            if not isinstance(document, str):
                raise TypeError(f"document {i} must be a str, not {document!r}")
        kept = tuple(stripped for d in documents if (stripped := d.strip()))
        if not kept:
            raise CorpusError("there are no documents: nothing was given, or only white space")
        return cls(kept, "documents in memory")

    @classmethod
    def from_text(cls, text: str, block_size: int) -> Corpus:
        """Running text in memory, as from_file() has it in mode "stream". CorpusError where it is
        empty."""
        if not isinstance(text, str):
            raise TypeError(f"text must be a str, not {type(text).__name__}")
        block_size = checked_int("block_size", block_size)
        if not text:
            raise CorpusError("the text is empty")
        return cls(blocks(text, block_size), "text in memory", block_size)

    @classmethod
    def _embedded(cls, reason: str) -> Corpus:
        from importlib.resources import files

        data = files(__package__).joinpath("data", "given_names.txt").read_bytes()
        return cls(lines(data), f"embedded given names ({reason})")

    def __len__(self) -> int:
        return len(self.documents)

    @cached_property
    def alphabet(self) -> tuple[str, ...]:
        """The distinct characters, sorted."""
        return alphabet_of(self.documents)

    @property
    def mode(self) -> str:
        """What a document is: "lines" or "stream"."""
        return "lines" if self.block_size is None else "stream"

    def split(self, fraction: float, seed: int = 42) -> tuple[Corpus, Corpus]:
        """Two corpora: the documents to train on, and the held-out ones, about `fraction` of all
        and at least one, drawn by `seed`; both in the order of this corpus.

        A document stays in the first where it is the last to hold some character, so that a model
        of the first can be evaluated on the second. ValueError unless 0 < fraction < 1 and
        0 <= seed < 2**64; TypeError for a fraction that is no number and a seed that is no integer;
        CorpusError where nothing can be held out."""
        fraction = checked_float("fraction", fraction, below=1.0)
        seed = checked_seed(seed)
        wanted = min(max(1, round(fraction * len(self))), len(self) - 1)
        if isinstance(self.documents, Documents):
            held = self.documents.held_out(random.Random(seed), wanted)
            return self._parts(self.documents.take(~held), self.documents.take(held))
        holders = Counter(character for document in self.documents for character in set(document))
        held_out: set[int] = set()
        for i in random.Random(seed).sample(range(len(self)), len(self)):
            if len(held_out) == wanted:
                break
            characters = set(self.documents[i])
            if all(holders[character] > 1 for character in characters):
                holders.subtract(characters)
                held_out.add(i)
        parts: tuple[list[str], list[str]] = ([], [])
        for i, document in enumerate(self.documents):
            parts[i in held_out].append(document)
        return self._parts(tuple(parts[0]), tuple(parts[1]))

    def _parts(self, train: Sequence[str], held_out: Sequence[str]) -> tuple[Corpus, Corpus]:
        if not held_out:
            why = "each has a character of its own" if len(self) > 1 else "it takes two or more"
            raise CorpusError(f"nothing can be held out of {counted(len(self), 'document')}: {why}")
        of = f" of {counted(len(self), 'document')})"
        first, second = (
            Corpus(part, f"{self.source} ({len(part):,}{of}", self.block_size)
            for part in (train, held_out)
        )
        return first, second

    def describe(self) -> str:
        """One line: how much there is, and from where."""
        if not len(self):
            return f"0 documents; source: {self.source}"
        lengths = [len(document) for document in self.documents]
        return (
            f"{counted(len(self), 'document')} of {min(lengths)} to {max(lengths)} characters "
            f"(mean {sum(lengths) / len(self):.1f}), {len(self.alphabet)} distinct; "
            f"source: {self.source}"
        )
