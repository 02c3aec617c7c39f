"""The command line: one file a command that parses, calls and renders; no logic and no torch at import time."""

from types import FrameType

from gaprun.leaving import leave


def interrupt(number: int, frame: FrameType | None) -> None:
    """Ctrl-C in a command: KeyboardInterrupt, but within an import, which may swallow or print it, the end at once."""
    inner = frame
    while inner is not None:
        if inner.f_code.co_filename.startswith("<frozen importlib"):
            leave(number, frame)
        inner = inner.f_back
    raise KeyboardInterrupt
