"""How fast a run goes: steps a second over the last half minute, and the share of it that they waited for data."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

WINDOW_SECONDS = 30.0


class Pace:
    """Times of steps; `clock` gives seconds and only goes forward.

    A step waits for data while the host asks for its batch: on a GPU, whose work is queued ahead, a wait means that the
    card ran dry or soon will.
    """

    def __init__(self, step: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._waited = clock, 0.0
        self._marks: deque[tuple[float, int, float]] = deque()
        self.restart(step)

    def restart(self, step: int) -> None:
        """Count from now on, at `step`: what came before was no training (measuring, a save at a stop)."""
        self._marks.clear()
        self._waited = 0.0
        self._marks.append((self._clock(), step, 0.0))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """The time in this block is a wait for data."""
        begun = self._clock()
        yield
        self._waited += self._clock() - begun

    def note(self, step: int, loss: float | None) -> dict[str, Any]:
        """What the run's notes keep under `pace`: `step`, its `loss`, `steps_per_second` and `waiting` (a share, 0..1)
        over the window, None until a step is done, and the moment, `at`."""
        now = self._clock()
        while len(self._marks) > 1 and now - self._marks[1][0] >= WINDOW_SECONDS:
            self._marks.popleft()
        then, first, waited = self._marks[0]
        self._marks.append((now, step, self._waited))
        known = now > then and step > first
        return {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "step": step,
            "loss": loss,
            "steps_per_second": (step - first) / (now - then) if known else None,
            "waiting": (self._waited - waited) / (now - then) if known else None,
        }
