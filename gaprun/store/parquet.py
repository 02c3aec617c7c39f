"""One table of the database as a Parquet file: typed columns, times in UTC, documents as JSON text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Float, Integer, Table

from gaprun.extras import require


def write_parquet(table: Table, rows: list[dict[str, Any]], path: Path) -> None:
    """Write `rows` of `table`; a column without any value keeps its type. Raises UserError without pyarrow."""
    require("pyarrow.parquet", "parquet")
    import pandas

    columns = {
        column.name: pandas.Series([_plain(row[column.name]) for row in rows], dtype=_dtype(column.type))
        for column in table.columns
    }
    pandas.DataFrame(columns).to_parquet(path, engine="pyarrow", index=False)


def _dtype(kind: Any) -> str:
    """The pandas type that holds the column with its NULLs; `impl` is what a type of our own is made of."""
    kind = getattr(kind, "impl", kind)
    if isinstance(kind, BigInteger | Integer):
        return "Int64"
    if isinstance(kind, Float):
        return "Float64"
    if isinstance(kind, DateTime):
        return "datetime64[us, UTC]"
    assert isinstance(kind, JSON) or kind.python_type is str
    return "string"


def _plain(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value
