"""Runs out of the database into plain files: four tables (CSV or Parquet) and one JSON, in a folder or a zip."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from gaprun.files import replace_archive, replace_folder
from gaprun.spreadsheet import csv_cell
from gaprun.store.models import Base

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from gaprun.store.database import Store

TABLES = ("runs", "evaluations", "metrics", "trajectory")


def export(
    store: Store,
    target: Path,
    run_ids: Sequence[str] | None = None,
    force: bool = False,
    parquet: bool = False,
) -> dict[str, int]:
    """Write the runs (None: all) to `target`, a folder or a file ending in .zip; returns rows by table.

    Each table is a CSV (or a Parquet file) with JSON documents as text; `runs.json` holds the runs with their
    documents as such. A text that a spreadsheet would run is written as `spreadsheet.csv_cell` says.
    The target appears whole or not at all. Raises UserError for one that exists, unless `force` is given and it is an
    export that nothing was added to.
    """
    counts: dict[str, int] = {}
    connections = store.engine.execution_options()
    if store.place.path is None:
        connections = connections.execution_options(isolation_level="REPEATABLE READ")

    def make(folder: Path) -> None:
        with connections.connect() as connection:  # one transaction: the tables fit each other
            for name in TABLES:
                counts[name] = _write_table(connection, name, folder, run_ids, parquet)

    replace = replace_archive if target.suffix == ".zip" else replace_folder
    replace(target, make, force, "name another --out (an export of an older gaprun: remove it yourself)")
    return counts


def _write_table(
    connection: Connection, name: str, folder: Path, run_ids: Sequence[str] | None, parquet: bool
) -> int:
    table = Base.metadata.tables[name]
    owner = table.c.id if name == "runs" else table.c.run_id
    query = select(table).order_by(*table.primary_key.columns)
    if run_ids is not None:
        query = query.where(owner.in_(list(run_ids)))
    rows = [dict(row) for row in connection.execute(query).mappings()]
    if parquet:
        from gaprun.exchange.parquet import write_parquet

        write_parquet(table, rows, folder / f"{name}.parquet")
    else:
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, table.columns.keys())
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    if name == "runs":
        text = json.dumps(rows, indent=2, default=_text, allow_nan=False)
        (folder / "runs.json").write_text(text + "\n", encoding="utf-8")
    return len(rows)


def _cell(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else csv_cell(_text(value))


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
