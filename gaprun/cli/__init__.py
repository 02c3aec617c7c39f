"""The command line: one file a command that parses, calls and renders; no logic and no torch at import time."""

import os
import signal
import sys
from pathlib import Path


def leave(number: int, frame: object) -> None:
    """End at once and in a word: Ctrl-C while the first modules are still being read."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if sys.argv and Path(sys.argv[0]).name in ("gaprun", "__main__.py"):
    signal.signal(signal.SIGINT, leave)  # until `main` begins
