"""A database that is open: where it and its runs' files lie, and one short transaction a read or write.

A write waits while the database is locked or its server away (about a minute), and is idempotent, so that a
killed or resumed process can repeat it. Objects that come back are detached: plain values, no connection
behind them.
"""

from __future__ import annotations

import os
import sqlite3
import weakref
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from gaprun.errors import Failure, GaprunError, UserError
from gaprun.files import expanded, plain_name
from gaprun.store.engine import log_state, retried
from gaprun.store.models import DatabaseIdentity, Run
from gaprun.store.place import Place
from gaprun.store.secrets import hide_passwords

T = TypeVar("T")
Opened = TypeVar("Opened", bound="OpenDatabase")

_TRIES = 20


def artifacts_of(place: Place) -> Path:
    """The folder for the files of the runs in the database at `place`."""
    if folder := os.environ.get("GAPRUN_RUNS"):
        return expanded(folder)
    return (place.path.absolute().parent if place.path else Path.cwd()) / "runs"


class DatabaseGone(Failure):
    """The file behind an open SQLite database is another one now, or none."""


class OpenDatabase:
    """One database; may be kept open for days, shared by threads, and used in forked workers."""

    def __init__(self, place: Place, engine: Engine, backup: Path | None = None) -> None:
        self.place = place
        self.engine = engine
        self.backup = backup
        self._pid = os.getpid()
        self._claims: dict[str, str] = {}
        self._path = None if place.path is None else place.path.absolute()
        self._file = _file_at(self._path)

    @property
    def url(self) -> str:
        """The database's URL without its password."""
        return hide_passwords(self.engine.url.render_as_string())

    @property
    def artifacts(self) -> Path:
        """The folder for the runs' files: GAPRUN_RUNS, `runs` beside a SQLite file, `./runs` for a server."""
        return artifacts_of(self.place)

    def folder(self, run: Run) -> Path:
        """The folder of one run's files; it need not exist (results move without their files).

        What a database says is followed only within the artifacts folder. Raises UserError for an id that is no name.
        """
        return self.own_path(run.folder) or self.artifacts / plain_name(run.id, "run")

    def own_path(self, place: str) -> Path | None:
        """The file or folder that a database calls `place`, or None if it lies outside the artifacts folder."""
        try:
            found = self.artifacts.parent / place
            inside = self.artifacts.resolve() in found.resolve().parents
        except (OSError, ValueError, RuntimeError):  # a NUL, or links in a circle
            return None
        return found if place and inside else None

    def close(self) -> None:
        """Let go of the file (SQLite then puts its write-ahead log away); the store opens it again when used."""
        self.engine.dispose()

    def fold_log(self) -> None:
        """Put all of SQLite's write-ahead log into the file itself. Raises Failure where the disk is full."""
        connection = self.engine.raw_connection()
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise Failure(f"database {self.place.name}: {error}") from None
        finally:
            connection.close()

    @cached_property
    def identity(self) -> str:
        """What this database calls itself, wherever it lies: a random hexadecimal text."""
        return self._read(lambda session: session.scalars(select(DatabaseIdentity.id)).one())

    def check_file(self) -> None:
        """Raise DatabaseGone if the SQLite file is not the one that was opened: SQLite itself would use it on."""
        if _file_at(self._path) != self._file:
            raise DatabaseGone(f"database {self.place.name} was moved, deleted or replaced while it was open")

    def check_writable(self) -> None:
        """Raise UserError where the database was opened to be read only."""
        if self.place.read_only:
            raise UserError(
                f"database {self.place.name} is read-only: copy it to a folder where you may write"
            )

    # Inside

    def _write(self, work: Callable[[Session], T]) -> T:
        self.check_writable()
        return self._transact(work, write=True)

    def _read(self, work: Callable[[Session], T]) -> T:
        return self._transact(work, write=False)

    def _transact(self, work: Callable[[Session], T], write: bool) -> T:
        if self._pid != os.getpid():
            # A connection must not be used, nor closed, on the other side of a fork; its pool is kept unused.
            self._inherited = self.engine.pool
            self.engine.dispose(close=False)
            self._pid = os.getpid()
        bind = self.engine.execution_options(gaprun_write=write)

        def attempt() -> T:
            with Session(bind, expire_on_commit=False) as session, session.begin():
                return work(session)

        if self.place.no_index and self.place.path is not None:
            return undisturbed(lambda: retried(attempt, self.place.name), self.place.path)

        if write:
            self.check_file()
        result = retried(attempt, self.place.name)
        if write:
            self.check_file()
        return result


def close_at_end(database: Opened) -> Opened:
    """`database`, whose file is let go of when nobody uses the object any more, at the latest as this process ends.

    SQLite then puts the write-ahead log into the file, which alone is what a person copies.
    """
    weakref.finalize(database, _close, database.engine, os.getpid())
    return database


def _close(engine: Engine, pid: int) -> None:
    if os.getpid() == pid:  # what was forked from it has no part in its connections
        engine.dispose()


def undisturbed(work: Callable[[], T], path: Path) -> T:
    """`work()`, which reads a file without locks, done again where a writer came or went meanwhile."""
    for _ in range(_TRIES):
        before = log_state(path)
        try:
            found = work()
        except GaprunError:
            if log_state(path) == before:
                raise
        else:
            if log_state(path) == before:
                return found
    raise Failure(f"database {path} changes faster than it is read: try again")


def _file_at(path: Path | None) -> tuple[int, int] | None:
    """Device and number of a file, whatever its name; None where there is none."""
    try:
        state = path.stat() if path else None
    except OSError:
        return None
    return (state.st_dev, state.st_ino) if state else None
