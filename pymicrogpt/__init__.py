"""Train a tiny GPT on a CPU, through engines from pure Python to AVX-512 with the same maths.

The whole way:

    import pymicrogpt as mg

    trainer = mg.Trainer(mg.Corpus.load(), mg.Config())
    losses = trainer.run()
    print(trainer.model.sample(20))
"""

from __future__ import annotations

import os
import sys

# In the source tree after a plain `pip install .`, _core is in the installed copy alone. (pkgutil
# does this too, and takes longer to load than all else until Ctrl-C is provided for.)
__path__ = [
    *__path__,
    *filter(os.path.isdir, (os.path.abspath(os.path.join(p, __name__)) for p in sys.path)),
]

from .engines import engines  # the module of that name would hide a lazy function

TYPE_CHECKING = False  # to anything but a type checker
if TYPE_CHECKING:
    from typing import Any

    from .config import Config
    from .corpus import Corpus, CorpusError, CorpusNotFoundError
    from .engine_info import EngineInfo
    from .model import GPT
    from .recipes import Recipe, recipe
    from .storage.weights import WeightsError
    from .tokenizer import Tokenizer
    from .trainer import Activity, Trainer

    __version__: str

__all__ = [
    "GPT",
    "Activity",
    "Config",
    "Corpus",
    "CorpusError",
    "CorpusNotFoundError",
    "EngineInfo",
    "Recipe",
    "Tokenizer",
    "Trainer",
    "WeightsError",
    "__version__",
    "engines",
    "recipe",
]


_HOMES = {
    "Activity": "trainer",
    "Config": "config",
    "Corpus": "corpus",
    "CorpusError": "corpus",
    "CorpusNotFoundError": "corpus",
    "EngineInfo": "engine_info",
    "GPT": "model",
    "Recipe": "recipes",
    "Tokenizer": "tokenizer",
    "Trainer": "trainer",
    "WeightsError": "storage.weights",
    "recipe": "recipes",
}


# Everything loads on first use: Ctrl-C in the first moments of the command finds it ready, and all
# but model, trainer and storage runs under PyPy too, with the standard library alone.
def __getattr__(name: str) -> Any:
    value: Any
    if name == "__version__":
        from importlib.metadata import version

        value = version("pymicrogpt")
    elif name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
