"""While a process is at a run: heartbeats in the database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from gaprun.errors import GaprunError
from gaprun.store import Store
from gaprun.store.claims import BEAT_SECONDS, ClaimLost


@contextmanager
def beating(store: Store, run_id: str) -> Iterator[None]:
    """Heartbeats of `run_id` inside the block, in whatever long phase it is."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            try:
                store.beat(run_id)
            except ClaimLost:
                return  # the next write says so
            except GaprunError:
                continue

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
