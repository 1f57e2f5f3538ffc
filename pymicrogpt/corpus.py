"""Where the documents come from: a file, the download cache, the network, the embedded corpus."""

from __future__ import annotations

import hashlib
import io
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .config import checked_float, checked_int
from .files import write_atomically

NAMES_URL = "https://raw.githubusercontent.com/karpathy/makemore/988aa59/names.txt"
NAMES_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
NAMES_BYTES = 228_145
DOWNLOAD_SECONDS = 3.0  # for all of it, name resolution included
BOM = b"\xef\xbb\xbf"


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

    documents: tuple[str, ...]
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
        cached = _cache_file()
        if data := _read_cached(cached):
            return cls(_documents(data), f"names.txt, cached at {cached}")
        if os.environ.get("PYMICROGPT_OFFLINE", "") not in ("", "0"):
            return cls._embedded("PYMICROGPT_OFFLINE is set")
        try:
            data = _download()
        except OSError as error:
            return cls._embedded(f"download of {NAMES_URL} failed: {error}")
        try:
            if cached is None:
                raise OSError("there is no home directory; set XDG_CACHE_HOME")
            write_atomically(cached, data)
        except OSError as error:
            return cls(_documents(data), f"names.txt, downloaded; not cached: {error}")
        return cls(_documents(data), f"names.txt, downloaded to {cached}")

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
            data = path.read_bytes()
        except FileNotFoundError:
            raise CorpusNotFoundError(f"corpus {path} does not exist") from None
        if not data:
            raise CorpusError(f"corpus {path} is empty; it needs one document a line")
        try:
            documents = _blocks(_text(data).read(), size) if size else _documents(data)
        except UnicodeDecodeError as error:
            offset = error.start + (len(BOM) if data.startswith(BOM) else 0)
            line = data[:offset].count(b"\n") + 1
            raise CorpusError(
                f"corpus {path} is not UTF-8: byte 0x{data[offset]:02x} at offset {offset}, "
                f"line {line} ({error.reason}); save it as UTF-8"
            ) from None
        if not documents:
            raise CorpusError(f"corpus {path} holds no documents: all its lines are blank")
        return cls(documents, str(path), size)

    @classmethod
    def from_documents(cls, documents: Sequence[str]) -> Corpus:
        """Documents in memory, treated as the lines of a file: stripped, empty ones left out.
        TypeError where one is not a str; CorpusError where none is left."""
        if isinstance(documents, (str, bytes)):
            raise TypeError("documents must be a sequence of str, not one string")
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
        return cls(_blocks(text, block_size), "text in memory", block_size)

    @classmethod
    def _embedded(cls, reason: str) -> Corpus:
        from importlib.resources import files

        data = files(__package__).joinpath("data", "given_names.txt").read_bytes()
        return cls(_documents(data), f"embedded given names ({reason})")

    def __len__(self) -> int:
        return len(self.documents)

    @property
    def alphabet(self) -> tuple[str, ...]:
        """The distinct characters, sorted."""
        return tuple(sorted(set().union(*self.documents)))

    @property
    def mode(self) -> str:
        """What a document is: "lines" or "stream"."""
        return "lines" if self.block_size is None else "stream"

    def split(self, fraction: float, seed: int = 42) -> tuple[Corpus, Corpus]:
        """Two corpora: the documents to train on, and the held-out ones, about `fraction` of all
        and at least one, drawn by `seed`; both in the order of this corpus.

        A document stays in the first where it is the last to hold some character, so that a model
        of the first can be evaluated on the second. ValueError unless 0 < fraction < 1; CorpusError
        where nothing can be held out."""
        fraction = checked_float("fraction", fraction, below=1.0)
        wanted = min(max(1, round(fraction * len(self))), len(self) - 1)
        holders = Counter(character for document in self.documents for character in set(document))
        held_out: set[int] = set()
        for i in random.Random(seed).sample(range(len(self)), len(self)):
            if len(held_out) == wanted:
                break
            characters = set(self.documents[i])
            if all(holders[character] > 1 for character in characters):
                holders.subtract(characters)
                held_out.add(i)
        if not held_out:
            raise CorpusError(
                f"nothing can be held out of {len(self)} documents: each has a character of its own"
            )
        parts: tuple[list[str], list[str]] = ([], [])
        for i, document in enumerate(self.documents):
            parts[i in held_out].append(document)
        train, rest = (
            Corpus(
                tuple(part),
                f"{self.source} ({len(part):,} of {len(self):,} documents)",
                self.block_size,
            )
            for part in parts
        )
        return train, rest

    def describe(self) -> str:
        """One line: how much there is, and from where."""
        lengths = [len(document) for document in self.documents]
        return (
            f"{len(self):,} documents of {min(lengths)} to {max(lengths)} characters "
            f"(mean {sum(lengths) / len(self):.1f}), {len(self.alphabet)} distinct; "
            f"source: {self.source}"
        )


def _text(data: bytes) -> io.StringIO:
    """What a text file holds: its lines end with \\n, \\r\\n or \\r, and nothing else."""
    data = data[len(BOM) :] if data.startswith(BOM) else data
    return io.StringIO(data.decode("utf-8"), newline=None)


def _documents(data: bytes) -> tuple[str, ...]:
    return tuple(stripped for line in _text(data) if (stripped := line.strip()))


def _blocks(text: str, block_size: int) -> tuple[str, ...]:
    return tuple(text[i : i + block_size] for i in range(0, len(text), block_size))


def _cache_file() -> Path | None:
    """None where the user has no home directory."""
    try:
        if os.environ.get("XDG_CACHE_HOME"):
            base = Path(os.environ["XDG_CACHE_HOME"])
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        elif os.name == "nt":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        else:
            base = Path.home() / ".cache"
    except RuntimeError:
        return None
    return base / "pymicrogpt" / "names.txt"


def _is_names(data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == NAMES_SHA256


def _read_cached(path: Path | None) -> bytes | None:
    """A file that is missing, unreadable or not the one expected counts as no cache."""
    try:
        data = path.read_bytes() if path else b""
    except OSError:
        return None
    return data if _is_names(data) else None


def _fetch() -> bytes:
    from urllib.request import urlopen

    with urlopen(NAMES_URL, timeout=DOWNLOAD_SECONDS) as response:
        return response.read(NAMES_BYTES + 1)  # what is longer is not names.txt


def _download() -> bytes:
    """names.txt from the network, checked. OSError for anything that goes wrong."""
    result: list[bytes | Exception] = []

    def fetch() -> None:
        try:
            result.append(_fetch())
        except Exception as error:
            result.append(error)

    # The time-out of a socket covers neither name resolution nor a server that drips: a thread
    # that is left behind covers both.
    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(DOWNLOAD_SECONDS)
    if not result:
        raise OSError(f"no answer within {DOWNLOAD_SECONDS:g} s")
    if isinstance(result[0], Exception):
        raise OSError(str(result[0])) from result[0]
    if not _is_names(result[0]):
        raise OSError("what came back is not names.txt (SHA-256 differs)")
    return result[0]
