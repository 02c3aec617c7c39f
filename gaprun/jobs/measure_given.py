"""Measuring embeddings that somebody else's model made: a run of their own in the database, beside trained ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaprun.errors import UserError
from gaprun.evaluation.choose import task_names
from gaprun.evaluation.given import Given, read_given
from gaprun.evaluation.run import evaluate_given
from gaprun.evaluation.task import Task
from gaprun.evaluation.tasks import TASKS
from gaprun.files import content_hash, plain_name
from gaprun.jobs.measure import Measurement
from gaprun.runtime.environment import code_version
from gaprun.store import NewRun, Store

# The others fit on a training file too, and are measured where they are asked for by name.
WITHOUT_ANOTHER_FILE = ("gap", "retrieval", "mixed", "intra", "clustering", "zeroshot")


def measure_given(
    store: Store,
    path: Path,
    *,
    name: str | None = None,
    data: str | None = None,
    tasks: str | None = None,
    how: Mapping[str, Any] | None = None,
) -> Measurement:
    """Measure the embeddings in `path` and store the values under a run of kind `external`.

    `name`: of the model, in tables (default: the file's); `data`: what was embedded (see `read_given`); `tasks`:
    comma-separated, default: all that the file alone has the rows for; `how`: a task's `transforms` and `fit`. Raises
    UserError.
    """
    given = read_given(path, data)
    model = plain_name(name or given.path.name.removesuffix(given.path.suffix), "--name")
    chosen = _tasks(given, tasks, how or {})
    run_id = f"{model}-{given.content[:8]}"
    resolved = {"name": model, "embeddings": {"source": str(path), "content": given.content}}
    if not any(run.id == run_id for run in store.runs([f"id={run_id}"])):
        store.begin_run(
            NewRun(
                id=run_id,
                recipe=model,
                kind="external",
                seed=None,
                recipe_hash=content_hash([model, given.content]),
                resolved_recipe=resolved,
                environment={"device": "elsewhere", "source": str(path)},
                code_version=code_version(),
                folder=f"{store.artifacts.name}/{run_id}",
                total_steps=0,
            )
        )
        store.finish_run(run_id, "finished", checkpoint=str(path), checkpoint_hash=given.content)
    done = evaluate_given(given, chosen, store, run_id)
    return Measurement(
        run_id=run_id,
        encoded=0,
        metrics=store.metrics_by_evaluation(done.evaluations),
        device=done.device,
        remarks=list(given.remarks),
        failures=done.failures,
    )


def _tasks(given: Given, names: str | None, how: Mapping[str, Any]) -> list[Task]:
    """The tasks asked for, or those of WITHOUT_ANOTHER_FILE that the file has the rows for."""
    chosen: list[Task] = []
    for name in task_names(names) if names is not None else WITHOUT_ANOTHER_FILE:
        kind = TASKS.get(name)
        assert kind is not None
        task = kind(task=name, data=[str(given.path)], **how)
        if task.accepts(given) and (names is not None or name != "zeroshot" or given.class_texts is not None):
            chosen.append(task)
        elif names is not None:
            raise UserError(f"--tasks {name}: needs {kind.needs}, which {given.path} does not have")
    return chosen
