"""Models on disk: model.safetensors, config.json and a model card, README.md.

model.safetensors says everything: its header holds the configuration too. config.json and the card
are copies for other readers, removed before the weights are replaced and written after them, so
that whenever a save stops, what is there belongs to one model.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from .._words import counted, escaped
from ..config import Config
from ..tokenizer import Tokenizer
from .files import sync_directory, write_atomically

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
FORMAT_VERSION = 1
HEADER_KEY = "pymicrogpt"  # one key, so that equal models are equal files
MOST_JSON_BYTES = 100_000_000  # safetensors allows headers no longer than this either
MOST_NESTED = 100  # levels of JSON
CARD_MARK = "<!-- Written by pymicrogpt; saving the model again replaces this file. -->"
DTYPES = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}

Tensors = dict[str, NDArray[np.floating]]


class WeightsError(ValueError):
    """A file of weights or a checkpoint cannot be used, or not be written; the message names the
    file, and the tensor where it is one."""


class NotFiniteError(WeightsError):
    """A tensor holds NaN or infinity."""


def save_model(
    directory: str | os.PathLike[str],
    config: Config,
    tokenizer: Tokenizer,
    parameters: Mapping[str, NDArray[np.float64]],
    training: Mapping[str, Any],
    replaces: Sequence[Path] = (),
) -> None:
    """See GPT.save. replaces: files, whoever wrote them, that go when the new weights are whole,
    right before they take their place"""
    folder = Path(directory)
    described = describe_config(config, tokenizer)
    config_file = folder / CONFIG_FILE
    card_file = folder / CARD_FILE
    config_data = (json.dumps(described, indent=2) + "\n").encode()
    before = _read_config_file(config_file) if config_file not in replaces else None
    if before is not None and "format_version" not in before:
        raise WeightsError(
            f"{config_file} is there and not from pymicrogpt; save to another directory"
        )
    own_card = not card_file.exists() or (
        card_file.is_file() and CARD_MARK.encode() in card_file.read_bytes()
    )

    def remove_copies() -> None:
        for path in replaces:
            path.unlink(missing_ok=True)
        if config_file.exists() and config_file.read_bytes() != config_data:
            config_file.unlink()
        if own_card:
            card_file.unlink(missing_ok=True)
        sync_directory(folder)

    with np.errstate(over="ignore"):  # refused as infinite, by name
        tensors: Tensors = {name: array.astype("<f4") for name, array in parameters.items()}
    to_json(dict(training), "training")
    description = {"config": described, "training": dict(training)}
    write_tensors(folder / WEIGHTS_FILE, tensors, description, remove_copies)
    write_atomically(config_file, config_data)
    if own_card:
        card = _card(config, tokenizer, training)
        write_atomically(card_file, card.encode("utf-8", "backslashreplace"))


def load_model(
    directory: str | os.PathLike[str],
) -> tuple[Config, Tokenizer, Tensors, dict[str, Any]]:
    """Config, tokenizer, parameters (float32) and how they were trained."""
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise WeightsError(f"{folder} is not a directory, and holds no model")
    config_file = folder / CONFIG_FILE
    before = _identity(folder / WEIGHTS_FILE)
    beside = _read_config_file(config_file)
    with open_tensors(folder / WEIGHTS_FILE) as file:
        description = file.description
        if description is None:  # written by other hands, so config.json is all there is
            if beside is None:
                raise WeightsError(
                    f"{file.path} does not say which model it holds, and {config_file} does not "
                    "exist"
                )
            description = {"config": beside, "training": {}}
            config, tokenizer = read_config(beside, config_file, file)
        else:
            config, tokenizer = read_config(description.get("config"), file.path, file)
            # Where another process saves meanwhile, the copy may be of the model before or after.
            if beside is not None and _identity(file.path) == before:
                _check_same(description["config"], beside, file.path, config_file)
        training = description.get("training")
        if not isinstance(training, dict):
            raise WeightsError(f"{file.path}: its header does not say how it was trained")
        tensors = file.read(config.parameter_shapes(tokenizer.vocab_size), {"F32"})
    return config, tokenizer, tensors, training


# Tensors with a description, in one file


def write_tensors(
    path: Path,
    tensors: Tensors,
    description: dict[str, Any],
    before_rename: Callable[[], None] | None = None,
) -> None:
    """A safetensors file, atomically: written, read back and compared, then renamed. `description`
    is of JSON values. WeightsError where a tensor is not finite."""
    for name, array in tensors.items():
        _check_finite(path, name, array)
    tensors = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    description = json.loads(to_json(description, "what is saved with the tensors"))
    description["sha256"] = _digest(description, tensors)
    data = safetensors.numpy.save(tensors, {HEADER_KEY: json.dumps(description)})

    def compare(temporary: Path) -> None:
        with open_tensors(temporary) as file:
            if (file.description or {}).get("sha256") != description["sha256"]:
                raise WeightsError(f"{path} did not read back as it was written")
            # Raises unless the SHA-256 is that of the tensors here.
            file.read({name: array.shape for name, array in tensors.items()}, set(DTYPES))
        if before_rename is not None:
            before_rename()

    write_atomically(path, data, compare)


class TensorFile:
    """An open safetensors file, its header checked by the safetensors package.

    description: what write_tensors() was given; None where the file has none
    """

    def __init__(self, path: Path, handle: Any) -> None:
        self.path = path
        self._handle = handle
        self.names: set[str] = set(handle.keys())
        self.description: dict[str, Any] | None = None
        text = (handle.metadata() or {}).get(HEADER_KEY)
        if text is not None:
            self.description = _parse_object(text, f"{path}: its header")

    def read(self, shapes: Mapping[str, tuple[int, ...]], dtypes: set[str]) -> Tensors:
        """All tensors, after names, shapes and dtypes proved to be those asked for."""
        if missing := [name for name in shapes if name not in self.names]:
            raise WeightsError(f"{self.path}: tensor {missing[0]} is missing")
        if unknown := self.names.difference(shapes):
            name = _short(min(unknown))
            raise WeightsError(f"{self.path}: tensor {name} is not part of this model")
        for name, shape in shapes.items():
            header = self._handle.get_slice(name)
            if (dtype := header.get_dtype()) not in dtypes:
                allowed = " or ".join(sorted(dtypes))
                raise WeightsError(f"{self.path}: tensor {name} must be {allowed}, not {dtype}")
            if (found := tuple(header.get_shape())) != tuple(shape):
                raise WeightsError(
                    f"{self.path}: tensor {name} must have shape {tuple(shape)}, not {found}"
                )
        tensors: Tensors = {name: self._handle.get_tensor(name) for name in shapes}
        for name, array in tensors.items():
            _check_finite(self.path, name, array)
        if self.description is not None:
            description = dict(self.description)
            if description.pop("sha256", None) != _digest(description, tensors):
                raise WeightsError(
                    f"{self.path} is damaged, or was changed by hand: its SHA-256 differs"
                )
        return tensors


@contextmanager
def open_tensors(path: Path) -> Iterator[TensorFile]:
    refuse_what_is_no_file(path)
    try:
        handle = safetensors.safe_open(path, framework="numpy")
    except FileNotFoundError:
        raise WeightsError(f"{path} does not exist") from None
    except (safetensors.SafetensorError, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from None
    with handle:
        yield TensorFile(path, handle)


# The configuration in them


def describe_config(config: Config, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "n_layer": config.n_layer,
        "n_embd": config.n_embd,
        "n_head": config.n_head,
        "block_size": config.block_size,
        "vocab_size": tokenizer.vocab_size,
        # A list, not one string: two lone surrogates in a row would become one character.
        "alphabet": list(tokenizer.alphabet),
    }


def read_config(described: Any, origin: Path, tensors: TensorFile) -> tuple[Config, Tokenizer]:
    """The opposite of describe_config(), for the model whose tensors these are. WeightsError, with
    `origin`, for anything else."""
    if not isinstance(described, dict):
        raise WeightsError(f"{origin} does not describe a model")
    version = described.get("format_version")
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{origin} has format_version {version!r}; this pymicrogpt reads {FORMAT_VERSION}"
        )
    try:
        config = Config(**{n: described[n] for n in ("n_layer", "n_embd", "n_head", "block_size")})
        if not isinstance(described["alphabet"], list):
            raise TypeError("alphabet must be a list of characters")
        tokenizer = Tokenizer(described["alphabet"])
        if described["vocab_size"] != tokenizer.vocab_size:
            raise ValueError(
                f"vocab_size is {described['vocab_size']!r}, and an alphabet of "
                f"{len(tokenizer.alphabet)} with BOS makes {tokenizer.vocab_size}"
            )
    except KeyError as error:
        raise WeightsError(f"{origin} does not say {error.args[0]}") from None
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{origin}: {error}") from None
    if config.n_layer > len(tensors.names):  # before a list of all the names that there should be
        raise WeightsError(
            f"{tensors.path} holds {counted(len(tensors.names), 'tensor')}, too few for n_layer = "
            f"{config.n_layer}"
        )
    return config, tokenizer


def _check_same(inside: dict[str, Any], beside: dict[str, Any], path: Path, copy: Path) -> None:
    for name in [*inside, *beside]:
        if inside.get(name) != beside.get(name):
            raise WeightsError(
                f"{copy} contradicts {path}: {name} is {_short(beside.get(name))} there and "
                f"{_short(inside.get(name))} in the weights, which need no {copy.name}; remove it"
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + " …"


def refuse_what_is_no_file(path: Path) -> None:
    """A pipe or a device might never end. WeightsError."""
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path} is no regular file")


def _read_config_file(path: Path) -> dict[str, Any] | None:
    refuse_what_is_no_file(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_JSON_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(data) > MOST_JSON_BYTES:
        raise WeightsError(f"{path} is too large to describe a model")
    return _parse_object(data, str(path))


def _parse_object(data: str | bytes, origin: str) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{origin} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise WeightsError(f"{origin} is not a JSON object")
    if _is_deep(value):
        raise WeightsError(f"{origin} holds values that are nested too deeply")
    return value


def _is_deep(value: Any) -> bool:
    """Whether a walk through it that calls itself might end in RecursionError."""
    level = [value]
    for _ in range(MOST_NESTED):
        inner = (v.values() if isinstance(v, dict) else v for v in level)
        level = [x for values in inner for x in values if isinstance(x, (dict, list, tuple))]
        if not level:
            return False
    return True


def _check_finite(path: Path, name: str, array: NDArray[np.floating]) -> None:
    if not np.isfinite(array).all():
        raise NotFiniteError(f"{path}: tensor {name} holds NaN or infinity")


def _digest(description: dict[str, Any], tensors: Tensors) -> str:
    sha256 = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(tensors):
        sha256.update(np.ascontiguousarray(tensors[name]).data)
    return sha256.hexdigest()


def to_json(value: Any, what: str, **layout: Any) -> str:
    """ValueError for NaN, infinity and deep nesting, TypeError for what else JSON does not have."""
    try:
        if isinstance(value, dict) and _is_deep(value):
            raise ValueError("they are nested too deeply")
        return json.dumps(value, allow_nan=False, **layout)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what} must be of JSON values: {error}") from None


def _fact(value: Any) -> str:
    """As Markdown without any meaning: neither HTML nor emphasis, links or code."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = escaped(" ".join(str(value).split()))
    text = re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", text)
    return html.escape(text, quote=False)


def _card(config: Config, tokenizer: Tokenizer, training: Mapping[str, Any]) -> str:
    facts = "".join(
        f"- {_fact(str(name).replace('_', ' '))}: {_fact(value)}\n"
        for name, value in training.items()
    )
    number = config.num_params(tokenizer.vocab_size)
    return f"""{CARD_MARK}
# A microgpt of {counted(number, "parameter")}

A character-level GPT: {counted(config.n_layer, "layer")}, n_embd {config.n_embd}, \
{counted(config.n_head, "head")}, contexts of {counted(config.block_size, "token")}, \
{counted(len(tokenizer.alphabet), "character")} and BOS. \
`{WEIGHTS_FILE}` holds the parameters in float32, `{CONFIG_FILE}` the shape and the alphabet:

    {"".join(tokenizer.alphabet)!r}

## How it was trained

{facts or "Not recorded."}
## Use

```python
import pymicrogpt as mg

model = mg.GPT.load(".")  # this directory
for text in model.sample(20, temperature=0.5):
    print(text)
```
"""
