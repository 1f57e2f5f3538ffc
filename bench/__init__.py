"""The benchmark of pymicrogpt: `python -m bench.run_all`. Imports pymicrogpt, never the reverse."""
