"""Hand-derived forward and backward in plain C++: without and with the compiler's vectoriser."""

from functools import partial

from bench.session import EngineSession, engine_available
from bench.variant import Variant


def hand_derived(name: str, label: str) -> Variant:
    open_session = partial(EngineSession, name)
    return Variant(name, label, "hand-derived", open_session, engine_available(name))


VARIANTS = [
    hand_derived("scalar", "C++ scalar"),
    hand_derived("autovec", "C++ auto-vectorised"),
]
