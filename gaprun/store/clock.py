"""What time it is by the clock of who keeps the database: machines that share a server may differ by hours, and what
one wrote would be old, or from the future, to another."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session


def now_at(session: Session | Connection) -> datetime:
    """The time, aware in UTC, by a server's clock, and by this machine's for a SQLite file."""
    connection = (
        session.connection() if isinstance(session, Session) else session
    )  # whose rows may be half made
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)
