"""What a running job tells the outside (progress) and hears from it (stop)."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

from gaprun.errors import GaprunError


@dataclass(frozen=True)
class Event:
    """Progress of one job: `done` of `total` in a phase (`captions`, `decode`, `train`, or an embedded split).

    The phase `resume` carries a note that must be read, and no progress.
    """

    job: str
    phase: str
    done: int
    total: int
    note: str = ""


Report = Callable[[Event], None]


def quietly(report: Report) -> Report:
    """`report` that goes quiet when nobody can read it any more: a closed terminal, a full disk under a log."""
    heard = True

    def call(event: Event) -> None:
        nonlocal heard
        if heard:
            try:
                report(event)
            except OSError:
                heard = False
            except ValueError as error:
                if "closed file" not in str(error):
                    raise
                heard = False

    return call


class Interrupted(GaprunError):
    """Stopped by Ctrl-C or SIGTERM after saving; calling `gaprun train` again goes on."""

    exit_code = 130


class LostProcess(Interrupted):
    """Another process of the same run is gone; the state here may be halfway through a step and is not saved."""

    exit_code = 1


def acknowledge() -> None:
    """Say at once, from a signal's handler, that a stop was heard; one process of several speaks."""
    if multiprocessing.parent_process() is None and os.environ.get("RANK", "0") == "0":
        with suppress(OSError):
            os.write(2, b"\nstopping, saving (once more: stop at once)\n")


class StopRequest:
    """Set by SIGINT or SIGTERM; the loop looks at it between steps. A second signal stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        acknowledge()

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Catch both signals inside the block (main thread only); a terminal that closes does not end it."""
        hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN) if hasattr(signal, "SIGHUP") else None
        kinds = [k for k in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(k) is not signal.SIG_IGN]
        before = [signal.signal(kind, self._handle) for kind in kinds]
        try:
            yield self
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)
            if hangup is not None:
                signal.signal(signal.SIGHUP, hangup)

    def raise_if(self, step: int) -> None:
        """Raise Interrupted if a stop was asked for; call it once step `step` is saved."""
        if self.requested:
            raise Interrupted(f"stopped at step {step}; the same command goes on from there")
