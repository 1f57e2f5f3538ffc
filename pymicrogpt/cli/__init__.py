"""The command `pymicrogpt`: a file for each subcommand, and what they share.

Exit codes: 0; 2 for bad input; 128 + the signal where one ended the work (130 for Ctrl-C).
"""

from ..__main__ import main

__all__ = ["main"]
