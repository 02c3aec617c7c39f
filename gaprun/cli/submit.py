"""`gaprun submit`: each job of a sweep as a job of SLURM, or one a device of this machine."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaprun.cli import completion
from gaprun.cli.common import console, err_console, with_db
from gaprun.cli.options import DbOption, JobsOption, ProcessesOption, SeedsOption, SetOption, now_called
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, show
from gaprun.errors import UserError
from gaprun.tables import Heading, Table
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.cluster.plan import Planned
    from gaprun.cluster.resources import Resources
    from gaprun.store import Store

EXAMPLE = """Send a recipe's jobs to a cluster; `gaprun runs list` shows them queued, running, done.

SLURM: one array job through submitit. A job that nears its time limit saves, is requeued and goes on, and ends with
the same weights as if nothing had been; so does one that loses one of its processes. Several GPUs or nodes a job train
one run together.

Examples:

  gaprun submit recipes/paper/table2.yaml --cluster slurm --time 4:00:00 --gpus 1 --cpus 12 --db postgresql://db/clip

  gaprun submit recipes/reparam.yaml --cluster local --devices cuda:0,cuda:1
"""


class Cluster(StrEnum):
    """Where jobs may go."""

    slurm = "slurm"
    local = "local"


def register(app: typer.Typer) -> None:
    """Add the command."""
    renamed = {"--at-once": "--jobs", "--tasks-per-node": "--nproc-per-node"}
    app.command("submit", help=EXAMPLE, cls=now_called(renamed))(submit)


def submit(
    recipe: Annotated[
        Path,
        typer.Argument(
            help="Recipe or sweep file (YAML), or the name of gaprun's own.",
            autocompletion=completion.recipes,
        ),
    ],
    cluster: Annotated[Cluster, typer.Option(help="slurm, or local: this machine's devices, one job each.")],
    db: DbOption = None,
    seeds: SeedsOption = None,
    overrides: SetOption = None,
    devices: Annotated[
        str | None, typer.Option(help="local: e.g. cuda:0,cuda:1 or cpu,cpu; default every GPU.")
    ] = None,
    time: Annotated[str, typer.Option(help="Time limit of a job: minutes, H:MM:SS or D-HH:MM:SS.")] = "60",
    partition: Annotated[str | None, typer.Option(help="SLURM partition.")] = None,
    account: Annotated[str | None, typer.Option(help="SLURM account.")] = None,
    qos: Annotated[str | None, typer.Option(help="SLURM quality of service.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs a node.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="CPU cores a task.")] = None,
    mem: Annotated[str | None, typer.Option(help="Memory a node, e.g. 32G.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes a job.")] = 1,
    processes: ProcessesOption = None,
    side_by_side: JobsOption = None,
    signal_delay: Annotated[
        int, typer.Option(min=1, help="Seconds before the time limit at which a job saves and is requeued.")
    ] = 90,
    max_requeues: Annotated[
        int,
        typer.Option(min=0, help="Times a job may be requeued at its limit, and after a lost process."),
    ] = 10,
    slurm: Annotated[
        list[str] | None,
        typer.Option("--slurm", metavar="KEY=VALUE", help="Any other option of sbatch (repeatable)."),
    ] = None,
    allow_sqlite: Annotated[
        bool, typer.Option("--allow-sqlite", help="Let jobs on several nodes write one SQLite file.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be submitted; submit nothing.")
    ] = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Send a recipe's jobs to a cluster; see the help text above."""
    from gaprun.cli.running import checked, give_reasons, say_unfinished
    from gaprun.cli.train import parse_seeds
    from gaprun.cluster.plan import check_database, plan, rows, slurm_script
    from gaprun.cluster.resources import Resources, parse_free, parse_minutes
    from gaprun.jobs.preflight import check_folder, prepare_job
    from gaprun.recipe.jobs import load_jobs
    from gaprun.store.place import locate

    how = chosen(format, json)
    resources = Resources(
        minutes=parse_minutes(time),
        partition=partition,
        account=account,
        qos=qos,
        gpus=gpus,
        cpus=cpus,
        memory=mem,
        nodes=nodes,
        tasks=processes,
        at_once=side_by_side or 256,
        signal_seconds=signal_delay,
        max_requeues=max_requeues,
        free=parse_free(slurm or []),
    )
    if resources.signal_seconds >= 60 * resources.minutes and cluster is Cluster.slurm:
        raise UserError(
            f"--signal-delay {signal_delay}: not before the time limit ({resources.minutes} minutes) has begun"
        )
    place = locate(db)
    jobs = load_jobs(recipe, overrides or [], parse_seeds(seeds))
    jobs, refused = checked(jobs, lambda job: check_folder(job, prepare_job(job), place))
    store = _store(db, create=not dry_run)
    if cluster is Cluster.slurm:
        check_database(place.path is not None, place.name, resources, allow_sqlite)
    planned = plan(jobs, store)
    name = f"gaprun-{recipe.stem}"
    if dry_run:
        text = slurm_script(planned, store, resources, name) if cluster is Cluster.slurm else None
        _show(rows(planned), cluster, text, how, devices)
        return
    assert store is not None
    say_unfinished(store, [item.job for item in planned if item.action == "submit"], db)
    if cluster is Cluster.local:
        _run_here(planned, store, db, devices)
        if how is not Format.table:
            show(_table(rows(planned)), how)
    else:
        _send(planned, store, resources, name, how, db)
    if refused:
        give_reasons(refused, len(jobs) + len(refused))


