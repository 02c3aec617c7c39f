"""Ctrl-C while the first modules are still being read: the end at once, in a word, without a traceback.

Read first of all, and only where gaprun is the program: not in a notebook, a test, or a process that a job started.
"""

from __future__ import annotations

import os
import signal
import sys


def leave(number: int, frame: object) -> None:
    """End at once."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if os.path.basename(next((word for word in sys.orig_argv[1:] if word[:1] != "-"), "")) == "gaprun":
    signal.signal(signal.SIGINT, leave)  # until `gaprun.cli.main` begins
