"""What a database holds, whatever kind it is: rows without numbers of its own making, and hashes over them.

A row's content is its values; the ids that a database counts up for evaluations are replaced by the evaluation's
own key, times are UTC, documents are canonical JSON, and -0.0 is 0.0 (SQLite keeps no sign of zero). A table's
hash is the sum of its rows' sha256 modulo 2**256, so that it needs no order, on which collations disagree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from gaprun.store.models import Base
from gaprun.store.order import by_code

TABLES = ("runs", "evaluations", "metrics", "trajectory")
BATCH = 25  # runs read at a time, with everything that hangs on them

_KEY = (
    "run_id",
    "checkpoint_hash",
    "task",
    "data_fingerprint",
    "protocol",
    "options_hash",
    "definition",
    "model_hash",
)

Row = dict[str, Any]
Rows = dict[str, list[Row]]


@dataclass
class Content:
    """Rows and their summed hash, by table."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    sums: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))

    def add(self, other: Content) -> None:
        """Count the rows of `other` too."""
        for name in TABLES:
            self.rows[name] += other.rows[name]
            self.sums[name] = (self.sums[name] + other.sums[name]) % 2**256

    def hashes(self) -> dict[str, str]:
        """The content hash of each table, 64 hexadecimal digits."""
        return {name: f"{value:064x}" for name, value in self.sums.items()}


def database_content(connection: Connection) -> Content:
    """The content of a whole database, read within the connection's transaction."""
    total = Content()
    for ids in batches(run_ids(connection)):
        for content in by_run(read_rows(connection, ids)).values():
            total.add(content)
    return total


def run_ids(connection: Connection) -> list[str]:
    """The ids of all runs, oldest first."""
    runs = Base.metadata.tables["runs"]
    return list(connection.scalars(select(runs.c.id).order_by(runs.c.created, by_code(runs.c.id))))


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """`ids` in groups of BATCH."""
    for start in range(0, len(ids), BATCH):
        yield ids[start : start + BATCH]


def read_rows(connection: Connection, ids: Sequence[str]) -> Rows:
    """Every row of these runs, by table, in the order in which they were written."""
    found: Rows = {}
    for name in TABLES:
        table = Base.metadata.tables[name]
        owner = table.c.id if name == "runs" else table.c.run_id
        query = select(table).where(owner.in_(ids)).order_by(*table.primary_key.columns)
        found[name] = [dict(row) for row in connection.execute(query).mappings()]
    return found


def by_run(rows: Rows) -> dict[str, Content]:
    """The content of each run in `rows`."""
    keys = {row["id"]: [row[name] for name in _KEY] for row in rows["evaluations"]}
    found = {row["id"]: Content() for row in rows["runs"]}
    for name in TABLES:
        for row in rows[name]:
            values = _plain(name, row, keys)
            digest = hashlib.sha256(json.dumps([name, *values], default=_text).encode()).digest()
            content = found[row["id" if name == "runs" else "run_id"]]
            content.rows[name] += 1
            content.sums[name] = (content.sums[name] + int.from_bytes(digest)) % 2**256
    return found


def _plain(table: str, row: Row, keys: dict[int, list[Any]]) -> list[Any]:
    """The row's values in the columns' order, with an evaluation's key in place of its number."""
    values: Iterable[Any]
    if table == "evaluations":
        values = (value for name, value in row.items() if name != "id")
    elif table == "metrics":
        own = [value for name, value in row.items() if name not in ("id", "evaluation_id")]
        values = [*keys[row["evaluation_id"]], *own]
    else:
        values = row.values()
    return [_canonical(value) for value in values]


def _canonical(value: Any) -> Any:
    if isinstance(value, float):
        return value + 0.0
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def _text(value: Any) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()
