"""`gaprun eval`: measure a run, a checkpoint file or an open_clip model on any data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gaprun.cli.common import DbOption, console, print_json
from gaprun.errors import UserError

if TYPE_CHECKING:
    from gaprun.evaluation.load import LoadedModel
    from gaprun.evaluation.task import Task
    from gaprun.store import Store

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
        typer.Option(help="A run's id, our checkpoint, open_clip's .pt, or an open_clip model folder."),
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
        list[str] | None, typer.Option(help="Split folder; repeatable. Default: the run's own.")
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
    chosen = chosen_tasks(tasks, data) if data or (model and not ckpt) else None
    from gaprun.cli.progress import JobProgress
    from gaprun.evaluation.load import load_model
    from gaprun.evaluation.run import evaluate_run
    from gaprun.store import open_store
    from gaprun.training.environment import pick_device
    from gaprun.training.events import Event

    where = pick_device(device)
    store = open_store(db)
    loaded = load_model(store, ckpt, model, pretrained)
    if chosen is None:
        chosen = _recipe_tasks(loaded, tasks)
    _ensure_run(store, loaded, where)
    with JobProgress() as progress:
        embedder = evaluate_run(
            towers=loaded.towers,
            checkpoint_hash=loaded.checkpoint_hash,
            step=loaded.step,
            tasks=chosen,
            store=store,
            run_id=loaded.run_id,
            device=where,
            workers=workers,
            progress=lambda phase, done, total: progress(Event(loaded.run_id, phase, done, total)),
        )
    _show(store, loaded, chosen, embedder.encoded, as_json)


def chosen_tasks(names: str | None, data: list[str] | None) -> list[Task]:
    """Tasks for `--tasks` and `--data`; raises UserError for an unknown task or one that no data set allows."""
    import difflib

    from gaprun.evaluation.tasks import DEFAULT_TASKS, TASK_CLASSES

    if not data:
        raise UserError("name the data to measure on: --data coco/test (repeatable)")
    wanted = [name.strip() for name in names.split(",")] if names else list(DEFAULT_TASKS)
    chosen: list[Task] = []
    for name in wanted:
        if name not in TASK_CLASSES:
            near = difflib.get_close_matches(name, TASK_CLASSES, 1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(TASK_CLASSES)}"
            raise UserError(f"--tasks {name}: unknown task; {hint}")
        kind = TASK_CLASSES[name]
        probing = kind(task=name, data=data)
        fitting = [ref for ref in data if _fits(probing, ref, lenient=len(data) > 1)]
        if fitting:
            chosen.append(kind(task=name, data=fitting))
        elif names:
            raise UserError(f"--tasks {name}: needs {kind.needs}, which no --data has")
    return chosen


def _fits(task: Task, ref: str, lenient: bool) -> bool:
    """Whether `task` can be measured on `ref`; with several data sets, one that another task reads is passed over."""
    try:
        return task.accepts(task.open(ref))
    except UserError:
        if lenient and _readable(ref):
            return False
        raise


def _readable(ref: str) -> bool:
    from pathlib import Path

    from gaprun.data.split import data_root

    return (data_root() / ref).is_dir() or Path(ref).is_dir()


def _recipe_tasks(loaded: LoadedModel, names: str | None) -> list[Task]:
    tasks: list[Task] = list(loaded.recipe.eval) if loaded.recipe else []
    if names:
        tasks = [task for task in tasks if task.task in names.split(",")]
    if not tasks:
        raise UserError(f"run {loaded.run_id}: its recipe measures nothing of that kind; name --data")
    return tasks


def _ensure_run(store: Store, loaded: LoadedModel, device: object) -> None:
    """A model that has no run in this database gets one, so that its values stand in the same tables."""
    import hashlib
    import json

    from gaprun.store import NewRun
    from gaprun.training.environment import code_version, environment

    if store.runs([f"id={loaded.run_id}"]):
        return
    text = json.dumps(loaded.resolved, sort_keys=True)
    store.begin_run(
        NewRun(
            id=loaded.run_id,
            recipe=str(loaded.resolved["name"]),
            kind="external",
            seed=loaded.seed,
            recipe_hash=hashlib.sha256(text.encode()).hexdigest(),
            resolved_recipe=loaded.resolved,
            environment=environment(device) | {"source": loaded.source},  # type: ignore[arg-type]
            code_version=code_version(),
            folder=f"{store.artifacts.name}/{loaded.run_id}",
            total_steps=loaded.step,
        )
    )
    store.heartbeat(loaded.run_id, loaded.step)
    store.finish_run(
        loaded.run_id, "finished", checkpoint=loaded.source, checkpoint_hash=loaded.checkpoint_hash
    )


def _show(store: Store, loaded: LoadedModel, tasks: list[Task], encoded: int, as_json: bool) -> None:
    named = {(source.dataset, source.split) for task in tasks for source in map(task.open, task.data)}
    rows = [row for row in store.metrics(loaded.run_id) if (row["dataset"], row["split"]) in named]
    if as_json:
        print_json({"run": loaded.run_id, "images_encoded": encoded, "metrics": rows})
        return
    from rich.table import Table

    table = Table(title=f"{loaded.run_id} ({encoded} images encoded)")
    for column in ("data", "protocol", "metric", "value", "n"):
        table.add_column(column, justify="right" if column in ("value", "n") else "left")
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:.4g}"
        table.add_row(
            f"{row['dataset']}/{row['split']}", row["protocol"], row["metric"], value, str(row["n"])
        )
    console.print(table)