def _store(db: str | None, create: bool) -> Store | None:
    from gaprun.store import open_store

    try:
        return open_store(db, create=create)
    except UserError:
        if create:
            raise
        return None


def _send(
    planned: list[Planned], store: Store, resources: Resources, name: str, how: Format, db: str | None
) -> None:
    from gaprun.cluster.plan import rows, to_slurm

    waiting = [item for item in planned if item.action == "submit"]
    ids = to_slurm(planned, store, resources, name) if waiting else {}
    show(_table(rows(planned, ids)), how)
    err_console.print(
        f"{len(ids)} of {counted(len(planned), 'job')} submitted; logs in {store.artifacts / 'slurm'}; "
        f"next: {with_db('gaprun runs list', db)}",
        markup=False,
        highlight=False,
    )


def _run_here(planned: list[Planned], store: Store, db: str | None, devices: str | None) -> None:
    from gaprun.cli.running import closing_words, run_all
    from gaprun.cluster.devices import chosen_devices
    from gaprun.cluster.plan import to_this_machine
    from gaprun.store import queued

    places = chosen_devices(devices)
    jobs = to_this_machine(planned, store)
    if jobs:
        try:
            run_all(jobs, store, db, places)
        finally:
            queued.withdraw(store, [job.id for job in jobs], "not begun: `gaprun submit` was stopped before")
    closing_words(store, [item.job for item in planned], db)


def _show(
    plan_rows: list[dict[str, Any]], cluster: Cluster, script: str | None, how: Format, devices: str | None
) -> None:
    document = {"cluster": cluster.value, "jobs": plan_rows, "script": script}
    legend = []
    if script is None and how is not Format.json:
        from gaprun.cluster.devices import chosen_devices

        legend.append(f"devices: {', '.join(chosen_devices(devices))}; one job each")
    show(_table(plan_rows, f"{counted(len(plan_rows), 'run')}; nothing was submitted", legend), how, document)
    if script is not None and how is Format.table:
        console.print(script, markup=False, highlight=False, soft_wrap=True)


def _table(plan_rows: list[dict[str, Any]], title: str = "", legend: Sequence[str] = ()) -> Table:
    """A row a job: what is, or would be, done with it."""
    rows = []
    for row in plan_rows:
        sent = f"SLURM job {row['slurm_job']}" if row.get("slurm_job") else row["action"]
        rows.append(
            (
                row["run"],
                str(row["steps"]),
                sent if sent == "submit" or row.get("slurm_job") else f"none: {sent}",
            )
        )
    return Table.of(
        "submitted", ("run", Heading("steps", right=True), "action"), rows, plan_rows, title, legend
    )
