"""From a place to an SQLAlchemy engine: its settings, and retried transactions."""

from __future__ import annotations

import json
import logging
import math
import random
import re
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, NoSuchModuleError, OperationalError, StatementError
from sqlalchemy.pool import NullPool

from gaprun.errors import Failure, GaprunError, UserError
from gaprun.store.place import Place
from gaprun.store.texts import check_texts

T = TypeVar("T")

BUSY_SECONDS = 60.0
RETRY_SECONDS = 60.0
SILENT_SECONDS = 1.0
# What a server, or the lack of one by that name, says to a connection that will never be taken.
_REFUSALS = (
    "authentication", "does not exist", "no pg_hba.conf entry", "name or service not known",
    "does not support ssl", "certificate",
)  # fmt: skip
# Beside every kind that begins with fuse: whether such a one maps memory that its machines share, none of them says.
NETWORK_FILE_SYSTEMS = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "9p", "virtiofs", "vboxsf", "prl_fs",
    "afs", "panfs", "pvfs2", "orangefs", "wekafs", "gfs2", "ocfs2",
}  # fmt: skip


def make_engine(place: Place) -> Engine:
    """An engine for `place`. Raises UserError where the driver is not installed.

    A SQLite file keeps a connection open, because closing the last one costs a checkpoint (16 ms a write
    against 1 ms). A server's connections end with their transaction, so its restarts are no event.
    """
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 8, "connect_args": {"timeout": BUSY_SECONDS}}
    if place.path is None:
        options = {"poolclass": NullPool, "connect_args": {"connect_timeout": 10}}
    if place.no_index:
        options = {"poolclass": NullPool, "connect_args": {"timeout": BUSY_SECONDS}}
    try:
        engine = create_engine(place.url, json_serializer=_json, **options)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise UserError(
            f"the driver of {place.name} is not installed ({error}): pip install 'gaprun[postgres]'"
        ) from None
    event.listen(engine, "before_cursor_execute", _on_execute)
    if place.read_only and place.path is None:
        event.listen(engine, "begin", _on_read_only_begin)
    if place.no_index and place.path is not None:
        event.listen(engine, "do_connect", partial(_on_connect_without_index, place.path))
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


def _on_connect_without_index(
    path: Path, _dialect: object, _record: object, arguments: list[str], _options: object
) -> None:
    # Each transaction asks anew: as immutable SQLite would not see a writer who comes later.
    if log_state(path) is not None:
        arguments[0] += "&immutable=1"


def log_state(path: Path) -> tuple[int, int] | None:
    """Time of change and size of a SQLite file that nobody writes; None while a write-ahead log lies beside it."""
    if Path(f"{path}-wal").exists():
        return None
    state = path.stat()
    return state.st_mtime_ns, state.st_size


def _on_sqlite_begin(connection: Connection) -> None:
    # A transaction that reads and then writes fails at once in WAL mode if another wrote between; lock first.
    immediate = connection.get_execution_options().get("gaprun_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _on_read_only_begin(connection: Connection) -> None:
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")


def journal_mode_for(path: Path) -> str:
    """`wal`, or `delete` on a network disk: WAL needs memory shared between all its processes."""
    kind = _file_system(path)
    return "delete" if kind in NETWORK_FILE_SYSTEMS or kind.startswith("fuse") else "wal"


def _file_system(path: Path) -> str:
    try:
        mounts = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    here, best, kind = str(path.resolve()), "", ""  # a link may lead to another disk
    for fields in (line.split() for line in mounts):
        point = re.sub(r"\\([0-7]{3})", lambda sign: chr(int(sign[1], 8)), fields[1])
        if len(point) >= len(best) and (here + "/").startswith(point.rstrip("/") + "/"):
            best, kind = point, fields[2]
    return kind


def retried(work: Callable[[], T], name: str) -> T:
    """`work()`, repeated while the database `name` is locked or away, for about a minute; then Failure.

    A server that stays away for longer than SILENT_SECONDS is said to be waited for, as a warning.

    `work` is one whole transaction and idempotent: after a lost connection nobody knows whether it was
    committed.
    """
    begun, told = time.monotonic(), False
    delay = 0.02
    while True:
        try:
            return work()
        except DBAPIError as error:
            waited = time.monotonic() - begun
            if not _worth_retrying(error) or waited > RETRY_SECONDS:
                raise explain(error, name) from error
            if waited > SILENT_SECONDS and not told and not isinstance(error.orig, sqlite3.Error):
                told = True
                logging.getLogger(__name__).warning(
                    "note: database %s does not answer (%s); trying again for up to %.0f s",
                    name, _first_line(error), RETRY_SECONDS,
                )  # fmt: skip
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
    refused = state.startswith(("28", "3D")) or any(words in text for words in _REFUSALS)
    return isinstance(error, OperationalError) and not refused


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).strip().splitlines() or ["unknown error"])[0]


def explain(error: DBAPIError, name: str) -> GaprunError:
    """The one line that a person needs about a driver's error on database `name`."""
    first = _first_line(error)
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
    if "disk" in first:  # `disk I/O error` where SQLite's own small files beside the database find no room
        return Failure(f"database {name}: {first}; free some space there")
    return Failure(f"database {name}: {first}")
