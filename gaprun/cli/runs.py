"""`gaprun runs`: what was run, one run in full, removing runs; taking results out and in is in `exchange`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gaprun.cli import completion, exchange, marks
from gaprun.cli.common import console, err_console, with_hints
from gaprun.cli.help import Commands
from gaprun.cli.options import DbOption, TopOption, WhereOption, now_called
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen
from gaprun.cli.output import show as show_tables
from gaprun.errors import Failure, GaprunError, UserError
from gaprun.tables.numbers import counted

runs = Commands(no_args_is_help=True, help="List, show, mark, remove, export and import runs.")

RunArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's id, or the beginning of one.", autocompletion=completion.runs
    ),
]


def register(app: typer.Typer) -> None:
    """Add the `runs` commands to `app`."""
    app.add_typer(runs, name="runs")


@runs.command(
    "list",
    cls=now_called({"--limit": "--top"}),
    epilog="Example: gaprun runs list --db results.db.example --where temperature.rule=fixed --metric gap --sort gap",
)
def list_(
    where: WhereOption = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A column with this metric, where it was measured of most runs (repeatable).",
            autocompletion=completion.metrics,
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC|KEY",
            help="Order by a metric, best first, or by recipe, seed, status, started or took.",
        ),
    ] = None,
    top: TopOption = None,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """List runs, newest first, with columns for metrics."""
    from gaprun.comparison.runlist import chosen_runs, list_table
    from gaprun.store import open_store

    store = open_store(db, create=False)
    found, columns = chosen_runs(store, where or [], metric or [], sort)
    found = found[:top]
    how = chosen(format, json)
    if found or how in (Format.json, Format.csv):
        show_tables(list_table(found, columns), how)
    hints = store.idle(where or [])
    if not found:
        unmet = store.unmet(where or [])
        no_run = f"no such run: {unmet}" if unmet else "no such run"
        hints = [no_run if where else "no runs yet: `gaprun train RECIPE` makes one"]
    for hint in hints:
        err_console.print(with_hints(hint), markup=False, highlight=False, soft_wrap=True)


@runs.command(epilog="Example: gaprun runs show baseline-s4-85b9359f --db results.db.example")
def show(
    run: RunArgument,
    recipe: Annotated[bool, typer.Option("--recipe", help="Also print the resolved recipe.")] = False,
    subsets: Annotated[
        bool,
        typer.Option(
            "--subsets", help="Also alignment by data set, caption length and class (reads the checkpoint)."
        ),
    ] = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Show one run: status, curves of training, and every metric with what it was measured on."""
    from gaprun.comparison import runview
    from gaprun.comparison.health import check
    from gaprun.store import open_store

    store = open_store(db, create=False)
    row = store.run(run)
    metrics, trajectory = store.metrics(row.id), store.trajectory(row.id)
    along = runview.along_training(store.metric_rows(None, run_ids=[row.id], every_step=True))
    health = check(row.resolved_recipe, trajectory, metrics)
    parts = []
    if subsets:
        from gaprun.comparison.subsets import alignment_subsets, judge

        parts = alignment_subsets(store, row.id)
        health = [*health[:-1], judge(parts)]
    how = chosen(format, json)
    facts = runview.facts_table(row)
    beside = [runview.health_table(health), *([runview.subsets_table(parts)] if parts else [])]
    values = [*([runview.along_table(along)] if along else []), *runview.metric_tables(metrics)]
    if how is not Format.table:
        document = runview.detail(row, metrics, health, parts, along)
        show_tables([facts, *beside, *values], how, document, runview.metrics_table(metrics))
        return
    show_tables(facts, how)
    for curve in runview.curves(trajectory):
        console.print()
        console.print(curve)
    console.print()
    show_tables([*beside, *values], how)
    if not values:
        console.print("\nno metrics: not evaluated yet", style="dim")
    if recipe:
        import yaml

        text = yaml.safe_dump(row.resolved_recipe, sort_keys=False).rstrip()
        console.print(f"\n{text}", markup=False, highlight=False, soft_wrap=True)


@runs.command(epilog="Example: gaprun runs rm baseline-s0 --yes")
def rm(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Ids of runs, or their beginnings.", autocompletion=completion.runs
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    keep_files: Annotated[bool, typer.Option("--keep-files", help="Remove from the database only.")] = False,
    db: DbOption = None,
) -> None:
    """Remove runs: their rows and their folders with checkpoints."""
    from gaprun.store import open_store
    from gaprun.store.removal import removable_folder, remove_run

    store = open_store(db, create=False)
    rows = {row.id: row for row in (store.run(name) for name in run)}
    if not yes:
        for row in rows.values():
            folder = None if keep_files else removable_folder(store, row)
            console.print(f"{row.id} ({row.status})" + (f" and {folder}" if folder else ""), markup=False)
        if sys.stdin is None:
            raise UserError("nothing is removed: nobody can be asked here; --yes does not ask")
        typer.confirm(f"Remove {counted(len(rows), 'run')}?", abort=True)
    failed = 0
    for row in rows.values():
        try:
            console.print(remove_run(store, row, keep_files), markup=False, soft_wrap=True)
        except GaprunError as error:
            if len(rows) == 1:
                raise
            failed += 1
            err_console.print(f"not removed: {error}", markup=False, highlight=False, soft_wrap=True)
    if failed:
        raise Failure(f"{failed} of {len(rows)} runs could not be removed; they are listed above")


exchange.register(runs)
marks.register(runs)
