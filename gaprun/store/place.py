"""From `--db` to the file or server meant, and whether the file can be a database; nothing is opened for writing."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from gaprun.errors import UserError
from gaprun.files import expanded
from gaprun.store.secrets import hide_passwords

_HEADER = b"SQLite format 3\0"
_WAL, _ROLLBACK = (
    b"\x10\0\2\2",
    b"\1\1",
)  # page size, and the formats for writing and reading, of the two modes
EXAMPLE = "results.db.example"  # of the repository


@dataclass(frozen=True)
class Place:
    """Where a database lives: `path` is None for a server; `name` is what messages call it.

    `no_index`: a SQLite file in WAL mode where this user may not put the index beside it that SQLite reads it by.
    """

    url: URL
    name: str
    path: Path | None
    read_only: bool = False
    no_index: bool = False


def locate(url: str | None) -> Place:
    """The database meant by `url`: a path, a `sqlite:///` or a `postgresql://` URL.

    None means GAPRUN_DB, then results.db. Touches no file. Raises UserError for an empty name, as a shell's unset
    variable leaves, and for a scheme that gaprun has no code for.
    """
    if url is not None and not url.strip():
        raise UserError("the name of the database is empty: give a file or a URL, or leave it out")
    text = url or os.environ.get("GAPRUN_DB") or "results.db"
    if "://" not in text:
        if text.startswith(("sqlite:", "postgresql:", "postgres:")):
            raise UserError(
                f"{hide_passwords(text)!r} is not a database URL: write sqlite:///FILE or postgresql+psycopg://HOST/NAME"
            )
        return _sqlite_place(Path(text))
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):  # their texts may hold a part of the password
        raise UserError(
            f"{hide_passwords(text)!r} is not a database URL: write postgresql+psycopg://USER:PASSWORD@HOST:PORT/NAME, "
            "in a password %2F for /, %3A for :, %40 for @"
        ) from None
    backend = parsed.drivername.partition("+")[0]
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
            raise UserError(f"{text!r} names no file that keeps results: write sqlite:///FILE or just FILE")
        return _sqlite_place(Path(parsed.database))
    if backend in ("postgresql", "postgres"):
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        return Place(parsed, hide_passwords(parsed.render_as_string()), None)
    raise UserError(
        f"no support for {backend!r} databases: use a SQLite file, or postgresql+psycopg://HOST/NAME"
    )


def _sqlite_place(path: Path) -> Place:
    file = expanded(path)
    return Place(URL.create("sqlite", database=str(file.absolute())), str(path), file)


def check_file(place: Place, create: bool, write: bool = True) -> Place:
    """`place` after a look at its SQLite file: read-only where it cannot be written. Creates nothing.

    Without `write` it is read-only in any case, and follows what others write.

    Raises UserError for a folder, a file that is not a database, a missing file (unless `create`), and a new
    file in a folder that does not exist or cannot be written.
    """
    path = place.path
    if path is None:
        return place if write else replace(place, read_only=True)
    try:
        if path.is_dir():
            raise UserError(
                f"database {place.name} is a folder: name a file inside it, such as {path / 'results.db'}"
            )
        if path.is_symlink() and _leads_nowhere(path):
            raise UserError(f"database {place.name} is a link that leads nowhere: name another one with --db")
        if path.exists() and not path.is_file():
            raise UserError(
                f"database {place.name} is a device or pipe and no file: name another one with --db"
            )
        if not path.exists() or path.stat().st_size == 0:
            return _check_new(place, path, create)
        if _is_open_here(path):
            header = _HEADER + _WAL
        else:
            with path.open("rb") as file:
                header = file.read(len(_HEADER + _WAL))
    except OSError as error:
        raise UserError(f"database {place.name} cannot be read: {error.strerror}") from None
    if not header.startswith(_HEADER):
        raise UserError(
            f"{place.name} is not a gaprun database (not a SQLite file): name another one with --db"
        )
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if writable and write:
        return place
    no_index = not writable and not header.endswith(_ROLLBACK)
    return Place(_read_only_url(path), place.name, path, read_only=True, no_index=no_index)


def make_file(place: Place) -> None:
    """Let an absent SQLite file be there, empty, with the rights that this user's umask gives to new files.

    SQLite itself would let nobody but its maker write it, whatever the umask. Where it cannot be made, SQLite says why.
    """
    if place.path is not None and not place.read_only:
        with suppress(OSError):
            place.path.touch(exist_ok=False)


def _leads_nowhere(link: Path) -> bool:
    """Whether a link ends in a loop, or in a folder that is not there."""
    try:
        link.stat()
    except OSError as error:
        return error.errno == errno.ELOOP or not Path(os.path.realpath(link)).parent.is_dir()
    return False


def first_step() -> str:
    """The way out where there is no database with results."""
    return "run `gaprun train RECIPE` first" + f", or look at --db {EXAMPLE}" * Path(EXAMPLE).is_file()


def remove_logs(path: Path) -> None:
    """Remove what SQLite leaves beside a file that was given up."""
    for ending in ("-wal", "-shm", "-journal"):
        path.with_name(f"{path.name}{ending}").unlink(missing_ok=True)


def _check_new(place: Place, path: Path, create: bool) -> Place:
    if not create:
        if path.name == EXAMPLE and not path.exists():
            raise UserError(
                f"database {place.name} does not exist: it lies in gaprun's source, not in the package"
            )
        state = "is empty" if path.exists() else "does not exist"
        raise UserError(f"database {place.name} {state}: {first_step()}")
    if not path.parent.is_dir():
        raise UserError(f"database {place.name} cannot be created: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UserError(f"database {place.name} cannot be created: no permission to write in {path.parent}")
    return place


def _read_only_url(path: Path) -> URL:
    uri = "file:" + quote(str(path.absolute()))
    return URL.create("sqlite", database=uri, query={"mode": "ro", "uri": "true"})


def _is_open_here(path: Path) -> bool:
    """Whether this process has the file open, which then only SQLite may open once more.

    Closing any handle of a file takes all the process's locks on it away, SQLite's too; another program that closes
    the file last then deletes the write-ahead log under us, and what we write is lost.
    """
    wanted = path.stat()
    try:
        handles = [int(name) for name in os.listdir("/dev/fd")]
    except OSError:
        return False
    for handle in handles:
        with suppress(OSError):  # closed meanwhile, like the one that listed them
            if os.path.samestat(os.fstat(handle), wanted):
                return True
    return False
