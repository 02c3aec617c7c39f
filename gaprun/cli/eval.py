"""`gaprun eval`: measure a run, a checkpoint file or an open_clip model on any data sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gaprun.cli import completion, output
from gaprun.cli.common import DbOption, err_console
from gaprun.cli.output import Format, FormatOption, JsonOption
from gaprun.errors import UserError
from gaprun.tables import Heading, Table

if TYPE_CHECKING:
    from gaprun.jobs.measure import Measurement

EXAMPLE = """Measure a model: gap, retrieval, zero-shot and linear probe, each image encoded once.

Examples:

  gaprun eval --ckpt baseline-s0-1a2b3c4d --tasks gap,retrieval --data coco/test

  gaprun eval --model ViT-B-32 --pretrained openai --data coco/test --data cifar10/test

  gaprun eval --ckpt RUN --data coco/test --transform centre --transform realign --fit coco/train

  gaprun eval --embeddings clip-coco-test.npz --data coco/test --name my-clip

  gaprun eval --ckpt logs/run/checkpoints/epoch_10.pt --data coco/test --tasks gap,retrieval,shift

What was assumed (of a checkpoint without params.txt, say) is printed on the error stream and kept with the run. What
could not be measured is listed at the end, with exit code 1; the other values are kept.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval", help=EXAMPLE)(evaluate)


def evaluate(
    db: DbOption = None,
    ckpt: Annotated[
        str | None,
        typer.Option(
            help="A run, our checkpoint, open_clip's .pt, a model folder (open_clip, transformers), hf-hub:OWNER/NAME.",
            autocompletion=completion.runs,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="An open_clip architecture: with --pretrained, or for a --ckpt that does not say."),
    ] = None,
    pretrained: Annotated[str | None, typer.Option(help="open_clip's tag, or a weights file.")] = None,
    random: Annotated[
        bool, typer.Option("--random", help="Measure --model with random weights (of seed 0).")
    ] = False,
    tasks: Annotated[
        str | None, typer.Option(help="Comma-separated; default: all that each data set allows.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Split folder; repeatable. Default: the run's own.", autocompletion=completion.splits
        ),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(help="Rows of another program: .npz, a folder of .npy, .parquet (docs/exchange.md)."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="With --embeddings: the model's name; default: the file's.")
    ] = None,
    transform: Annotated[
        list[str] | None,
        typer.Option(
            help="Measure after this map too, repeatable: centre, realign, shift,fraction=0.5, ... (docs/metrics.md)."
        ),
    ] = None,
    fit: Annotated[
        str | None, typer.Option(help="Split that the maps are fitted on; default: the train sibling.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that decode pictures.")] = 0,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Measure a model; see the help text above."""
    chosen_format = output.chosen(format, json)
    if embeddings is not None:
        _given(
            embeddings,
            name,
            db,
            data,
            tasks,
            transform,
            fit,
            chosen_format,
            (ckpt, model, pretrained, random or None),
        )
        return
    if name is not None:
        raise UserError("--name goes with --embeddings: other models bring their own")
    if ckpt is None and model is None:
        raise UserError(
            "name what to measure: --ckpt RUN|FILE|FOLDER|hf-hub:NAME, or --model ARCH --pretrained TAG"
        )
    if pretrained is not None and (model is None or ckpt is not None):
        raise UserError("--pretrained goes with --model ARCH and without --ckpt")
    from gaprun.cli.progress import JobProgress
    from gaprun.evaluation.choose import chosen_tasks, task_names, transformed

    if tasks is not None:
        task_names(tasks)
    how = transformed(transform, fit)
    chosen = chosen_tasks(tasks, data, transform, fit) if data or ckpt is None else None
    from gaprun.runtime.events import Event
    from gaprun.store import open_store

    store = open_store(db)
    with JobProgress(f"{ckpt or model}: loading") as progress:
        from gaprun.jobs.measure import measure_model  # loads torch

        result = measure_model(
            store,
            ckpt=ckpt,
            arch=model,
            pretrained=pretrained,
            tasks=chosen.tasks if chosen else None,
            names=tasks,
            how=how,
            random=random,
            failures=chosen.failures if chosen else (),
            device_name=device,
            workers=workers,
            progress=lambda phase, done, total: progress(Event(str(ckpt or model), phase, done, total)),
        )
    _print(result, chosen_format)


def _given(
    path: Path,
    name: str | None,
    db: str | None,
    data: list[str] | None,
    tasks: str | None,
    transform: list[str] | None,
    fit: str | None,
    how_shown: Format,
    others: tuple[object, ...],
) -> None:
    """Measure embeddings of another program."""
    if any(other is not None for other in others):
        raise UserError("--embeddings stands alone: no --ckpt, --model, --pretrained or --random beside it")
    if data is not None and len(data) > 1:
        raise UserError("--embeddings: one --data, which says what was embedded")
    from gaprun.evaluation.choose import task_names, transformed

    if tasks is not None:
        task_names(tasks)
    how = transformed(transform, fit)
    from gaprun.jobs.measure_given import measure_given
    from gaprun.store import open_store

    embedded = data[0] if data else None
    _print(measure_given(open_store(db), path, name=name, data=embedded, tasks=tasks, how=how), how_shown)


def _print(result: Measurement, format: Format) -> None:
    from gaprun.evaluation.run import said

    for remark in [*result.remarks, *_repeated(result)]:
        err_console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)
    document = {
        "run": result.run_id,
        "images_encoded": result.encoded,
        "device": result.device,
        "metrics": result.metrics,
        "notes": result.remarks,
        "failed": [{"what": what, "why": said(error)} for what, error in result.failures],
    }
    output.show(_table(result), format, document)
    result.raise_failures()


def _repeated(result: Measurement) -> list[str]:
    return [
        f"{row['dataset']}/{row['split']}: {row['value']:.0f} captions stand with several pictures; each counts as the "
        "caption of the one that it stands with (by index, as CLIP_benchmark counts), and the others tie against it"
        for row in result.metrics
        if row["metric"] == "repeated_captions"
    ]


def _table(result: Measurement) -> Table:
    """A row a value, metrics in the order of all tables."""
    from gaprun.evaluation.catalogue import in_order, value_text

    order = {name: place for place, name in enumerate(in_order({row["metric"] for row in result.metrics}))}
    found = sorted(result.metrics, key=lambda row: order[row["metric"]])
    rows = [
        (
            f"{row['dataset']}/{row['split']}",
            row["protocol"],
            row["metric"],
            value_text(row["metric"], row["value"]),
            str(row["n"]),
        )
        for row in sorted(found, key=lambda row: (row["dataset"], row["split"], row["protocol"]))
    ]
    heads = ("data", "protocol", "metric", Heading("value", right=True), Heading("items", right=True))
    title = f"{result.run_id} on {result.device} ({result.encoded} images encoded)"
    return Table.of("measured", heads, rows, found, title)
