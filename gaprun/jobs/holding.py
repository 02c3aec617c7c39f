"""While a process is at a run: a lock on its folder that ends with the process, and heartbeats in the database."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gaprun.errors import Failure, GaprunError, UserError
from gaprun.store import Store
from gaprun.store.claims import BEAT_SECONDS, ClaimLost

LOCK = "run.lock"
BUSY = (BlockingIOError, PermissionError)


@contextmanager
def locked(folder: Path, run_id: str) -> Iterator[None]:
    """Hold the lock of a run's folder inside the block.

    The lock is the kernel's own: it is seen in every container of a machine, by network file systems on every machine,
    and is gone with the process however that ends. It is not inherited by loader processes. Where a file system has no
    locks the database's claim has to do. Raises UserError while another process holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise Failure(f"{folder} cannot be written: {error.strerror or error}") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BUSY:
            raise UserError(
                f"run {run_id} is already running: another process holds {folder / LOCK}; wait for it, or stop it first"
            ) from None
        except OSError:
            pass
        yield


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
