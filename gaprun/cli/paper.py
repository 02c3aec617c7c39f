"""`gaprun paper`: the published tables with ours beside them, and verdicts on the paper's claims."""

from __future__ import annotations

from typing import Annotated

import typer

from gaprun.cli.common import DbOption, console, print_json

paper = typer.Typer(
    no_args_is_help=True,
    help="The paper's numbers beside yours, and its claims judged.",
    rich_markup_mode="rich",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", metavar="KEY=VALUE", help="Only such runs, e.g. schedule.steps=1000 or seed!=0."),
]
AllSettings = Annotated[
    bool, typer.Option("--all-settings", help="Also our settings that the paper's table does not have.")
]


def register(app: typer.Typer) -> None:
    """Add the `paper` commands to `app`."""
    app.add_typer(paper, name="paper")


@paper.command(epilog="Example: gaprun paper table2 --db results.db.example")
def table2(
    where: Where = None, all_settings: AllSettings = False, json: Json = False, db: DbOption = None
) -> None:
    """Table 2: the seven methods, published and ours."""
    _table("table2", where, all_settings, json, db)


@paper.command(epilog="Example: gaprun paper table3 --json")
def table3(where: Where = None, json: Json = False, db: DbOption = None) -> None:
    """Table 3: the sweep of fixed temperatures, published and ours."""
    _table("table3", where, True, json, db)


@paper.command(epilog="Example: gaprun paper table5")
def table5(where: Where = None, json: Json = False, db: DbOption = None) -> None:
    """Table 5: hard swapping in a growing share of steps, published and ours."""
    _table("table5", where, True, json, db)


@paper.command(epilog="Example: gaprun paper claims --db results.db.example --where schedule.steps=1000")
def claims(where: Where = None, json: Json = False, db: DbOption = None) -> None:
    """Judge the paper's claims C1 to C8 by the rules of docs/claims.md."""
    from rich.table import Table
    from rich.text import Text

    from gaprun.paper.claims import judge_claims
    from gaprun.paper.settings import load_study
    from gaprun.store import open_store

    store = open_store(db, create=False)
    study = load_study(store, where or [])
    verdicts = judge_claims(store, study)
    if json:
        print_json([verdict.record() for verdict in verdicts])
        return
    colours = {"supported": "green", "not supported": "red", "undecided": "yellow"}
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 1, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for verdict in verdicts:
        text = Text(verdict.statement + "\n", style="bold")
        text.append(verdict.verdict, style=colours[verdict.verdict])
        text.append(f": {verdict.evidence}", style="not bold")
        text.append(f"\nrule: {verdict.rule}", style="not bold dim")
        text.append(f"\nruns: {_runs(verdict.runs)}", style="not bold dim")
        table.add_row(Text(verdict.claim, style="bold"), text)
    size = ", ".join(f"{name} {value}" for name, value in study.size().items())
    console.print(Text(f"Judged at this size: {size}.\n", style="dim"))
    console.print(table)
    for line in study.left_out:
        console.print(Text(f"{line[0].upper()}{line[1:]}.", style="dim"))
    if study.others:
        console.print(
            Text(f"{study.others} other set-up(s) are in the database: --where chooses.", style="dim")
        )


def _runs(runs: tuple[str, ...]) -> str:
    distinct = list(dict.fromkeys(runs))
    return (
        f"{len(distinct)}: {', '.join(distinct[:4])}{', ...' if len(distinct) > 4 else ''}"
        if distinct
        else "none"
    )


def _table(name: str, where: list[str] | None, all_settings: bool, json: bool, db: str | None) -> None:
    from gaprun.errors import UserError
    from gaprun.paper.settings import load_study
    from gaprun.paper.tables import beside, records, render
    from gaprun.store import open_store

    store = open_store(db, create=False)
    try:
        study = load_study(store, where or [])
    except UserError:
        if where:
            raise
        study = None  # the published numbers can be read before anything was run
    found = beside(name, study, all_settings)
    if json:
        print_json(records(found))
    else:
        console.print(render(found, console.width))
