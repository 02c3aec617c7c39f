"""`gaprun runs export` and `gaprun runs import`: results and models to and from the programs beside gaprun."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaprun.cli.common import console, err_console
from gaprun.cli.options import DbOption, DeviceOption, ForceOption, WhereOption, now_called
from gaprun.cli.output import Format, FormatOption, JsonOption, chosen, nothing_with, show
from gaprun.cli.progress import bar
from gaprun.errors import UserError
from gaprun.tables import Heading, Table

if TYPE_CHECKING:
    from gaprun.store import Store

EXPORT = """Write runs to files that other programs read; the database keeps them.

csv, parquet: the four tables, in a new folder or a .zip. tensorboard: a folder of event files a run. mlflow: into
the tracking store that --out names. open_clip: one run's model as a folder for open_clip's local-dir:FOLDER.
embeddings: what one run's model makes of a split, as the .npz that `gaprun eval --embeddings` reads.

Examples:

  gaprun runs export --out results.zip --where recipe=baseline

  gaprun runs export --as tensorboard --out logs

  gaprun runs export --as mlflow --out sqlite:///mlflow.db

  gaprun runs export baseline-s0 --as open_clip --out models/baseline

  gaprun runs export baseline-s0 --as embeddings --data coco/test --out baseline-coco-test.npz
"""
IMPORT = """Bring in results of open_clip, CLIP_benchmark and mteb, and runs of W&B and MLflow.

Read are open_clip's results.jsonl and published tables, CLIP_benchmark's JSON and CSV, mteb's JSON, W&B's
wandb-summary.json and the CSVs of its page, and MLflow's tracking stores.

They become runs of kind external, named model@program, and stand in `gaprun compare` like any others. What has no name
here is left out and named; a file that cannot be read is named, the others come in, and the exit code is 1.

Examples:

  gaprun runs import logs/my-run/checkpoints/results.jsonl --data coco/val

  gaprun runs import benchmark.csv mscoco_captions_openai_ViT-B-32_en_zeroshot_retrieval.json

  gaprun runs import wandb/latest-run/files/wandb-summary.json --data coco/val

  gaprun runs import sqlite:///mlflow.db

  gaprun runs import results.zip

Runs that `gaprun runs export` wrote, as CSV or into MLflow, come back as they were.
"""


class ExportFormat(StrEnum):
    """Who is to read the runs."""

    CSV = "csv"
    PARQUET = "parquet"
    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"
    OPEN_CLIP = "open_clip"
    EMBEDDINGS = "embeddings"


EXPERIMENT = "gaprun"
DEFAULT_OUT = {
    ExportFormat.CSV: "gaprun-export.zip",
    ExportFormat.PARQUET: "gaprun-parquet.zip",
    ExportFormat.TENSORBOARD: "tensorboard",
    ExportFormat.MLFLOW: "sqlite:///mlflow.db",
}


def register(runs: typer.Typer) -> None:
    """Add the two commands to `gaprun runs`."""
    renamed = {
        f"--format {kind.value}": f"--as {kind.value}"
        for kind in ExportFormat
        if kind is not ExportFormat.CSV
    }
    runs.command("export", help=EXPORT, cls=now_called({**renamed, "--run": "a word of its own: RUN"}))(
        export
    )
    runs.command("import", help=IMPORT)(import_)


def export(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Only these runs.")] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="A new folder or .zip; for mlflow the tracking store's URI, for embeddings an .npz."
        ),
    ] = None,
    kind: Annotated[ExportFormat, typer.Option("--as", help="Who is to read them.")] = ExportFormat.CSV,
    where: WhereOption = None,
    data: Annotated[str | None, typer.Option(help="embeddings: the split, such as coco/test.")] = None,
    device: DeviceOption = "auto",
    experiment: Annotated[str, typer.Option(help="mlflow: the experiment's name.")] = EXPERIMENT,
    force: ForceOption = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Write runs for other programs; see the help text above."""
    from gaprun.store import open_store

    how = chosen(format, json)
    store = open_store(db, create=False)
    target = out or DEFAULT_OUT.get(kind)
    run = runs or []
    one_model = kind in (ExportFormat.OPEN_CLIP, ExportFormat.EMBEDDINGS)
    if data is not None and kind is not ExportFormat.EMBEDDINGS:
        raise UserError("--data says what is embedded: it goes with --as embeddings")
    unused: dict[str, object] = {
        "--where": one_model and where,
        "--experiment": kind is not ExportFormat.MLFLOW and experiment != EXPERIMENT,
        "--device": kind is not ExportFormat.EMBEDDINGS and device != "auto",
        "--force": kind in (ExportFormat.MLFLOW, ExportFormat.TENSORBOARD) and force,
    }
    nothing_with(f"--as {kind.value}", unused)
    problems: list[str] = []
    if kind is ExportFormat.OPEN_CLIP:
        done: dict[str, Any] = _model(store, out, run, force)
        target = out or done["run"]
    elif kind is ExportFormat.EMBEDDINGS:
        done = _embeddings(store, out, run, data, device, force)
        target = out
    else:
        assert target is not None
        done, problems = _rows(store, kind, target, _chosen(store, run, where), experiment, force)
    if how is not Format.table:
        record = {"path": target, **done}
        show(
            Table.of("export", list(record), [[str(value) for value in record.values()]], [record]),
            how,
            record,
        )
    else:
        said = ", ".join(f"{value} {name}" for name, value in done.items())
        if kind is ExportFormat.OPEN_CLIP:
            said = f"{done['run']} at step {done['step']}, temperature {done['temperature']:.4g}"
        elif kind is ExportFormat.EMBEDDINGS:
            said = f"{done['images']:,} images and {done['texts']:,} texts of {data} by {done['run']}"
        console.print(f"{target}: {said}", markup=False, soft_wrap=True)
    for problem in problems:
        _say(problem)
    if problems:
        raise typer.Exit(1)


