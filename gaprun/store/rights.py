"""What a user of a PostgreSQL server must be allowed to do so that a run can be stored, asked before it begins.

Without all of it a training would end with numbers that cannot be written: the right to a table does not include its
counter, and a run needs some of the tables only at its end.
"""

from __future__ import annotations

from collections import defaultdict

from sqlalchemy import Engine, bindparam, text
from sqlalchemy.exc import DBAPIError

from gaprun.errors import UserError
from gaprun.store.engine import explain

NEEDED = {
    "runs": ("SELECT", "INSERT", "UPDATE"),
    "claims": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "evaluations": ("SELECT", "INSERT", "UPDATE"),
    "metrics": ("SELECT", "INSERT", "DELETE"),
    "trajectory": ("SELECT", "INSERT", "UPDATE"),
    "identity": ("SELECT",),
}
COUNTED = ("evaluations", "metrics")  # their ids come from a sequence
_ASKED = text("SELECT has_table_privilege(:name, :right)")
_SEQUENCE = text(
    "SELECT s.name, has_sequence_privilege(s.name, 'USAGE')"
    " FROM unnest(CAST(:tables AS text[])) AS t(name), LATERAL (SELECT pg_get_serial_sequence(t.name, 'id')) AS s(name)"
).bindparams(bindparam("tables"))


def check_rights(engine: Engine, name: str) -> None:
    """Raise UserError naming what the user of PostgreSQL database `name` lacks to store runs. SQLite has no users."""
    if engine.dialect.name != "postgresql":
        return
    try:
        with engine.connect() as connection:
            lacking: defaultdict[str, list[str]] = defaultdict(list)
            for table, rights in NEEDED.items():
                lacks = [
                    one for one in rights if not connection.scalar(_ASKED, {"name": table, "right": one})
                ]
                if lacks:
                    lacking[", ".join(lacks)].append(table)
            for sequence, allowed in connection.execute(_SEQUENCE, {"tables": list(COUNTED)}):
                if (
                    sequence is not None and not allowed
                ):  # None: the owner made it by hand, and who may is theirs
                    lacking["USAGE"].append(sequence)
            user = connection.scalar(text("SELECT current_user"))
    except DBAPIError as error:
        raise explain(error, name) from error
    if lacking:
        said = "; ".join(f"{rights} on {', '.join(things)}" for rights, things in lacking.items())
        raise UserError(
            f"database {name}: user {user} may read but not store runs, for want of {said}: ask the tables' owner to "
            "grant it (docs/exchange.md), or name another user in the URL"
        )
