"""`gaprun runs diff`, `tag` and `note`: two runs side by side, and what a person says of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from gaprun.cli import completion
from gaprun.cli.common import console
from gaprun.cli.options import DbOption
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen
from gaprun.cli.output import show as show_tables

RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's id, or the beginning of one.", autocompletion=completion.runs
    ),
]


def register(runs: typer.Typer) -> None:
    """Add the three to the `runs` commands."""
    runs.command(
        epilog="Example: gaprun runs diff baseline-s4-85b9359f reparam-s4-443cf18a --db results.db.example"
    )(diff)
    runs.command(epilog="Example: gaprun runs tag reparam-s0 checked; then --where tag=checked")(tag)
    runs.command(epilog="Example: gaprun runs note reparam-s0 'the card was shared'")(note)


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A run's id.", autocompletion=completion.runs)],
    other: Annotated[
        str, typer.Argument(metavar="B", help="Another run's id.", autocompletion=completion.runs)
    ],
    format: FormatOption = Format.table,
    json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Show in which keys two runs' recipes differ, and every value that was measured of both."""
    from gaprun.comparison.rundiff import differing, tables
    from gaprun.store import open_store

    store = open_store(db, create=False)
    a, b = store.run(one), store.run(other)
    found = differing(a, b, (store.metrics(a.id), store.metrics(b.id)))
    shown = tables(found)
    show_tables(shown, chosen(format, json), found.document(), shown[-1])


def tag(
    run: RunName,
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="Words for it, such as checked.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take these tags away instead.")] = False,
    db: DbOption = None,
) -> None:
    """Give a run tags, or take them away; `--where tag=...` finds them."""
    from gaprun.store import open_store

    store = open_store(db, create=False)
    row = store.run(run)
    left = store.retag(row.id, tags, remove)
    console.print(f"{row.id}: {', '.join(left) or 'no tags'}", markup=False, highlight=False)


def note(
    run: RunName,
    text: Annotated[str, typer.Argument(help="What to remember of it; '' takes the note away.")],
    db: DbOption = None,
) -> None:
    """Write a note on a run, in place of the one that it has; `--where 'note=*shared*'` finds it."""
    from gaprun.store import open_store

    store = open_store(db, create=False)
    row = store.run(run)
    store.set_note(row.id, text)
    console.print(f"{row.id}: {text or 'no note'}", markup=False, highlight=False)
