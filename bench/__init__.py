"""The benchmark of pymicrogpt: `python -m bench.run_all`. Imports pymicrogpt, never the reverse."""

import signal
import sys

# Of `python -m bench...`: while its modules load, Ctrl-C ends it without a traceback of theirs.
if sys.argv[:1] == ["-m"] and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
