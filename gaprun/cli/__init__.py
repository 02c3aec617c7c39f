"""The command line: one file a command that parses, calls and renders; no logic and no torch at import time."""

import os
import signal
import sys
from pathlib import Path
from types import FrameType


def leave(number: int, frame: object) -> None:
    """End at once and in a word: Ctrl-C while the first modules are still being read."""
    os.write(2, b"interrupted\n")
    os._exit(130)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C in a command: KeyboardInterrupt, but within an import, which may swallow or print it, the end at once."""
    inner = frame
    while inner is not None:
        if inner.f_code.co_filename.startswith("<frozen importlib"):
            leave(number, frame)
        inner = inner.f_back
    raise KeyboardInterrupt


if sys.argv and Path(sys.argv[0]).name in ("gaprun", "__main__.py"):
    signal.signal(signal.SIGINT, leave)  # until `main` begins
