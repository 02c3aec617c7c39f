"""`gaprun paper`: the published tables with ours beside them, and verdicts on the paper's claims."""

from __future__ import annotations

from typing import Annotated

import typer

from gaprun.cli.help import Commands
from gaprun.cli.options import AtOption, DbOption, WhereOption
from gaprun.cli.output import (
    CaptionOption,
    DigitsOption,
    Format,
    FormatOption,
    JsonOption,
    LabelOption,
    SiunitxOption,
    check_paper_options,
    chosen,
    show,
)

paper = Commands(
    no_args_is_help=True,
    help="The paper's numbers beside yours, and its claims judged.",
)

AllSettings = Annotated[
    bool, typer.Option("--all-settings", help="Also our settings that the paper's table does not have.")
]


def register(app: typer.Typer) -> None:
    """Add the `paper` commands to `app`."""
    app.add_typer(paper, name="paper")


@paper.command(epilog="Example: gaprun paper table2 --db results.db.example")
def table2(
    where: WhereOption = None,
    at: AtOption = None,
    all_settings: AllSettings = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    caption: CaptionOption = None,
    label: LabelOption = None,
    siunitx: SiunitxOption = False,
    digits: DigitsOption = None,
    db: DbOption = None,
) -> None:
    """Table 2: the seven methods, published and ours."""
    _table("table2", where, at, all_settings, chosen(format, json), caption, label, siunitx, digits, db)


@paper.command(epilog="Example: gaprun paper table3 --db results.db.example --json")
def table3(
    where: WhereOption = None,
    at: AtOption = None,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    caption: CaptionOption = None,
    label: LabelOption = None,
    siunitx: SiunitxOption = False,
    digits: DigitsOption = None,
    db: DbOption = None,
) -> None:
    """Table 3: the sweep of fixed temperatures, published and ours."""
    _table("table3", where, at, True, chosen(format, json), caption, label, siunitx, digits, db)


@paper.command(epilog="Example: gaprun paper table5 --db results.db.example")
def table5(
    where: WhereOption = None,
    at: AtOption = None,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    caption: CaptionOption = None,
    label: LabelOption = None,
    siunitx: SiunitxOption = False,
    digits: DigitsOption = None,
    db: DbOption = None,
) -> None:
    """Table 5: hard swapping in a growing share of steps, published and ours."""
    _table("table5", where, at, True, chosen(format, json), caption, label, siunitx, digits, db)


@paper.command(epilog="Example: gaprun paper claims --db results.db.example --where schedule.steps=6000")
def claims(
    where: WhereOption = None,
    every_size: Annotated[
        bool,
        typer.Option("--every-size", help="Judge each set-up (size) in the database, not the fullest alone."),
    ] = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Judge the paper's claims C1 to C8, and C9 of our own, by the rules of docs/claims.md."""
    from dataclasses import replace

    from gaprun.paper.claims import claims_table, judge_claims
    from gaprun.paper.settings import load_studies
    from gaprun.store import open_store

    store = open_store(db, create=False)
    tables = [
        claims_table(judge_claims(store, study), study, sized=every_size)
        for study in load_studies(store, where or [], None if every_size else 1)
    ]
    whole = replace(tables[0], records=tuple(record for table in tables for record in table.records))
    show(tables, chosen(format, json), main=whole)


def _table(
    name: str,
    where: list[str] | None,
    at: str | None,
    all_settings: bool,
    format: Format,
    caption: str | None,
    label: str | None,
    siunitx: bool,
    digits: int | None,
    db: str | None,
) -> None:
    from gaprun.errors import UserError
    from gaprun.paper.settings import load_study
    from gaprun.paper.tables import beside, cells_table, document, sizes_table
    from gaprun.store import open_store

    check_paper_options(format, caption, label, siunitx)
    store = open_store(db, create=False)
    try:
        study = load_study(store, where or [], at)
    except UserError:
        if where or at:
            raise
        study = None  # the published numbers can be read before anything was run
    found = beside(name, study, all_settings)
    cells, sizes = cells_table(found, digits), sizes_table(study.size() if study else {})
    tables = [cells] if format is Format.latex else [sizes, cells]
    show(tables, format, document(found), cells, caption, label, siunitx)
