"""What every command shares: consoles, the `--db` option, JSON without NaN."""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console()
err_console = Console(stderr=True)

DbOption = Annotated[
    str | None,
    typer.Option(
        "--db",
        envvar="GAPRUN_DB",
        show_default="results.db",
        help="Database: a SQLite file or an SQLAlchemy URL such as postgresql+psycopg://host/name.",
    ),
]


def jsonable(value: Any) -> Any:
    """`value` with NaN and infinities as None, so that the output is JSON that any parser reads."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value


def print_json(value: Any) -> None:
    """Print `value` to stdout as plain JSON (no colours, no wrapping)."""
    print(json.dumps(jsonable(value), indent=2, default=str))
