"""Fuzzing of what reads files: damaged ones are refused by name, whatever the damage.

    python tests/helpers/fuzz.py --seconds 60  # make fuzz; prints the seed to repeat a finding with

A valid file is changed in one to three places, by flipped bits, cuts and repeats, or in what it
means: lengths, shapes, offsets, dtypes and names of the header, values and nesting of its JSON.
Then a loader gets it. It may load what was saved (or, where no checksum protects the file, anything
of its kind) or raise its own error with the name of the file. Not allowed are other exceptions,
crashes, and more memory than such files could need.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymicrogpt as mg

MEMORY = 512 << 20  # bytes of address space beyond what the process has at the start
Mutate = Callable[[random.Random, bytes], bytes]

# Bytes


def flip(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 8])):
        if changed:
            # Headers are at the beginning and hold most that can go wrong.
            place = rng.randrange(min(len(changed), rng.choice([16, 2000, len(changed)])))
            changed[place] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> bytes:
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice([data[:a], data[a:], data[:a] + data[b:], data[:b] + data[a:]])


def insert(rng: random.Random, data: bytes) -> bytes:
    place = rng.randrange(len(data) + 1)
    piece = rng.choice(
        [b"\0" * 9, b"\xff\xfe", b"NaN", b"[" * 50_000, rng.randbytes(20), b'"', b"}"]
    )
    return data[:place] + piece + data[place:]


# JSON

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 7, 2**31, 2**63, 2**64, 10**30, -0.5, 1e308, float("nan"),
    float("inf"), "", "x", "\ud800", "F64", "BF16", [], {}, [[]], [0], [0, 2**40], [3, 1],
    {"a": {}},
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 8))
    return [(value, key) for key in keys] + [p for key in keys for p in places(value[key])]


def change(rng: random.Random, value: Any) -> Any:
    spots = places(value)
    if not spots:
        return rng.choice(ODD)
    container, key = rng.choice(spots)
    other, other_key = rng.choice(spots)
    action = rng.randrange(5)
    if action == 0:
        del container[key]
    elif action == 1:
        container[key] = other[other_key] if other is not container else rng.choice(ODD)
    elif action == 2 and isinstance(container[key], (int, float)):
        container[key] += rng.choice([-1, 1, 4, 0.5, 2**32])
    elif action == 3 and isinstance(container, dict):
        container[rng.choice(["x", "wte", "__metadata__", "alphabet", key + "\0"])] = container[key]
    else:
        container[key] = rng.choice(ODD)
    return value


def dump(rng: random.Random, value: Any) -> bytes:
    """Sometimes with a name twice, and nested deeper than anyone needs."""
    try:
        text = json.dumps(value)
    except ValueError:  # a value inside itself
        return b"{}"
    if rng.random() < 0.1 and isinstance(value, dict) and value:
        key = rng.choice(list(value))
        text = f"{{{json.dumps(key)}: {json.dumps(rng.choice(ODD))}, {text[1:]}"
    if rng.random() < 0.02:
        text = text.replace(":", ":" + "[" * 5000, 1)
    return text.encode("utf-8", "surrogatepass")


def change_json(rng: random.Random, data: bytes) -> bytes:
    try:
        return dump(rng, change(rng, json.loads(data)))
    except (ValueError, RecursionError):
        return flip(rng, data)


def change_header(rng: random.Random, data: bytes) -> bytes:
    """Of a safetensors file: its length in 8 bytes, JSON, tensors. The metadata are JSON in a
    string of it."""
    try:
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        if rng.random() < 0.5:
            metadata = header["__metadata__"]
            metadata["pymicrogpt"] = change_json(rng, metadata["pymicrogpt"].encode()).decode()
            text = json.dumps(header).encode()
        else:
            text = dump(rng, change(rng, header))
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError):
        return flip(rng, data)
    said = len(text) if rng.random() < 0.95 else rng.choice([0, len(data), 2**31, 2**62, 2**64 - 1])
    return struct.pack("<Q", said) + text + data[8 + length :]


def change_numbers(rng: random.Random, data: bytes) -> bytes:
    """NaN and infinity among the last tensors."""
    place = len(data) - 4 * rng.randrange(1, 200)
    number = rng.choice([b"\0\0\xc0\x7f", b"\0\0\x80\xff", b"\xff" * 4])
    return data[: max(0, place)] + number + data[max(0, place) + 4 :] if len(data) > 1000 else data


# Loaders

BYTES: list[Mutate] = [flip, cut, insert]
TENSORS: list[Mutate] = [*BYTES, change_header, change_header, change_header, change_numbers]


@dataclass
class Target:
    """One loader, and how its valid file is changed."""

    name: str
    files: dict[str, list[Mutate]]  # how each is changed
    load: Callable[[], Any]
    errors: tuple[type[Exception], ...]
    exact: bool = False  # what loads must be what was saved


def targets(folder: Path) -> list[Target]:
    """Valid files in `folder`, and what reads them."""
    corpus = mg.Corpus.from_documents(["anna", "zoë", "bob", "😀 c"])
    config = mg.Config(n_layer=2, n_embd=4, n_head=2, block_size=4)
    trainer = mg.Trainer(corpus, config, engine="scalar", batch_size=2, num_steps=9)
    trainer.run(3)
    trainer.notes["best"] = [1.5, {"x": None}]
    trainer.model.save(folder)
    trainer.save(folder)
    text = folder / "corpus.txt"
    text.write_text("anna\r\n\nzoë\n😀 c\n" * 5, encoding="utf-8")

    def loaded() -> Any:
        model = mg.GPT.load(folder)
        assert len(model.logits([0])[0]) == model.tokenizer.vocab_size
        return model.config, model.tokenizer, {n: a.tobytes() for n, a in model.parameters.items()}

    def resumed() -> Any:
        again = mg.Trainer.resume(folder, corpus)
        state = {n: a.tobytes() for n, a in again.model.parameters.items()}
        again.run(1)
        return again.config, again.step, again.notes, state

    found = [
        Target(
            "GPT.load",
            {"model.safetensors": TENSORS, "config.json": [*BYTES, change_json, change_json]},
            loaded,
            (mg.WeightsError,),
        ),
        Target(
            "Trainer.resume",
            {"checkpoint.safetensors": TENSORS},
            resumed,
            (mg.WeightsError,),
            exact=True,
        ),
        Target(
            "Corpus.from_file",
            {"corpus.txt": BYTES},
            lambda: (
                mg.Corpus.from_file(text).alphabet,
                mg.Corpus.from_file(text, "stream", 3).describe(),
            ),
            (mg.CorpusError,),
        ),
    ]
    try:
        from bench.results import Results
    except ImportError:
        return found
    results = folder / "results.json"
    valid = Path(__file__).resolve().parents[2] / "reports" / "results.json"
    report = json.loads(valid.read_bytes())
    for part in (report["benchmarks"], report["pymicrogpt"]["probes"]):
        del part[2:]
    results.write_text(json.dumps(report), encoding="utf-8")
    found.append(
        Target(
            "Results.load",
            {"results.json": [*BYTES, change_json, change_json]},
            lambda: len(Results.load(results).rows),
            (ValueError,),
        )
    )
    return found


def attack(target: Target, folder: Path, rng: random.Random, expected: Any) -> str:
    """How one damaged file was taken: "loaded" or "refused". AssertionError otherwise."""
    valid = {name: (folder / name).read_bytes() for name in target.files}
    name = rng.choice(list(target.files))
    data = valid[name]
    for _ in range(rng.choice([1, 1, 2, 3])):
        data = rng.choice(target.files[name])(rng, data)
    (folder / name).write_bytes(data)
    try:
        result = target.load()
    except target.errors as error:
        known = [re.escape(n) for n in target.files]
        assert re.search("|".join(known), str(error)), f"no file is named: {error}"
        return "refused"
    finally:
        for other, original in valid.items():
            (folder / other).write_bytes(original)
    assert not target.exact or result == expected, "something else was loaded"
    return "loaded"


def limit_memory() -> None:
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError):  # no Linux
        return
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for all loaders together")
    parser.add_argument("--cases", type=int, help="at most so many for each loader")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        all_targets = targets(folder)
        values = [target.load() for target in all_targets]
        limit_memory()
        for target, expected in zip(all_targets, values, strict=True):
            counts: Counter[str] = Counter()
            end = time.monotonic() + options.seconds / len(all_targets)
            case = 0
            while time.monotonic() < end and case != options.cases:
                try:
                    rng = random.Random(f"{options.seed} {target.name} {case}")
                    counts[attack(target, folder, rng, expected)] += 1
                except BaseException:
                    print(f"{target.name}: case {case} of seed {options.seed}", file=sys.stderr)
                    raise
                case += 1
            print(f"{target.name}: {case} cases, {dict(counts)}")


if __name__ == "__main__":
    main()
