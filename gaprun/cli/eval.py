"""`gaprun eval`: measure a run, a checkpoint file or an open_clip model on any data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gaprun.cli import completion
from gaprun.cli.common import DbOption, console, print_json
from gaprun.errors import UserError

if TYPE_CHECKING:
    from gaprun.evaluation.measure import Measurement

EXAMPLE = """Measure a model: gap, retrieval, zero-shot and linear probe, each image encoded once.

Examples:

  gaprun eval --ckpt baseline-s0-1a2b3c4d --tasks gap,retrieval --data coco/test

  gaprun eval --model ViT-B-32 --pretrained openai --data coco/test --data cifar10/test

  gaprun eval --ckpt logs/run/checkpoints/epoch_10.pt --data coco/test --tasks gap,retrieval,shift
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval", help=EXAMPLE)(evaluate)


def evaluate(
    db: DbOption = None,
    ckpt: Annotated[
        str | None,
        typer.Option(
            help="A run's id, our checkpoint, open_clip's .pt, or an open_clip model folder.",
            autocompletion=completion.runs,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="An open_clip architecture: with --pretrained, or for a --ckpt that does not say."),
    ] = None,
    pretrained: Annotated[str | None, typer.Option(help="open_clip's tag, or a weights file.")] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Comma-separated; default: all that each data set allows.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Split folder; repeatable. Default: the run's own.", autocompletion=completion.splits
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode pictures.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the values as JSON.")] = False,
) -> None:
    """Measure a model; see the help text above."""
    if ckpt is None and model is None:
        raise UserError("name what to measure: --ckpt RUN|FILE|FOLDER, or --model ARCH --pretrained TAG")
    if pretrained is not None and (model is None or ckpt is not None):
        raise UserError("--pretrained goes with --model ARCH and without --ckpt")
    from gaprun.cli.progress import JobProgress
    from gaprun.evaluation.choose import chosen_tasks

    chosen = chosen_tasks(tasks, data) if data or ckpt is None else None
    from gaprun.evaluation.measure import measure_model
    from gaprun.store import open_store
    from gaprun.training.events import Event

    store = open_store(db)
    with JobProgress() as progress:
        result = measure_model(
            store,
            ckpt=ckpt,
            arch=model,
            pretrained=pretrained,
            tasks=chosen,
            names=tasks,
            device_name=device,
            workers=workers,
            progress=lambda phase, done, total: progress(Event(str(ckpt or model), phase, done, total)),
        )
    if as_json:
        print_json({"run": result.run_id, "images_encoded": result.encoded, "metrics": result.metrics})
    else:
        _show(result)


def _show(result: Measurement) -> None:
    from rich.table import Table

    table = Table(title=f"{result.run_id} ({result.encoded} images encoded)")
    for column in ("data", "protocol", "metric", "value", "n"):
        table.add_column(column, justify="right" if column in ("value", "n") else "left")
    for row in result.metrics:
        value = "-" if row["value"] is None else f"{row['value']:.4g}"
        table.add_row(
            f"{row['dataset']}/{row['split']}", row["protocol"], row["metric"], value, str(row["n"])
        )
    console.print(table)