def _chosen(store: Store, run: list[str] | None, where: list[str] | None) -> list[str] | None:
    """The ids asked for, oldest first; None for all."""
    ids = [row.id for row in reversed(store.runs(where or [], light=True))]
    if run:
        named = {store.run(name).id for name in run}
        ids = [run_id for run_id in ids if run_id in named]
    for hint in store.idle(where or []):
        _say(hint)
    if not ids:
        raise UserError("no such run to export: see `gaprun runs list`")
    return ids if run or where else None


def _rows(
    store: Store, kind: ExportFormat, target: str, ids: list[str] | None, experiment: str, force: bool
) -> tuple[dict[str, int], list[str]]:
    """How much was written, by kind, and what could not be."""
    if kind in (ExportFormat.CSV, ExportFormat.PARQUET):
        from gaprun.store.export import export as write

        return write(store, Path(target), ids, force, parquet=kind is ExportFormat.PARQUET), []
    every = ids if ids is not None else [row.id for row in reversed(store.runs(light=True))]
    with bar("sending", "runs") as progress:
        if kind is ExportFormat.TENSORBOARD:
            from gaprun.exchange import tensorboard

            sent = tensorboard.send(store, every, Path(target), progress)
        else:
            from gaprun.exchange import mlflow

            sent = mlflow.send(store, every, target, experiment, progress)
    return sent.counts, sent.problems


def _model(store: Store, out: str | None, run: list[str], force: bool) -> dict[str, Any]:
    if len(run) != 1:
        raise UserError("--as open_clip exports one model: name its run")
    from gaprun.exchange.openclip import export_model
    from gaprun.files import plain_name

    folder = (
        Path(out)
        if out
        else Path(plain_name(store.run(run[0]).id, "without --out the folder is the run's id:"))
    )
    return export_model(store, run[0], folder, force)


def _embeddings(
    store: Store, out: str | None, run: list[str], data: str | None, device: str, force: bool
) -> dict[str, Any]:
    if len(run) != 1 or out is None or data is None:
        raise UserError("--as embeddings needs a run, --data SPLIT and --out FILE.npz")
    from gaprun.cli.progress import JobProgress
    from gaprun.runtime.events import Event

    with JobProgress(f"{run[0]}: loading") as progress:
        from gaprun.exchange.embeddings import export_embeddings  # loads torch

        return export_embeddings(
            store,
            run[0],
            data,
            Path(out),
            force,
            device,
            lambda phase, done, total: progress(Event(run[0], phase, done, total)),
        )


def import_(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="results.jsonl, *.json, *.csv, an export (folder or .zip), or MLflow's URI.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            help="The split that was measured, e.g. coco/test; where it lies here its fingerprint and size are taken."
        ),
    ] = None,
    same_data: Annotated[
        bool, typer.Option("--same-data", help="The files call --data's pictures and texts by another name.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Recipe name instead of model@program.")] = None,
    format: FormatOption = Format.table,
    json: JsonOption = False,
    db: DbOption = None,
) -> None:
    """Bring in others' results; see the help text above."""
    from gaprun.exchange.results import import_files
    from gaprun.store import open_store

    how = chosen(format, json)
    if same_data and data is None:
        raise UserError("--same-data says that --data is what the files call by another name: add --data")
    report = import_files(lambda: open_store(db), files, data, name, same_data)
    if not report.done and len(report.refused) == len(files) == 1:
        raise UserError(report.refused[0])
    rows = [(one.run_id, str(one.values), str(one.file)) for one in report.done]
    heads = ("run", Heading("values", right=True), "from")
    if report.done or how in (Format.json, Format.csv):
        show(Table.of("imported", heads, rows, [vars(one) for one in report.done]), how)
    for reasons, what in (
        (report.left_out, "left out, gaprun has no such metric"),
        (report.odd, "no numbers"),
    ):
        for file, names in reasons.items():
            if names:
                _say(f"{file}: {what}: {', '.join(names)}")
    for note in report.notes:
        _say(note)
    for reason in report.refused:
        _say(f"not imported: {reason}")
    if report.refused or not report.done:
        _say(f"{len(report.done)} results came in, {len(report.refused)} did not")
        raise typer.Exit(1)


def _say(text: str) -> None:
    err_console.print(text, markup=False, highlight=False, soft_wrap=True)
