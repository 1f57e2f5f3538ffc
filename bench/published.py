"""Figures that others published, microseconds per sample: another machine, never our measurement.

All from the README of EEmicroGPT, an Apple M5: L = 1, H = 4, T = 16, names.txt.
"""

SOURCE = "EEmicroGPT's README, Apple M5"

PUBLISHED: dict[str, dict[str, float]] = {
    "d16": {
        "CPython 3.14": 49_000,
        "PyPy": 17_640,
        "microgpt.cpp": 270,
        "rust-microgpt": 118,
        "EEmicroGPT": 3.0,
    },
    "d32": {"EEmicroGPT": 11.4},
    "d64": {
        "CPython 3.14": 713_200,
        "PyPy": 301_400,
        "microgpt.cpp": 3_260,
        "rust-microgpt": 1_620,
        "EEmicroGPT, NEON": 46.8,
        "EEmicroGPT, SME2": 36.8,
    },
    "d128": {"EEmicroGPT": 119},
    "d256": {"EEmicroGPT": 443},
}
