"""`gaprun report`: one HTML page that shows everything a database holds about its methods."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gaprun.cli.options import AtOption, DbOption, MarginOption, WhereOption
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, show
from gaprun.tables import Heading, Table


def register(app: typer.Typer) -> None:
    """Add `report` to `app`."""
    app.command(epilog="Example: gaprun report --db results.db.example --out report.html")(report)


def report(
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    where: WhereOption = None,
    at: AtOption = None,
    margin: MarginOption = None,
    models: Annotated[
        bool, typer.Option("--models/--no-models", help="Read checkpoints and data for clouds and examples.")
    ] = True,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also each figure as PDF, SVG, PNG and CSV (needs matplotlib)."),
    ] = None,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Write the report: the answer, figures, tables, claims, clouds, examples; one file, no network."""
    from gaprun.comparison.margins import read_margins
    from gaprun.report.page import write_report
    from gaprun.store import open_store

    how = chosen(format, json)
    store = open_store(db, create=False)
    material = write_report(store, out, where or [], models, at, figures, read_margins(margin or []))
    size = out.stat().st_size
    facts = {"path": str(out), "bytes": size, "runs": len(material.groups), "rows": len(material.labels)}
    if figures:
        facts["figures"] = str(figures)
    numbers = (str(len(material.groups)), str(len(material.labels)), f"{size / 2**20:.1f} MiB")
    heads: list[Heading | str] = [
        "written",
        *(Heading(name, right=True) for name in ("runs", "rows", "size")),
    ]
    show(Table.of("report", heads, [(str(out), *numbers)], [facts]), how, facts)
