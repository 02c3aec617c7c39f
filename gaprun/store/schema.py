"""Bringing a database to this code's schema: created at once when fresh, migrated under a lock when old.

The version stands in alembic's own table. Alembic itself is imported only when that version is not HEAD.
"""

from __future__ import annotations

import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from gaprun.errors import Failure, UserError
from gaprun.files import write_atomically
from gaprun.store.clock import now_at
from gaprun.store.engine import BUSY_SECONDS, journal_mode_for, retried
from gaprun.store.place import Place, first_step, remove_logs

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

HEAD = "0005"
TABLES = {"runs", "evaluations", "metrics", "trajectory"}  # since the first version
MIGRATIONS = Path(__file__).with_name("migrations")
_LOCK_KEY = 0x6761_7072  # an arbitrary number that all gaprun processes agree on (PostgreSQL advisory lock)


def version_of(connection: Connection) -> str | None:
    """The revision that the database says it has; None where it says nothing."""
    try:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except DBAPIError as error:
        connection.rollback()
        known = str(error.orig).lower()
        if "no such table" in known or "does not exist" in known:
            return None
        raise


def ensure_schema(engine: Engine, place: Place, create: bool) -> Path | None:
    """Create, migrate or accept the database; the backup that a migration of a SQLite file left, if any.

    A server that is away is waited for (`retried`).

    Raises UserError for a database of a newer gaprun, of another program, or (unless `create`) without
    tables.
    """

    def look() -> bool:
        with engine.connect() as connection:
            version = version_of(connection)
            if version is None:
                _check_fresh(connection, place, create)
            elif version != HEAD:
                _check_ours(connection, place)
            return version == HEAD

    if retried(look, place.name):
        return None
    if place.read_only:
        raise UserError(
            f"database {place.name} is of an older gaprun: `gaprun db upgrade` brings it up to date, or (where it is "
            "read-only) a copy of it in a writable folder"
        )
    return retried(lambda: _bring_up(engine, place), place.name)


def _check_ours(connection: Connection, place: Place) -> None:
    """Other programs keep a version in a table of the same name: ours has the first version's tables beside it."""
    tables = set(inspect(connection).get_table_names())
    if missing := TABLES - tables:
        raise UserError(
            f"{place.name} is a database of another program (no table {min(missing)}): name another one with --db"
        )


def _check_fresh(connection: Connection, place: Place, create: bool) -> None:
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables:
        return  # another process has created it since the version was asked for
    ours = TABLES & set(tables)
    # A server's database may hold other programs' tables beside ours; a file belongs to one program.
    if ours or (tables and place.path is not None):
        raise UserError(
            f"{place.name} is a database of another program (table {tables[0]}): name another one with --db"
        )
    if not create:
        raise UserError(f"database {place.name} holds no results: {first_step()}")


def _bring_up(engine: Engine, place: Place) -> Path | None:
    """One transaction under a lock; the version is read again inside, as another process may have won."""
    with engine.execution_options(gaprun_write=True).connect() as connection:
        connection.detach()  # its settings are not for the pool
        if place.path is not None:
            _prepare_sqlite(connection, place.path)
        with connection.begin():
            if place.path is None:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})"))
            version = _version_inside(connection)
            if version == HEAD:
                return None
            if version is None:
                _create(connection)
                return None
            return _migrate(connection, place, version)


def _prepare_sqlite(connection: Connection, path: Path) -> None:
    driver = connection.connection.dbapi_connection
    assert driver is not None
    # Rebuilding a table, SQLite's way to alter one, would cascade into its children under foreign keys.
    driver.execute("PRAGMA foreign_keys = OFF")
    if path.stat().st_size > 0:
        return
    # Several processes may do this at once. One that saw the file before another's change would wait for a lock
    # that the others keep while they are connected; asked again, it finds the change made.
    driver.execute("PRAGMA busy_timeout = 50")
    for _ in range(100):
        try:
            driver.execute(f"PRAGMA journal_mode = {journal_mode_for(path)}")
            break
        except sqlite3.OperationalError:
            time.sleep(0.05)
    driver.execute(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS:.0f}")


def _version_inside(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _create(connection: Connection) -> None:
    from gaprun.store.models import Base

    Base.metadata.create_all(connection)
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL,"
            " CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
    connection.execute(text("INSERT INTO identity VALUES (:id)"), {"id": uuid.uuid4().hex})


def create_earlier(connection: Connection, enough: Callable[[Connection], bool]) -> bool:
    """Give an empty database the schema of the first version for which `enough` says yes; whether there is one."""
    script = _script()
    for revision in reversed(list(script.walk_revisions())):
        _upgrade(connection, script, revision.revision)
        if enough(connection):
            return True
    return False


def upgrade(connection: Connection) -> None:
    """Bring a database that nobody else uses to this code's schema; one of SQLite without its foreign keys."""
    _upgrade(connection, _script(), HEAD)


def _migrate(connection: Connection, place: Place, version: str) -> Path | None:
    script = _script()
    if version not in {revision.revision for revision in script.walk_revisions()}:
        raise UserError(
            f"database {place.name} was written by a newer gaprun (its schema is {version}, "
            f"this gaprun knows {HEAD}): upgrade gaprun, or name another database with --db"
        )
    _refuse_while_written(connection, place)
    backup = _back_up(place.path, version) if place.path is not None else None
    _upgrade(connection, script, HEAD)
    return backup


def _refuse_while_written(connection: Connection, place: Place) -> None:
    """What an older gaprun goes on to write would stand in the new tables with the old meaning, and nothing said so."""
    from gaprun.store.models import Run, RunClaim
    from gaprun.store.standing import lost_running

    claimed: dict[str, str] = {}  # also of a finished run that is being measured
    if inspect(connection).has_table("claims"):
        claimed = {
            row.run_id: row.owner for row in connection.execute(select(RunClaim.run_id, RunClaim.owner))
        }
    going = connection.execute(
        select(Run.id, Run.host, Run.pid, Run.started, Run.heartbeat).where(
            (Run.status == "running") | Run.id.in_(claimed)
        )
    ).all()
    now = now_at(connection)
    alive = [run for run in going if lost_running(run, claimed.get(run.id), now) is None]
    if alive:
        more = f" and {len(alive) - 1} more" if len(alive) > 1 else ""
        raise UserError(
            f"database {place.name} is of an older gaprun, which is writing run {alive[0].id}{more} to it (process "
            f"{alive[0].pid} on {alive[0].host}) and would go on in the old form: it is upgraded when those have "
            "ended; until then read it with that gaprun"
        )


def _script() -> ScriptDirectory:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def _upgrade(connection: Connection, script: ScriptDirectory, version: str) -> None:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    with EnvironmentContext(
        Config(), script, fn=lambda rev, _: script._upgrade_revs(version, rev)
    ) as environment:
        environment.configure(connection=connection, transactional_ddl=True, render_as_batch=True)
        environment.run_migrations()


def _back_up(path: Path, version: str) -> Path:
    """A complete copy of the SQLite file beside it; the migration's lock keeps writers out."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = path.with_name(f"{path.name}.before-{HEAD}-from-{version}-{stamp}")

    def write(temporary: Path) -> None:
        try:
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(temporary)) as copy:
                source.backup(copy)
        finally:
            remove_logs(temporary)

    try:
        write_atomically(target, write)
    except (OSError, sqlite3.Error) as error:
        raise Failure(f"database {path} needs an upgrade, but its backup {target} failed: {error}") from None
    return target
