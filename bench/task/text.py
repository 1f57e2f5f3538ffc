"""Running text for the workloads that train on it: verse like the sonnets of the package.

Nobody's text of a million characters comes with the package, and a workload must be the same on
every machine. So a Markov chain draws it, one word after the other, each from those that follow the
word before in the sonnets; line breaks are words too. A share of the words gets an ending that they
have nowhere in the sonnets, so that a model cannot just learn a short list by heart. Characters and
their pairs are about as frequent as in the sonnets.
"""

import random
import re
from importlib.resources import files
from itertools import pairwise

from pymicrogpt import Corpus

CHARACTERS = 600_000
SEED = 42
ENDINGS = ("s", "ed", "ing", "er", "est", "ly", "less", "ness", "th")
INFLECTED = 0.1  # of the words of four letters or more


def running_text(characters: int = CHARACTERS, seed: int = SEED) -> str:
    """So many characters; the same for a seed under every version of Python."""
    sonnets = files("pymicrogpt").joinpath("data", "sonnets.txt").read_text(encoding="utf-8")
    words = re.findall(r"\n+|[^\s]+", sonnets)
    followers: dict[str, list[str]] = {}
    for word, following in pairwise([*words, words[0]]):
        followers.setdefault(word, []).append(following)
    uniform = random.Random(seed).random  # whose values Python promises to keep
    parts: list[str] = []
    word, size = "\n", 0
    while size < characters:
        among = followers[word]
        before, word = word, among[int(uniform() * len(among))]
        written = word
        if len(word) > 3 and word.isalpha() and uniform() < INFLECTED:
            written = word.rstrip("e") + ENDINGS[int(uniform() * len(ENDINGS))]
        space = "" if before.startswith("\n") or word.startswith("\n") else " "
        parts.append(space + written)
        size += len(parts[-1])
    return "".join(parts)[:characters]


def text_corpus(block_size: int) -> Corpus:
    """The text in blocks of so many characters."""
    return Corpus.from_text(running_text(), block_size)
