"""Whose a run's folder is: `run.json` in it names the run, what it was made from, and the databases that use it.

Two databases in one place share `runs/`. A folder is used by a second one only where everything agrees, and it is
deleted only by the last one. One of other facts (other data under the same name, say) is moved aside if no database
uses it any more, and otherwise refused; nothing in it is used or deleted.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import make_url

from gaprun.errors import Failure, UserError
from gaprun.files import plain_name, write_atomically

if TYPE_CHECKING:
    from gaprun.store.database import Store
    from gaprun.store.place import Place

MARK = "run.json"
WORDS = {"run": "run", "seed": "seed", "recipe_hash": "recipe", "data": "training data"}


def read_mark(folder: Path) -> dict[str, Any] | None:
    """What `run.json` in `folder` says; None where there is none that can be read."""
    try:
        found = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("databases"), dict) else None


def contradiction(folder: Path, facts: dict[str, Any]) -> str:
    """In which of `facts` (run, seed, recipe_hash, data) the folder's mark is another's, in a word; "" in none."""
    mark = read_mark(folder)
    if mark is None:
        return "program" if (folder / MARK).exists() else ""
    differing = (
        word for key, word in WORDS.items() if key in mark and key in facts and mark[key] != facts[key]
    )
    return next(differing, "")


def check_mark(folder: Path, facts: dict[str, Any], place: Place, identity: str | None = None) -> bool:
    """Whether the folder is another's that nobody uses: then `move_aside` makes room.

    Raises UserError where it is another's and a database other than the one at `place`, which calls itself `identity`,
    may use it, or nobody can say.
    """
    other = contradiction(folder, facts)
    if not other:
        return False
    users = other_databases(place, identity, folder)
    if read_mark(folder) is None or users:
        by = f" in {', '.join(users)}" if users else ""
        raise UserError(f"{folder} belongs to another {other}{by}: {way_out(folder)}")
    return True


def move_aside(folder: Path) -> Path:
    """Rename a folder that nobody uses to a name of its own; returns it. Raises Failure."""
    names = (folder.with_name(f"{folder.name}.aside{number}") for number in range(1, 1000))
    target = next(name for name in names if not name.exists())
    try:
        return folder.rename(target)
    except OSError as error:
        raise Failure(f"{folder} cannot be moved aside: {error.strerror or error}") from None


def way_out(folder: Path) -> str:
    """What to do about a folder that is not this run's; nothing in it is used, nothing deleted."""
    return (
        f"nothing there is used or deleted; move {folder.name} away, or let GAPRUN_RUNS name another folder than "
        f"{folder.parent}"
    )


def own(store: Store, run_id: str, facts: dict[str, Any] | None = None) -> Path:
    """The folder of `run_id`, made and marked as used by `store`'s database.

    A folder without a mark is marked only where `facts` are given: the caller has looked at what is in it. Raises
    UserError where it is another's, Failure where it cannot be written.
    """
    folder = store.artifacts / plain_name(run_id, "run")
    facts = {"run": run_id, **(facts or {})}
    if other := contradiction(folder, facts):
        raise UserError(f"{folder} belongs to another {other}: {way_out(folder)}")
    mark = read_mark(folder)
    if mark is None and folder.exists() and len(facts) == 1:
        return folder
    mark = {**facts, **(mark or {"databases": {}})}
    databases = mark["databases"]
    if not any(_is_at(store.place, store.identity, *known) for known in databases.items()):
        databases = databases | {_name(store.place): store.identity}
    if mark | {"databases": databases} != read_mark(folder):
        _write(folder, mark | {"databases": databases})
    return folder


def other_databases(place: Place, identity: str | None, folder: Path) -> list[str]:
    """Databases beside that at `place`, which calls itself `identity`, that use `folder`.

    A file that is gone counts no more, and one that cannot be looked for does: it may lie on another machine's disk, or
    in a folder that only its owner reads.
    """
    found = []
    for name, own in (read_mark(folder) or {"databases": {}})["databases"].items():
        if not _is_at(place, identity, name, own):
            there = True if "://" in name else _is_there(Path(name))
            if there is None and own != identity:  # else this one, before it was moved
                found.append(f"{name} (which cannot be seen from here)")
            elif there:
                found.append(name)
    return found


def is_own(store: Store, folder: Path, run_id: str, checkpoint_hash: str | None) -> bool:
    """Whether `folder` lies in the artifacts folder under the run's name and carries its mark.

    A folder of an earlier gaprun has no mark; there a note of the run's own checkpoint is one.
    """
    if folder.is_symlink() or not folder.is_dir() or folder.name != run_id:
        return False
    if folder.resolve().parent != store.artifacts.resolve():
        return False
    mark = read_mark(folder)
    if mark is None:
        notes = folder.glob("checkpoints/step-*.json") if checkpoint_hash else ()
        return any(_weights_of(note) == checkpoint_hash for note in notes)
    return mark.get("run") == run_id and store.identity in mark["databases"].values()


def disown(store: Store, folder: Path) -> None:
    """Take this database off the folder's mark."""
    mark = read_mark(folder)
    if mark is None:
        return
    others = {
        name: own
        for name, own in mark["databases"].items()
        if not _is_at(store.place, store.identity, name, own)
    }
    if others != mark["databases"]:
        _write(folder, mark | {"databases": others})


def _name(place: Place) -> str:
    return str(place.path.absolute()) if place.path else place.name


def _is_at(place: Place, identity: str | None, name: str, own: Any) -> bool:
    """Whether a mark's database `name`, which calls itself `own`, is the one at `place`: perhaps under another path, or
    by another user of its server."""
    if name == _name(place):
        return True
    if place.path is not None:
        try:
            return "://" not in name and os.path.samefile(name, place.path)
        except OSError:
            return False
    return "://" in name and own == identity and _address(name) == _address(place.name)


def _address(url: str) -> tuple[Any, ...]:
    """Where a server's database is, whoever asks."""
    parsed = make_url(url)
    return parsed.host, parsed.port, parsed.database, parsed.query.get("host"), parsed.query.get("port")


def _is_there(file: Path) -> bool | None:
    """Whether there is a file; None where its folder cannot be looked into."""
    try:
        file.stat()
    except FileNotFoundError:
        return False if file.parent.is_dir() else None
    except OSError:
        return None
    return True


def _write(folder: Path, mark: dict[str, Any]) -> None:
    text = json.dumps(mark, indent=1)
    try:
        write_atomically(folder / MARK, lambda path: path.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise Failure(f"{folder / MARK} cannot be written: {error.strerror or error}") from None


def _weights_of(note: Path) -> str | None:
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("weights_hash") if isinstance(found, dict) else None
