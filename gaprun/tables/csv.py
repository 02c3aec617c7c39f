"""The records of a table as CSV: numbers with their full precision, None empty, an interval in two columns."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from gaprun.spreadsheet import csv_text
from gaprun.tables.value import Table

INTERVALS = ("ci95", "interval")  # how the names of pairs (low, high) end


def render(table: Table) -> str:
    """Heads and rows; a list is separated by spaces, a mapping within a record is JSON.

    A text that a spreadsheet would run is written as `spreadsheet.csv_cell` says.
    """
    rows = [_flat(record) for record in table.records]
    heads = list(dict.fromkeys(key for row in rows for key in row))
    return csv_text([heads, *([row.get(key) for key in heads] for row in rows)])


def _flat(record: Mapping[str, Any]) -> dict[str, object]:
    row: dict[str, object] = {}
    for key, value in record.items():
        if key.endswith(INTERVALS) and (value is None or len(value) == 2):
            row[f"{key}_low"], row[f"{key}_high"] = value or (None, None)
        elif isinstance(value, list | tuple) and not any(isinstance(one, dict | list) for one in value):
            row[key] = " ".join(map(str, value))
        elif isinstance(value, dict | list | tuple):
            row[key] = json.dumps(value, sort_keys=True)
        else:
            row[key] = value
    return row
