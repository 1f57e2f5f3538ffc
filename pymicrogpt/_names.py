"""names.txt, the dataset of the original microgpt: its cache and its download."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from pathlib import Path

URL = "https://raw.githubusercontent.com/karpathy/makemore/988aa59/names.txt"
SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
BYTES = 228_145
DOWNLOAD_SECONDS = 3.0  # for all of it, name resolution included


def cache_file() -> Path | None:
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
    return hashlib.sha256(data).hexdigest() == SHA256


def read_cached(path: Path | None) -> bytes | None:
    """A file that is missing, unreadable or not the one expected counts as no cache."""
    try:
        data = path.read_bytes() if path else b""
    except OSError:
        return None
    return data if _is_names(data) else None


def _fetch() -> bytes:
    from urllib.request import urlopen

    with urlopen(URL, timeout=DOWNLOAD_SECONDS) as response:
        return response.read(BYTES + 1)  # what is longer is not names.txt


def download() -> bytes:
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
