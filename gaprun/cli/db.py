"""`gaprun db`: what is in a database, bringing an old one to this version's schema, copying one into another."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gaprun.cli.common import console
from gaprun.cli.help import Commands
from gaprun.cli.options import DbOption
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, show
from gaprun.cli.progress import bar
from gaprun.tables import Heading, Table

db_app = Commands(no_args_is_help=True, help="Look at, upgrade and copy the database.")


class OnConflict(StrEnum):
    """What to do about a run that both databases hold with different content."""

    ERROR = "error"
    KEEP = "keep"
    REPLACE = "replace"


def register(app: typer.Typer) -> None:
    """Add the `db` commands to `app`."""
    app.add_typer(db_app, name="db")


@db_app.command(epilog="Example: gaprun db info --db results.db.example")
def info(
    format: FormatOption = Format.table,
    json: JsonOption = False,
    content: Annotated[
        bool, typer.Option("--content", help="Also a hash of each table's content, the same in any database.")
    ] = False,
    db: DbOption = None,
) -> None:
    """Show where the database is, its schema version and how much it holds. Changes nothing."""
    from gaprun.store.info import describe

    facts = describe(db, content)
    rows = []
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{count} {status}" for status, count in value.items()) or "none"
        rows.append((name.replace("_", " "), str(value)))
    show(
        Table.of("database", ("fact", Heading("value", wrap=True)), rows, [facts]),
        chosen(format, json),
        facts,
    )


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


@db_app.command(epilog="Example: gaprun db copy results.db postgresql+psycopg://user@host/gaprun")
def copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A SQLite file or a database URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="Another one; a missing file is created.")],
    on_conflict: Annotated[
        OnConflict,
        typer.Option(help="A run that both hold with different content: stop, keep TO's, or take FROM's."),
    ] = OnConflict.ERROR,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Copy every run with its metrics and trajectory into another database, and verify it by content hashes.

    SQLite and PostgreSQL in either direction. TO changes wholly or not at all; what it holds already is left
    alone. Files beside the database (checkpoints, embeddings) are not copied.
    """
    from gaprun.store.copying import copy_between

    with bar("copying", "runs") as progress:
        report = copy_between(source, target, on_conflict.value, progress)
    counts = {name: len(getattr(report, name)) for name in ("copied", "replaced", "equal", "kept")}
    words = {
        "copied": "copied",
        "replaced": "replaced",
        "equal": "there already",
        "kept": "kept as they were",
    }
    said = ", ".join(f"{counts[name]} {word}" for name, word in words.items() if counts[name])
    hashes = report.content.hashes()
    rows = [(name, f"{report.content.rows[name]:,}", value) for name, value in hashes.items()]
    records = [{"table": name, "rows": report.content.rows[name], "content": hashes[name]} for name in hashes]
    heads = ("table", Heading("rows", right=True), "content hash")
    title = f"runs: {said or 'none'}; verified by content hash:"
    document = {**counts, "rows": report.content.rows, "content": hashes}
    show(Table.of("copied", heads, rows, records, title), chosen(format, json), document)
