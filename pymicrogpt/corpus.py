"""Where the documents come from: a file, the download cache, the network, the embedded corpus."""

from __future__ import annotations

import hashlib
import io
import operator
import os
import random
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, overload

from .config import checked_float, checked_int
from .display import counted
from .files import write_atomically

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAMES_URL = "https://raw.githubusercontent.com/karpathy/makemore/988aa59/names.txt"
NAMES_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
NAMES_BYTES = 228_145
DOWNLOAD_SECONDS = 3.0  # for all of it, name resolution included
BOM = b"\xef\xbb\xbf"
LARGE = 4_000_000  # bytes of a file, from which on documents are not strings of their own
BLOCK = 100_000  # documents at a time
SAMPLE = 1 << 16  # bytes that tell text from other data
WRITTEN = bytes(b for b in range(256) if b >= 32 or chr(b).isspace())  # in text, all but controls
CODECS = {1: "latin-1", 2: "utf-16-le", 4: "utf-32-le"}  # by bytes of a character


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
            with open(path, "rb") as file:
                data = _read(file)
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
        return cls._from_bytes(_read(sys.stdin.buffer), "standard input", size)

    @classmethod
    def _from_bytes(cls, data: bytes, source: str, size: int | None) -> Corpus:
        if not data:
            raise CorpusError(f"corpus {source} is empty; it needs one document a line")
        try:
            if (place := data.find(b"\0")) >= 0:
                data.removeprefix(BOM).decode()
                raise CorpusError(
                    f"corpus {source} holds a NUL at offset {place}, line {_line(data, place)}: "
                    "it is UTF-16 or no text; save it as UTF-8"
                )
            sample = data[:SAMPLE]
            if len(sample.translate(None, WRITTEN)) > 0.4 * len(sample):
                raise CorpusError(
                    f"corpus {source} is mostly control characters: it is UTF-16 or no text; save "
                    "it as UTF-8"
                )
            documents = _parsed(data, size)
        except UnicodeDecodeError as error:
            offset = error.start + (len(BOM) if data.startswith(BOM) else 0)
            raise CorpusError(
                f"corpus {source} is not UTF-8: byte 0x{data[offset]:02x} at offset {offset}, "
                f"line {_line(data, offset)} ({error.reason}); save it as UTF-8"
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
        of the first can be evaluated on the second. ValueError unless 0 < fraction < 1; TypeError
        for a seed that is no integer; CorpusError where nothing can be held out."""
        fraction = checked_float("fraction", fraction, below=1.0)
        if isinstance(seed, bool) or not hasattr(seed, "__index__"):
            raise TypeError(f"seed must be an integer, not {seed!r}")
        seed = operator.index(seed)  # of any size
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
            raise CorpusError(
                f"nothing can be held out of {counted(len(self), 'document')}: each has a "
                "character of its own"
            )
        of = f" of {counted(len(self), 'document')})"
        first, second = (
            Corpus(part, f"{self.source} ({len(part):,}{of}", self.block_size)
            for part in (train, held_out)
        )
        return first, second

    def describe(self) -> str:
        """One line: how much there is, and from where."""
        lengths = [len(document) for document in self.documents]
        return (
            f"{counted(len(self), 'document')} of {min(lengths)} to {max(lengths)} characters "
            f"(mean {sum(lengths) / len(self):.1f}), {len(self.alphabet)} distinct; "
            f"source: {self.source}"
        )


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
    def characters(self) -> int:
        """Their number in all."""
        import numpy as np

        if self.order is None:
            return int(self.offsets[-1])
        step = 1 << 20  # at a time, as there may be more than memory for their lengths
        return sum(
            int((self.offsets[part.astype(np.int64) + 1] - self.offsets[part]).sum())
            for part in (self.order[i : i + step] for i in range(0, len(self), step))
        )

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


def words_of(rng: random.Random) -> NDArray[np.uint32]:
    """The state of `rng` as the engines take it, 624 words and an index: (625,) uint32."""
    import numpy as np

    return np.array(rng.getstate()[1], np.uint32)


def alphabet_of(documents: Iterable[str]) -> tuple[str, ...]:
    """Their distinct characters, sorted."""
    if isinstance(documents, Documents):
        return documents.alphabet
    return tuple(sorted(set().union(*documents)))


def _read(file: BinaryIO) -> bytes:
    """All of it, or up to some way after a NUL, which no text has: a device may have no end."""
    parts: list[bytes] = []
    while part := file.read(1 << 24):
        parts.append(part)
        if b"\0" in part:
            break
    return b"".join(parts)


def _line(data: bytes, offset: int) -> int:
    """Number of the line, which ends as it does in _text()."""
    before = data[:offset]
    ends = before.count(b"\n") + before.count(b"\r") - before.count(b"\r\n")
    return ends + 1


def _parsed(data: bytes, size: int | None) -> Sequence[str]:
    """Blocks of `size` characters, or with None lines."""
    if len(data) >= LARGE:
        try:
            return _large(data, size)
        except ImportError:  # PyPy, where NumPy may be missing
            pass
    return _blocks(_text(data).read(), size) if size else _documents(data)


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
