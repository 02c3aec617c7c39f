"""What MLflow keeps of a run that gaprun sends, beside its numbers, so that the run can come back: rows in tags.

They say which evaluation each number is of, and the recipe as it is; compressed JSON in tags `gaprun.rows.0`, ...
"""

from __future__ import annotations

import base64
import json
import zlib
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime

from gaprun.errors import UserError
from gaprun.store import Store
from gaprun.store.content import read_rows
from gaprun.store.models import Base

ROWS = "gaprun.rows."
LONGEST_TAG = 5000  # MLflow's own limit, of its strictest version
MOST_BYTES = 64 * 2**20
METRIC = ("evaluation", "metric", "dataset", "split", "protocol", "n", "d")


def rows_as_tags(store: Store, run_id: str) -> dict[str, str]:
    """The run's rows that a reader needs beside MLflow's numbers, as tags."""
    shown = store.metric_rows(None, run_ids=[run_id], every_step=True)
    with store.engine.connect() as connection:
        rows = read_rows(connection, [run_id])
    kept = {row["evaluation"] for row in shown}
    document = {
        "runs": rows["runs"],
        "evaluations": [row for row in rows["evaluations"] if row["id"] in kept],
        "metrics": [[*(row[name] for name in METRIC), row["value"] is None] for row in shown],
    }
    text = json.dumps(document, default=_text)
    packed = base64.b64encode(zlib.compress(text.encode(), 9)).decode()
    return {
        f"{ROWS}{number}": packed[start : start + LONGEST_TAG]
        for number, start in enumerate(range(0, len(packed), LONGEST_TAG))
    }


def _text(value: Any) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


def rows_of_tags(tags: dict[str, str], where: str) -> dict[str, Any]:
    """`runs` and `evaluations` as rows, `metrics` as lists in the order of `METRIC` and whether the value is NULL.

    Raises UserError, beginning with `where`, where they are absent or damaged.
    """
    parts: list[str] = []
    while (part := tags.get(f"{ROWS}{len(parts)}")) is not None:
        parts.append(part)
    if not parts:
        raise UserError(
            f"{where}: an earlier gaprun sent it without what says how it was measured: send it again"
        )
    try:
        unpack = zlib.decompressobj()
        text = unpack.decompress(base64.b64decode("".join(parts), validate=True), MOST_BYTES)
        document = json.loads(text)
    except (ValueError, zlib.error, RecursionError) as reason:
        raise UserError(f"{where}: its tags {ROWS}* are damaged ({reason}): send it again") from None
    try:
        return document | {
            name: [_typed(name, row) for row in document[name]] for name in ("runs", "evaluations")
        }
    except (KeyError, TypeError, ValueError) as reason:
        raise UserError(f"{where}: its tags {ROWS}* are damaged ({reason}): send it again") from None


def _typed(table: str, row: dict[str, Any]) -> dict[str, Any]:
    kinds = {c.name: getattr(c.type, "impl", c.type) for c in Base.metadata.tables[table].columns}
    times = [name for name, kind in kinds.items() if isinstance(kind, DateTime)]
    return row | {name: datetime.fromisoformat(row[name]) for name in times if row.get(name) is not None}
