"""Removing a run with its files and nothing else: a folder goes only if it is plainly the run's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gaprun.errors import Failure, UserError

if TYPE_CHECKING:
    from gaprun.store.database import Store
    from gaprun.store.models import Run


def removable_folder(store: Store, run: Run) -> Path | None:
    """The run's folder if it exists and is its own: named by its id, or inside the artifacts folder."""
    folder = store.folder(run)
    if not run.folder or folder.is_symlink() or not folder.is_dir():
        return None
    inside = store.artifacts.resolve() in folder.resolve().parents
    return folder if inside or folder.name == run.id else None


def remove_run(store: Store, run: Run, keep_files: bool = False) -> str:
    """Remove `run` from the database, then its folder unless `keep_files`; a line that says what was done.

    Raises UserError for a run that is running or queued, Failure when its files cannot be deleted (its rows are gone
    then).
    """
    if run.status == "running":
        raise UserError(f"run {run.id} is running (process {run.pid} on {run.host}): stop it first")
    if run.status == "queued":
        job = ((run.notes or {}).get("queue") or {}).get("job")
        how = f"`scancel {job}`" if job else "stop the `gaprun submit` that sent it"
        raise UserError(f"run {run.id} is queued and would come back when it starts: {how} first")
    folder = None if keep_files else removable_folder(store, run)
    store.remove(run.id)
    if folder is None:
        return f"removed {run.id}"
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise Failure(f"removed {run.id}, but its folder {folder} is left: {error.strerror}") from None
    return f"removed {run.id} and {folder}"
