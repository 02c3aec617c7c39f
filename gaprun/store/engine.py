"""From `--db` to an SQLAlchemy engine: the file or server meant, its settings, retried transactions."""

from __future__ import annotations

import json
import math
import os
import random
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.engine import Connection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, StatementError
from sqlalchemy.pool import NullPool

from gaprun.errors import Failure, GaprunError, UserError
from gaprun.store.secrets import hide_passwords
from gaprun.store.texts import check_texts

T = TypeVar("T")

_HEADER = b"SQLite format 3\0"
BUSY_SECONDS = 60.0
RETRY_SECONDS = 60.0
NETWORK_FILE_SYSTEMS = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "lustre",
    "gpfs",
    "beegfs",
    "ceph",
    "fuse.sshfs",
    "9p",
}


@dataclass(frozen=True)
class Place:
    """Where a database lives: `path` is None for a server; `name` is what messages call it."""

    url: URL
    name: str
    path: Path | None
    read_only: bool = False


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
    return Place(
        URL.create("sqlite", database=str(path.expanduser().absolute())), str(path), path.expanduser()
    )


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
            header = _HEADER
        else:
            with path.open("rb") as file:
                header = file.read(len(_HEADER))
    except OSError as error:
        raise UserError(f"database {place.name} cannot be read: {error.strerror}") from None
    if header != _HEADER:
        raise UserError(
            f"{place.name} is not a gaprun database (not a SQLite file): name another one with --db"
        )
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    if writable and write:
        return place
    return Place(_read_only_url(path, writable), place.name, path, read_only=True)


def _leads_nowhere(link: Path) -> bool:
    """Whether a link ends in a loop, or in a folder that is not there."""
    try:
        return not link.resolve().parent.is_dir()
    except (OSError, RuntimeError):
        return True


def _check_new(place: Place, path: Path, create: bool) -> Place:
    if not create:
        state = "is empty" if path.exists() else "does not exist"
        raise UserError(
            f"database {place.name} {state}: run `gaprun train RECIPE` first, "
            "or look at --db results.db.example"
        )
    if not path.parent.is_dir():
        raise UserError(f"database {place.name} cannot be created: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        raise UserError(f"database {place.name} cannot be created: no permission to write in {path.parent}")
    return place


def _read_only_url(path: Path, writable: bool) -> URL:
    uri = "file:" + quote(str(path.absolute()))
    query = {"mode": "ro", "uri": "true"}
    # A WAL database in a folder where SQLite may not put its index beside it opens only as immutable.
    if not writable and not Path(f"{path}-wal").exists():
        query["immutable"] = "1"
    return URL.create("sqlite", database=uri, query=query)


def make_engine(place: Place) -> Engine:
    """An engine for `place`. Raises UserError where the driver is not installed.

    A SQLite file keeps a connection open, because closing the last one costs a checkpoint (16 ms a write
    against 1 ms). A server's connections end with their transaction, so its restarts are no event.
    """
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 8, "connect_args": {"timeout": BUSY_SECONDS}}
    if place.path is None:
        options = {"poolclass": NullPool, "connect_args": {"connect_timeout": 10}}
    try:
        engine = create_engine(place.url, json_serializer=_json, **options)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise UserError(
            f"the driver of {place.name} is not installed ({error}): pip install 'gaprun[postgres]'"
        ) from None
    event.listen(engine, "before_cursor_execute", _on_execute)
    if place.read_only and place.path is None:
        event.listen(engine, "begin", _on_read_only_begin)
    if place.path is not None:
        event.listen(engine, "connect", _on_sqlite_connect)
        event.listen(engine, "begin", _on_sqlite_begin)
    return engine


def _json(document: Any) -> str:
    """`document` as JSON that every database parses: NaN and infinity are null."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    check_texts(document, "a document for the database")
    return json.dumps(finite(document), allow_nan=False)


def _on_execute(
    _connection: object, _cursor: object, _statement: object, parameters: Any, *_: object
) -> None:
    check_texts(parameters, "a text for the database")


def _on_sqlite_connect(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver would begin transactions late; _on_sqlite_begin does it
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")


def _on_sqlite_begin(connection: Connection) -> None:
    # A transaction that reads and then writes fails at once in WAL mode if another wrote between; lock first.
    immediate = connection.get_execution_options().get("gaprun_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _on_read_only_begin(connection: Connection) -> None:
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")


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


def journal_mode_for(path: Path) -> str:
    """`wal`, or `delete` on a network disk: WAL needs memory shared between all its processes."""
    return "delete" if _file_system(path) in NETWORK_FILE_SYSTEMS else "wal"


def _file_system(path: Path) -> str:
    try:
        mounts = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    here, best, kind = str(path.absolute()), "", ""
    for fields in (line.split() for line in mounts):
        point = fields[1].replace("\\040", " ")
        if len(point) >= len(best) and (here + "/").startswith(point.rstrip("/") + "/"):
            best, kind = point, fields[2]
    return kind


def retried(work: Callable[[], T], name: str) -> T:
    """`work()`, repeated while the database `name` is locked or away, for about a minute; then Failure.

    `work` is one whole transaction and idempotent: after a lost connection nobody knows whether it was
    committed.
    """
    deadline = time.monotonic() + RETRY_SECONDS
    delay = 0.02
    while True:
        try:
            return work()
        except DBAPIError as error:
            if not _worth_retrying(error) or time.monotonic() > deadline:
                raise explain(error, name) from error
        except StatementError as error:
            if isinstance(error.orig, GaprunError):  # of a parameter that was refused
                raise error.orig from None
            raise
        except ValueError as error:
            if isinstance(error, json.JSONDecodeError) or "isoformat" in str(error):
                raise UserError(
                    f"{name} holds a value that gaprun did not write ({error}): name another one with --db"
                ) from error
            raise
        time.sleep(delay * (0.5 + random.random()))
        delay = min(2.0, delay * 2)


def _worth_retrying(error: DBAPIError) -> bool:
    text = str(error.orig).lower()
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in text or "busy" in text
    state = getattr(error.orig, "sqlstate", None) or ""
    if state in (
        "40001",
        "40P01",
        "23505",
    ):  # lost a race: serialisation, deadlock, the same row inserted twice
        return True
    refused = state.startswith(("28", "3D")) or "authentication" in text or "does not exist" in text
    return isinstance(error, OperationalError) and not refused


def explain(error: DBAPIError, name: str) -> GaprunError:
    """The one line that a person needs about a driver's error on database `name`."""
    first = (str(error.orig).strip().splitlines() or ["unknown error"])[0]
    if "malformed" in first or "not a database" in first:
        return UserError(f"{name} is damaged or not a database ({first}): name another one with --db")
    if "unable to open" in first:
        return UserError(
            f"database {name} cannot be opened here: copy it, with its -wal file, to your own folder"
        )
    if "readonly" in first:
        return UserError(f"database {name} is read-only: copy it to a folder where you may write")
    if "no such table" in first or "no such column" in first:
        return UserError(f"{name} is not a gaprun database ({first}): name another one with --db")
    if getattr(error.orig, "sqlstate", None) == "42501":  # insufficient privilege
        return UserError(
            f"database {name}: {first}: ask its owner for this right, or name another user in the URL"
        )
    if "locked" in first or "busy" in first:
        return Failure(
            f"database {name} stayed locked for {RETRY_SECONDS:.0f} s: is another program holding it?"
        )
    return Failure(f"database {name}: {first}")
