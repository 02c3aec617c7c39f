"""`gaprun eval`: measure a run, a checkpoint file or an open_clip model on any data sets."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gaprun.cli import completion, output
from gaprun.cli.cautions import cautions
from gaprun.cli.common import err_console
from gaprun.cli.options import DbOption, DeviceOption, WorkersOption
from gaprun.cli.output import Format, FormatOption, JsonOption
from gaprun.errors import Failure, UserError
from gaprun.tables import Heading, Table
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.jobs.measure import Measurement

EXAMPLE = """Measure a model: gap, retrieval, zero-shot and linear probe, each image encoded once.

Examples:

  gaprun eval --ckpt baseline-s0-1a2b3c4d --tasks gap,retrieval --data coco/test

  gaprun eval --model ViT-B-32 --pretrained openai --data coco/test --data cifar10/test

  gaprun eval --ckpt RUN --data coco/test --transform centre --transform realign --fit coco/train

  gaprun eval --embeddings clip-coco-test.npz --data coco/test --name my-clip

  gaprun eval --ckpt logs/run/checkpoints/epoch_10.pt --data coco/test --tasks gap,retrieval,shift

  gaprun eval --ckpt 'runs/*/checkpoints' --ckpt ViT-B-32/openai --data coco/test --tasks gap,retrieval

  gaprun eval --ckpt @models.txt --data coco/test

Several models are measured one after another and shown in one table; one that fails does not stop the others.

