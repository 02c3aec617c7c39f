"""Removing a run with its files and nothing else: a folder goes only if it carries the run's own mark, and of what is
in it only what gaprun wrote; a person's notes and figures stay, and the folder with them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gaprun.errors import Failure, UserError
from gaprun.store.folders import disown, is_own, other_databases
from gaprun.store.lock import locked

if TYPE_CHECKING:
    from gaprun.store.database import Store
    from gaprun.store.models import Run

# What gaprun writes into a run's folder. A checkpoint that was moved aside (`.aside1`) is not among it: it was damaged
# or another's.
_NAMES = {
    "": r"run\.json|run\.lock|recipe\.yaml|log\.txt|record\.jsonl",
    "details/": r"[^/]+\.npz",
    "checkpoints/": r"step-\d+\.(?:pt|json)",
}
# Also one that was being written when a process was killed: `.step-000010.pt.4711`.
_OWN = re.compile("|".join(rf"{folder}(?:{name}|\.(?:{name})\.\d+)" for folder, name in _NAMES.items()))


def removable_folder(store: Store, run: Run) -> Path | None:
    """The run's folder if it is plainly its own (see `folders.is_own`) and no other database uses it."""
    folder = _folder(store, run)
    if folder is None or not is_own(store, folder, run.id, run.checkpoint_hash):
        return None
    return None if other_databases(store.place, store.identity, folder) else folder


def remove_run(store: Store, run: Run, keep_files: bool = False) -> str:
    """Remove `run` from the database, then its folder unless `keep_files`; a line that says what was done.

    Files there that gaprun did not write stay, in their folder, and are named.

    Raises UserError for a run that a process is at or that is queued, and for files that this user may not delete;
    Failure where deleting them breaks off (its rows are gone then).
    """
    if run.status == "running" or store.is_owned(run.id):
        raise UserError(f"run {run.id} is running (process {run.pid} on {run.host}): stop it first")
    if run.status == "queued":
        job = ((run.notes or {}).get("queue") or {}).get("job")
        how = f"`scancel {job}`" if job else "stop the `gaprun submit` that sent it"
        raise UserError(f"run {run.id} is queued and would come back when it starts: {how} first")
    folder = None if keep_files else removable_folder(store, run)
    if folder is None:
        left = "" if keep_files else _why_left(store, run)
        store.remove(run.id)
        return f"removed {run.id}{left}"
    _check_deletable(folder)
    with locked(folder, run.id):  # a process at the run may look dead from here, by clocks that differ
        store.remove(run.id)
    try:
        foreign = _remove_own(folder)
    except OSError as error:
        raise Failure(f"removed {run.id}, but its folder {folder} is left: {error.strerror}") from None
    if foreign:
        named = ", ".join(foreign[:3]) + (f" and {len(foreign) - 3} more" if len(foreign) > 3 else "")
        return f"removed {run.id} and its files; {folder} is left with what gaprun did not write: {named}"
    return f"removed {run.id} and {folder}"


def _check_deletable(folder: Path) -> None:
    """Raise UserError where a file in `folder` or a folder below could not be deleted by this user."""
    for place in [str(folder.parent), *(parent for parent, _, _ in os.walk(folder))]:
        if not os.access(place, os.W_OK | os.X_OK):
            raise UserError(
                f"{folder} cannot be deleted: no right to write in {place}; nothing was removed: ask its owner, or "
                "leave the files with --keep-files"
            )


def _remove_own(folder: Path) -> list[str]:
    """Delete gaprun's files in a run's folder, and folders that are empty then; the names of what stays.

    Links are not followed: one to a folder stays.
    """
    foreign = []
    for parent, below, names in os.walk(folder, topdown=False):
        for name in names + [one for one in below if Path(parent, one).is_symlink()]:
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if _OWN.fullmatch(relative) and not path.is_dir():
                path.unlink()
            else:
                foreign.append(relative)
        if not any(Path(parent).iterdir()):
            Path(parent).rmdir()
    return sorted(foreign)


def _folder(store: Store, run: Run) -> Path | None:
    try:
        return store.folder(run)
    except UserError:  # its id is no name: there can be no folder of it
        return None


def _why_left(store: Store, run: Run) -> str:
    folder = _folder(store, run)
    if folder is None or not folder.is_dir():
        return ""
    if is_own(store, folder, run.id, run.checkpoint_hash):
        others = ", ".join(other_databases(store.place, store.identity, folder))
        disown(store, folder)
        return f"; {folder} is left: {others} uses it too"
    return f"; {folder} is left: it carries no mark of this run in this database"
