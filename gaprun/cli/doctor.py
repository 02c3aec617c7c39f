"""`gaprun doctor`: whether everything that gaprun needs is here, and what to do where it is not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gaprun.cli import completion
from gaprun.cli.options import DbOption
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, show
from gaprun.cli.progress import waiting
from gaprun.tables import Cell, Heading, Style, Table

EXAMPLE = """Check device, decoder, data, database, disk and versions, and say what to do.

Exit code 1 when anything fails; warnings leave it 0.

Examples:

  gaprun doctor --db postgresql://db/clip

  gaprun doctor recipes/reparam.yaml
"""
STYLES: dict[str, Style] = {"ok": "good", "warn": "warn", "fail": "bad"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor", help=EXAMPLE)(doctor)


def doctor(
    recipe: Annotated[
        Path | None,
        typer.Argument(
            help="Also whether this recipe's runs fit here: memory, disk.", autocompletion=completion.recipes
        ),
    ] = None,
    db: DbOption = None,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Check this machine; see the help text above."""
    from gaprun.doctor import examine

    how = chosen(format, json)
    with waiting("looking"):
        findings = list(examine(db, recipe))
    failed = sum(finding.state == "fail" for finding in findings)
    rows = []
    for one in findings:
        said = Cell((one.said, *([f"-> {one.advice}"] if one.advice else [])))
        rows.append((Cell((one.state,), STYLES[one.state]), one.check, said))
    heads = ("state", "check", Heading("found", ("", "what to do"), wrap=True))
    legend = [f"{failed} of {len(findings)} checks failed"] if failed else []
    show(Table.of("doctor", heads, rows, [asdict(finding) for finding in findings], legend=legend), how)
    if failed:
        raise typer.Exit(1)
