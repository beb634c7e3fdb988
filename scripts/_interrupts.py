"""Ctrl-C amid the imports of a script ends it in silence, with no traceback. Imported before all else, by _build.py."""

from __future__ import annotations

import os
import signal
import sys

ours = os.path.dirname(os.path.abspath(sys.argv[0])) == os.path.dirname(os.path.abspath(__file__))
if ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_again() -> None:
    """From here on Ctrl-C is a KeyboardInterrupt, so that a script can clean up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, once)


def once(*_: object) -> None:
    """A second Ctrl-C would interrupt the explanation of the first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
