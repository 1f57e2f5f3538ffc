"""Train a tiny GPT on a CPU, through engines from pure Python to AVX-512 with the same maths.

The whole way:

    import pymicrogpt as mg

    trainer = mg.Trainer(mg.Corpus.load(), mg.Config())
    losses = trainer.run()
    print(trainer.model.sample(20))
"""

from __future__ import annotations

from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

# In the source tree after a plain `pip install .`, _core is in the installed copy alone.
__path__ = extend_path(__path__, __name__)

from .config import Config
from .corpus import Corpus, CorpusError, CorpusNotFoundError
from .engines import EngineInfo, engines
from .tokenizer import Tokenizer

if TYPE_CHECKING:
    from .model import GPT
    from .trainer import Activity, Trainer
    from .weights import WeightsError

    __version__: str

__all__ = [
    "GPT",
    "Activity",
    "Config",
    "Corpus",
    "CorpusError",
    "CorpusNotFoundError",
    "EngineInfo",
    "Tokenizer",
    "Trainer",
    "WeightsError",
    "__version__",
    "engines",
]


# What needs NumPy or the installed metadata loads on first use: pymicrogpt.reference and all that
# is imported above also run under PyPy, with the standard library alone.
def __getattr__(name: str) -> Any:
    value: Any
    if name == "Trainer":
        from .trainer import Trainer as value
    elif name == "Activity":
        from .trainer import Activity as value
    elif name == "GPT":
        from .model import GPT as value
    elif name == "WeightsError":
        from .weights import WeightsError as value
    elif name == "__version__":
        from importlib.metadata import version

        value = version("pymicrogpt")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
