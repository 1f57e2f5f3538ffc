"""Where the documents come from: a file, the download cache, the network, the embedded corpus."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """Documents, each a non-empty string without surrounding white space, and where they are
    from, in words."""

    documents: tuple[str, ...]
    source: str

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
            _write_atomically(cached, data)
        except OSError as error:
            return cls(_documents(data), f"names.txt, downloaded; not cached: {error}")
        return cls(_documents(data), f"names.txt, downloaded to {cached}")

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Corpus:
        """Any UTF-8 text file, one document a line; white space around a line and empty lines do
        not count. CorpusNotFoundError (also a FileNotFoundError) where there is no such file;
        CorpusError where it is a directory, not UTF-8, or holds no documents; OSError where it
        cannot be read."""
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
            documents = _documents(data)
        except UnicodeDecodeError as error:
            offset = error.start + (len(BOM) if data.startswith(BOM) else 0)
            line = data[:offset].count(b"\n") + 1
            raise CorpusError(
                f"corpus {path} is not UTF-8: byte 0x{data[offset]:02x} at offset {offset}, "
                f"line {line} ({error.reason}); save it as UTF-8"
            ) from None
        if not documents:
            raise CorpusError(f"corpus {path} holds no documents: all its lines are blank")
        return cls(documents, str(path))

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

    def describe(self) -> str:
        """One line: how much there is, and from where."""
        lengths = [len(document) for document in self.documents]
        return (
            f"{len(self):,} documents of {min(lengths)} to {max(lengths)} characters "
            f"(mean {sum(lengths) / len(self):.1f}), {len(self.alphabet)} distinct; "
            f"source: {self.source}"
        )


def _documents(data: bytes) -> tuple[str, ...]:
    text = data[len(BOM) :] if data.startswith(BOM) else data
    # Lines as a text file has them: they end with \n, \r\n or \r, and nothing else.
    lines = io.StringIO(text.decode("utf-8"), newline=None)
    return tuple(stripped for line in lines if (stripped := line.strip()))


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


def _write_atomically(path: Path | None, data: bytes) -> None:
    if path is None:
        raise OSError("there is no home directory; set XDG_CACHE_HOME")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
        try:
            file.write(data)
            file.close()
            os.replace(file.name, path)
        except BaseException:
            file.close()
            os.unlink(file.name)
            raise


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
