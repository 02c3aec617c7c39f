"""`gaprun db`: what is in a database, and bringing an old one to this version's schema."""

from __future__ import annotations

from typing import Annotated

import typer

from gaprun.cli.common import DbOption, console, print_json

db_app = typer.Typer(no_args_is_help=True, help="Look at and upgrade the database.", rich_markup_mode="rich")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the `db` commands to `app`."""
    app.add_typer(db_app, name="db")


@db_app.command(epilog="Example: gaprun db info --db results.db.example")
def info(json: Json = False, db: DbOption = None) -> None:
    """Show where the database is, its schema version and how much it holds. Changes nothing."""
    from gaprun.store.info import describe

    facts = describe(db)
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{count} {status}" for status, count in value.items()) or "none"
        console.print(f"{name.replace('_', ' '):22}{value}", markup=False, highlight=False, soft_wrap=True)


@db_app.command(epilog="Example: gaprun db upgrade --db old-results.db")
def upgrade(db: DbOption = None) -> None:
    """Bring an older database to this version's schema; a SQLite file is copied beside itself first.

    Every command does this by itself when it opens an old database; this one does nothing else.
    """
    from gaprun.store import open_store
    from gaprun.store.schema import HEAD

    store = open_store(db, create=False)
    done = (
        f"upgraded to {HEAD}; the old one is kept as {store.backup}"
        if store.backup
        else f"is at {HEAD} (newest)"
    )
    console.print(f"{store.place.name} {done}", markup=False, soft_wrap=True)
