"""The lock on a run's folder: one process at a time is at a run, and a removal at none."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gaprun.errors import Failure, UserError
from gaprun.files import what_to_do

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
        raise Failure(f"{folder} cannot be written: {error.strerror or error}; {what_to_do(error)}") from None
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
