"""Measuring any model: find it, give it a run in the database, measure, and hand back the values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gaprun.errors import UserError
from gaprun.evaluation.embed import Progress
from gaprun.evaluation.load import LoadedModel, load_model
from gaprun.evaluation.run import evaluate_run
from gaprun.evaluation.task import Task
from gaprun.recipe.schema import Compute
from gaprun.store import NewRun, Store
from gaprun.training.environment import code_version, environment, pick_device
from gaprun.training.kernels import set_kernels


@dataclass(frozen=True)
class Measurement:
    """Values of one model on the data asked for; `encoded` counts the images that an encoder was run on."""

    run_id: str
    encoded: int
    metrics: list[dict[str, Any]]


def measure_model(
    store: Store,
    *,
    ckpt: str | None,
    arch: str | None,
    pretrained: str | None,
    tasks: Sequence[Task] | None,
    names: str | None = None,
    device_name: str = "auto",
    workers: int = 0,
    progress: Progress | None = None,
) -> Measurement:
    """Measure the model that `ckpt`, or `arch` with `pretrained`, names; `tasks` None takes its recipe's own.

    `names` (comma-separated) narrows the recipe's tasks. Raises UserError for what is not found or does not fit.
    """
    device = pick_device(device_name)
    loaded = load_model(store, ckpt, arch, pretrained)
    chosen = _recipe_tasks(loaded, names) if tasks is None else list(tasks)
    set_kernels(loaded.recipe.compute if loaded.recipe else Compute(), device)
    _ensure_run(store, loaded, device)
    embedder = evaluate_run(
        towers=loaded.towers,
        checkpoint_hash=loaded.checkpoint_hash,
        step=loaded.step,
        tasks=chosen,
        store=store,
        run_id=loaded.run_id,
        device=device,
        workers=workers,
        progress=progress,
    )
    named = {(source.dataset, source.split) for task in chosen for source in map(task.open, task.data)}
    rows = [row for row in store.metrics(loaded.run_id) if (row["dataset"], row["split"]) in named]
    return Measurement(loaded.run_id, embedder.encoded, rows)


def _recipe_tasks(loaded: LoadedModel, names: str | None) -> list[Task]:
    tasks: list[Task] = list(loaded.recipe.eval) if loaded.recipe else []
    if names:
        tasks = [task for task in tasks if task.task in names.split(",")]
    if not tasks:
        raise UserError(f"run {loaded.run_id}: its recipe measures nothing of that kind; name --data")
    return tasks


def _ensure_run(store: Store, loaded: LoadedModel, device: torch.device) -> None:
    """A model that has no run in this database gets one, so that its values stand in the same tables."""
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
            environment=environment(device) | {"source": loaded.source},
            code_version=code_version(),
            folder=f"{store.artifacts.name}/{loaded.run_id}",
            total_steps=loaded.step,
        )
    )
    store.heartbeat(loaded.run_id, loaded.step)
    store.finish_run(
        loaded.run_id, "finished", checkpoint=loaded.source, checkpoint_hash=loaded.checkpoint_hash
    )
