"""`gaprun report`: one HTML page that shows everything a database holds about its methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaprun.cli.common import DbOption, console, print_json


def register(app: typer.Typer) -> None:
    """Add `report` to `app`."""
    app.command(epilog="Example: gaprun report --db results.db.example --out report.html")(report)


def report(
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="KEY=VALUE", help="Only such runs, e.g. seed!=0.")
    ] = None,
    models: Annotated[
        bool, typer.Option("--models/--no-models", help="Read checkpoints and data for clouds and examples.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print what was written as JSON.")] = False,
    db: DbOption = None,
) -> None:
    """Write the report: comparison, claims, the paper's tables, curves, clouds, examples; one file, no network."""
    from gaprun.report.page import write_report
    from gaprun.store import open_store

    store = open_store(db, create=False)
    material = write_report(store, out, where or [], models)
    size = out.stat().st_size
    if json:
        print_json(
            {"path": str(out), "bytes": size, "runs": len(material.groups), "rows": len(material.labels)}
        )
    else:
        console.print(
            f"{out}: {len(material.groups)} runs in {len(material.labels)} rows, {size / 1e6:.1f} MB",
            markup=False,
        )
