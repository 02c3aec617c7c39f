"""What stands in a database, without changing it: also in one that is too old or new to be opened."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from gaprun.store import schema
from gaprun.store.content import database_content
from gaprun.store.engine import explain, make_engine
from gaprun.store.models import Base, Run
from gaprun.store.place import check_file, locate


def describe(url: str | None, content: bool = False) -> dict[str, Any]:
    """Facts about the database at `url`: place, schema, size, rows by table and runs by status.

    `content` adds each table's content hash, which is the same in every kind of database (see `store.content`).
    Counts and hashes are left out where the schema is another than this code's.
    """
    place = check_file(locate(url), create=False)
    engine = make_engine(place)
    facts: dict[str, Any] = {
        "database": place.name,
        "backend": engine.dialect.name,
        "read_only": place.read_only,
    }
    try:
        with engine.connect() as connection:
            facts |= {"schema": schema.version_of(connection), "schema_of_this_gaprun": schema.HEAD}
            if place.path is not None:
                facts["bytes"] = place.path.stat().st_size
                facts["journal_mode"] = connection.execute(text("PRAGMA journal_mode")).scalar()
            if facts["schema"] == schema.HEAD:
                for name, table in Base.metadata.tables.items():
                    facts[name] = connection.execute(select(func.count()).select_from(table)).scalar()
                states = connection.execute(select(Run.status, func.count()).group_by(Run.status))
                facts["by_status"] = dict(sorted((status, count) for status, count in states))
                if content:
                    hashes = database_content(connection).hashes()
                    facts |= {f"{name}_content": value for name, value in hashes.items()}
    except DBAPIError as error:
        raise explain(error, place.name) from error
    return facts
