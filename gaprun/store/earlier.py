"""Rows as an earlier gaprun wrote them, brought to today's schema by the migrations that a database goes through."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Set
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from gaprun.store.content import TABLES, Rows, read_rows
from gaprun.store.engine import make_engine
from gaprun.store.models import Base
from gaprun.store.place import locate
from gaprun.store.schema import create_earlier, upgrade


def upgraded(rows: Rows, columns: Mapping[str, Set[str]]) -> Rows | None:
    """`rows` as this code's schema has them; None where no earlier schema had exactly these `columns` by table.

    Raises sqlalchemy's SQLAlchemyError for rows that do not fit each other.
    """

    def has_these(connection: Connection) -> bool:
        inspector = sa.inspect(connection)
        return all(
            {found["name"] for found in inspector.get_columns(name)} == columns[name] for name in TABLES
        )

    with tempfile.TemporaryDirectory(prefix="gaprun-") as scratch:
        engine = make_engine(locate(str(Path(scratch) / "earlier.db")))
        try:
            with engine.execution_options(gaprun_write=True).connect() as connection:
                driver = connection.connection.dbapi_connection
                assert driver is not None
                driver.execute("PRAGMA foreign_keys = OFF")  # see schema._prepare_sqlite
                with connection.begin():
                    if not create_earlier(connection, has_these):
                        return None
                    for name in TABLES:
                        now = Base.metadata.tables[name]
                        then = sa.table(name, *(sa.column(one, now.c[one].type) for one in columns[name]))
                        if rows[name]:
                            connection.execute(sa.insert(then), rows[name])
                    upgrade(connection)
                    return read_rows(connection, [row["id"] for row in rows["runs"]])
        finally:
            engine.dispose()
