"""Runs out of the database into plain files, and back: four tables (CSV or Parquet), one JSON, in a folder or zip."""

from __future__ import annotations

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, Column, DateTime, Float, Integer, String, select
from sqlalchemy.exc import SQLAlchemyError

from gaprun.errors import UserError
from gaprun.files import replace_archive, replace_folder
from gaprun.spreadsheet import csv_cell, text_of
from gaprun.store.content import Rows
from gaprun.store.earlier import upgraded
from gaprun.store.models import Base
from gaprun.store.order import by_code
from gaprun.store.standing import LOST, lost_runs

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from gaprun.store.database import Store

MOST_BYTES = 2 * 2**30  # of one table in a .zip, which may claim to hold anything
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
    keys = table.primary_key.columns
    query = select(table).order_by(*(by_code(key) if isinstance(key.type, String) else key for key in keys))
    if run_ids is not None:
        query = query.where(owner.in_(list(run_ids)))
    rows = [dict(row) for row in connection.execute(query).mappings()]
    if name == "runs":
        lost = lost_runs(connection)
        rows = [
            row | {"status": LOST, "error": lost[row["id"]]} if row["id"] in lost else row for row in rows
        ]
    if parquet:
        from gaprun.store.parquet import write_parquet

        write_parquet(table, rows, folder / f"{name}.parquet")
    else:
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, table.columns.keys())
            writer.writeheader()
            writer.writerows({key: _cell(value, table.c[key]) for key, value in row.items()} for row in rows)
    if name == "runs":
        text = json.dumps(rows, indent=2, default=_text, allow_nan=False)
        (folder / "runs.json").write_text(text + "\n", encoding="utf-8")
    return len(rows)


def read_export(source: Path) -> Rows:
    """The rows of an export in CSV, a folder or a .zip, as they were; those of an earlier gaprun as a database of its
    would be upgraded. Raises UserError, naming file and line."""
    rows: Rows = {}
    columns: dict[str, set[str]] = {}
    for name in TABLES:
        where = f"{source}, {name}.csv"
        reader = csv.reader(io.StringIO(_text_of_part(source, f"{name}.csv"), newline=""), strict=True)
        try:
            header = next(reader, [])
            columns[name] = set(header)
            if _strange(name, columns) or len(columns[name]) < len(header):
                raise UserError(_of_another_version(source, columns))
            rows[name] = list(_rows(reader, header, name, where))
        except (csv.Error, ValueError) as error:
            raise UserError(f"{where}, line {reader.line_num}: damaged ({error})") from None
    if not any(_absent(name, columns) for name in TABLES):
        return rows
    try:
        found = upgraded(rows, columns)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise UserError(f"{source}: its tables do not fit each other ({reason})") from None
    if found is None:
        raise UserError(_of_another_version(source, columns))
    return found


def _absent(table: str, columns: dict[str, set[str]]) -> list[str]:
    return [name for name in Base.metadata.tables[table].columns.keys() if name not in columns[table]]


def _strange(table: str, columns: dict[str, set[str]]) -> list[str]:
    return sorted(columns[table] - set(Base.metadata.tables[table].columns.keys()))


def _of_another_version(source: Path, columns: dict[str, set[str]]) -> str:
    table = next((name for name in columns if _strange(name, columns) or _absent(name, columns)), "runs")
    names = ", ".join(_absent(table, columns) + _strange(table, columns)) or "one stands twice"
    return f"{source}, {table}.csv: its columns are of another version of gaprun ({names}), and of none before this one"


def _rows(reader: Any, header: Sequence[str], table: str, where: str) -> Iterator[dict[str, Any]]:
    columns = Base.metadata.tables[table].columns
    for cells in reader:
        if len(cells) != len(header):
            raise UserError(
                f"{where}, line {reader.line_num}: {len(cells)} fields, the header has {len(header)}"
            )
        yield {name: _value(cell, columns[name]) for name, cell in zip(header, cells, strict=True)}


def _text_of_part(source: Path, part: str) -> str:
    try:
        if source.is_dir():
            content = (source / part).read_bytes()
        else:
            with zipfile.ZipFile(source) as archive:
                if archive.getinfo(part).file_size > MOST_BYTES:
                    raise UserError(f"{source}: {part} is larger than {MOST_BYTES // 2**30} GiB")
                content = archive.read(part)
        return content.decode()
    except (FileNotFoundError, KeyError):
        more = "; of results of other programs name the files in it" if source.is_dir() else ""
        raise UserError(f"{source}: no export of gaprun's in CSV (it has no {part}){more}") from None
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, zipfile.BadZipFile, NotImplementedError, zlib.error, RuntimeError) as error:
        raise UserError(f"{source}: {part} is damaged ({error})") from None


def _value(cell: str, column: Column[Any]) -> Any:
    kind = getattr(column.type, "impl", column.type)
    if not cell and (column.nullable or not isinstance(kind, String)):
        if column.nullable:
            return None
        raise ValueError(f"no {column.name}")
    if isinstance(kind, JSON):
        return json.loads(cell)
    if isinstance(kind, Integer):
        return int(cell)
    if isinstance(kind, Float):
        return float(cell)
    return datetime.fromisoformat(cell) if isinstance(kind, DateTime) else text_of(cell)


def _cell(value: Any, column: Column[Any]) -> Any:
    """An empty text that could have been none is an apostrophe, as `spreadsheet.csv_cell` marks texts."""
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return "'" if value == "" and column.nullable else csv_cell(_text(value))


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