What was assumed (of a checkpoint without params.txt, say) is printed on the error stream and kept with the run. What
could not be measured is listed at the end, with exit code 1; the other values are kept.
"""


class Precision(StrEnum):
    """What the towers compute in while they are measured."""

    fp32 = "fp32"
    bf16 = "bf16"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval", help=EXAMPLE)(evaluate)


def evaluate(
    db: DbOption = None,
    ckpt: Annotated[
        list[str] | None,
        typer.Option(
            help="A run, our checkpoint, open_clip's .pt, a model folder (open_clip, transformers), a folder of "
            "checkpoints, hf-hub:OWNER/NAME, open_clip's ARCH/TAG; repeatable, also a pattern, or @FILE, one a line.",
            autocompletion=completion.runs,
        ),
    ] = None,
    step: Annotated[
        int | None, typer.Option(min=1, help="With a run: its kept checkpoint of this step, not its last.")
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
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    precision: Annotated[
        Precision,
        typer.Option(help="bf16: the towers under autocast, faster on a GPU; kept apart from fp32's values."),
    ] = Precision.fp32,
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Convolutions in that memory format; kept apart too.")
    ] = False,
    format: FormatOption = Format.table,
    json: JsonOption = False,
) -> None:
    """Measure a model; see the help text above."""
    chosen_format = output.chosen(format, json)
    if embeddings is not None:
        if precision is not Precision.fp32 or channels_last:
            raise UserError(
                "--precision and --channels-last are of a model that is run: leave out --embeddings"
            )
        _given(
            embeddings,
            name,
            db,
            data,
            tasks,
            transform,
            fit,
            chosen_format,
            (
                ckpt or None,
                model,
                pretrained,
                random or None,
                step,
                workers,
                device if device != "auto" else None,
            ),
        )
        return
    if step is not None and not ckpt:
        raise UserError("--step names a checkpoint of a run: it goes with --ckpt RUN")
    if name is not None:
        raise UserError("--name goes with --embeddings: other models bring their own")
    if not ckpt and model is None:
        raise UserError(
            "name what to measure: --ckpt RUN|FILE|FOLDER|hf-hub:NAME, --model ARCH --pretrained TAG, "
            "or --embeddings FILE"
        )
    if pretrained is not None and (model is None or ckpt):
        raise UserError("--pretrained goes with --model ARCH and without --ckpt")
    from gaprun.cli.progress import JobProgress
    from gaprun.evaluation.choose import chosen_tasks, task_names, transformed
    from gaprun.jobs.named import models_named

    names = models_named(ckpt or [])
    if tasks is not None:
        task_names(tasks)
    how = transformed(transform, fit)
    chosen = chosen_tasks(tasks, data, transform, fit) if data or not ckpt else None
    from gaprun.runtime.events import Event
    from gaprun.store import open_store

    store = open_store(db)
    with JobProgress(f"{names[0] if names else model}: loading") as progress:
        from gaprun.jobs.measure import measure_model, measure_models  # loads torch

        def measure(ckpt: str | None) -> Measurement:
            return measure_model(
                store,
                ckpt=ckpt,
                arch=model,
                pretrained=pretrained,
                tasks=chosen.tasks if chosen else None,
                names=tasks,
                how=how,
                random=random,
                step=step,
                failures=chosen.failures if chosen else (),
                device_name=device,
                workers=workers,
                precision=precision.value,
                channels_last=channels_last,
                progress=lambda phase, done, total: progress(Event(str(ckpt or model), phase, done, total)),
            )

        several = names != (ckpt or [])[:1] and bool(ckpt)
        results, failures = (
            measure_models(names, measure) if several else ([measure(names[0] if names else None)], [])
        )
    if several:
        _print_several(results, failures, chosen_format)
    else:
        _print(results[0], chosen_format)


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
        raise UserError(
            "--embeddings stands alone: no --ckpt, --step, --model, --pretrained, --random, --workers or --device"
        )
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
    _notes(result)
    how = f" on {result.device} ({counted(result.encoded, 'image')} encoded)" if result.encoded else ""
    title = f"{result.run_id}{how or ', nothing encoded'}"
    output.show(_table([result], title), format, _document(result))
    result.raise_failures()


def _print_several(results: list[Measurement], failures: list[tuple[str, Exception]], format: Format) -> None:
    """One table of all models, then what could not be measured. Raises Failure where there is any."""
    for result in results:
        _notes(result, f"{result.run_id}: ")
    title = f"{len(results)} models"
    failed = _reasons(failures)
    document = {"models": [_document(result) for result in results], "failed": failed}
    output.show(_table(results, title, runs=True), format, document)
    for one in failed:
        err_console.print(
            f"failed   {one['what']}: {one['why']}", markup=False, highlight=False, soft_wrap=True
        )
    if failed:
        raise Failure(
            f"{len(failed)} models or measurements could not be done (the others are kept); they are listed above"
        )


def _document(result: Measurement) -> dict[str, Any]:
    return {
        "run": result.run_id,
        "images_encoded": result.encoded,
        "device": result.device,
        "metrics": result.metrics,
        "notes": result.remarks,
        "failed": _reasons(result.failures),
    }


def _reasons(failures: list[tuple[str, Exception]]) -> list[dict[str, str]]:
    from gaprun.evaluation.run import said

    return [{"what": what, "why": said(error)} for what, error in failures]


def _notes(result: Measurement, of: str = "") -> None:
    for remark in [*result.remarks, *cautions(result.metrics)]:
        err_console.print(f"note: {of}{remark}", markup=False, highlight=False, soft_wrap=True)


def _table(results: list[Measurement], title: str, runs: bool = False) -> Table:
    """A row a value, metrics in the order of all tables; with `runs` the models' values of one metric one below the
    other."""
    from gaprun.evaluation.catalogue import in_order, value_text

    found = [{"run": result.run_id, **row} for result in results for row in result.metrics]
    order = {name: place for place, name in enumerate(in_order({row["metric"] for row in found}))}
    found.sort(key=lambda row: (row["dataset"], row["split"], row["protocol"], order[row["metric"]]))
    rows = [
        (
            f"{row['dataset']}/{row['split']}",
            row["protocol"],
            row["metric"],
            *([row["run"]] if runs else []),
            value_text(row["metric"], row["value"]),
            str(row["n"]),
        )
        for row in found
    ]
    last = (Heading("value", right=True), Heading("items", right=True))
    heads: tuple[Heading | str, ...] = ("data", "protocol", "metric", *(["run"] if runs else []), *last)
    records = found if runs else [row for result in results for row in result.metrics]
    return Table.of("measured", heads, rows, records, title)
