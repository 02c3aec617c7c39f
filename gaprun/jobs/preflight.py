"""What can be known to be wrong before anything is trained or written. No torch here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gaprun.data.members import Members, captioned, counts_of
from gaprun.data.plan import exchanged, rows_passed
from gaprun.data.split import Split, open_split
from gaprun.errors import UserError
from gaprun.evaluation.task import Task
from gaprun.files import plain_name
from gaprun.model.spec import Model
from gaprun.recipe.jobs import Job, with_plugins
from gaprun.store import NewRun, Store
from gaprun.store.connection import artifacts_of
from gaprun.store.folders import check_mark
from gaprun.store.models import Run
from gaprun.store.place import Place
from gaprun.training.length import Length, run_length


@dataclass(frozen=True)
class Prepared:
    """A job's opened training splits, which of their images are trained on, and its length."""

    splits: list[Split]
    members: Members
    length: Length

    @property
    def fingerprints(self) -> dict[str, str]:
        """Content hash by `dataset/split`."""
        return {f"{split.dataset}/{split.split}": split.fingerprint for split in self.splits}

    @property
    def name(self) -> str:
        """The training data's name, splits joined by +."""
        return "+".join(self.fingerprints)


def prepare_job(job: Job, store: Store | None = None) -> Prepared:
    """Open the data of `job` and check it against the recipe, and against `store`'s run of the same id.

    Raises UserError for missing or unfit data, a batch that is too large, data that changed since, and where this
    process, begun later than the one that made the job, read other code from a plugin's file.
    """
    with_plugins(job.recipe)
    _check_start(job.recipe.model)
    splits = [open_split(ref) for ref in job.recipe.data.sets]
    tasks: list[Task] = list(job.recipe.eval)
    for task in tasks:
        for ref in task.data:
            split = task.open(ref)
            if not task.accepts(split):
                raise UserError(f"eval: task {task.task} needs {task.needs}, which {ref} lacks")
            task.all_protocols(split)  # a probe looks for its training split here
    members = captioned(splits, job.recipe.data.subset, job.seed)
    exchanged(job.recipe.data.mismatched, len(members))
    captions = int(counts_of(splits, members).sum())
    length = run_length(job.recipe, len(members), captions, _passed(job, splits, members))
    prepared = Prepared(splits, members, length)
    for run in store.runs([f"id={job.id}"]) if store else []:
        before = run.environment.get("data")
        if before and before != prepared.fingerprints:
            raise UserError(
                f"run {job.id} was made from other data ({prepared.name} changed since); give the recipe another "
                f"name or remove the run with `gaprun runs rm {job.id}`"
            )
    return prepared


def _check_start(model: Model) -> None:
    """Raise UserError where `model.pretrained` names nothing to start from. Only a word may be a tag, and whether it is
    one open_clip need not be asked before it is asked for the weights."""
    unknown = model.pretrained is not None and model.pretrained_sha256 is None
    if unknown and not (
        model.arch and model.vocabulary == "full" and re.fullmatch(r"[\w-]+", str(model.pretrained))
    ):
        from gaprun.model.start import Start  # with torch

        Start.of(model)


def _passed(job: Job, splits: list[Split], members: Members) -> int | None:
    """Rows of an epoch where sets are weighted."""
    data = job.recipe.data
    if data.weights is None:
        return None
    each = counts_of(splits, members) if data.captions == "pairs" else np.ones(len(members))
    rows = np.bincount(members[:, 0], each, len(splits))
    return int(rows_passed(rows, data.weights).sum())


def facts_of(job: Job, ready: Prepared) -> dict[str, Any]:
    """What every file in the run's folder must agree with: run, seed, recipe hash, the training data's fingerprints."""
    return {"run": job.id, "seed": job.seed, "recipe_hash": job.recipe_hash, "data": ready.fingerprints}


def check_folder(job: Job, ready: Prepared, place: Place) -> None:
    """Raise UserError where the run's folder is another run's, before a database is made at `place`."""
    check_mark(artifacts_of(place) / plain_name(job.id, "run"), facts_of(job, ready), place)


def new_run(
    job: Job, ready: Prepared, artifacts: Path, code_version: str, environment: dict[str, object]
) -> NewRun:
    """The store's row of `job` as it waits or begins, its folder under `artifacts`; `environment` gains the data."""
    return NewRun(
        id=job.id,
        recipe=job.recipe.name,
        kind="train",
        seed=job.seed,
        recipe_hash=job.recipe_hash,
        resolved_recipe=job.recipe.model_dump(mode="json"),
        environment=environment | {"data": ready.fingerprints},
        code_version=code_version,
        folder=f"{artifacts.name}/{job.id}",
        total_steps=ready.length.total,
    )


def is_finished(store: Store, job: Job) -> bool:
    """Whether this training is done, under whatever recipe name, and all that the recipe asks to measure is there."""
    return finished_as(store, job) is not None


def finished_as(store: Store, job: Job) -> str | None:
    """The run that is this training, done and measured (see `is_finished`): its own, else one of another name."""
    runs = store.runs([f"recipe_hash={job.recipe_hash}", f"seed={job.seed}", "status=finished"])
    if not runs:
        return None
    data = prepare_job(job).fingerprints
    same_data = [run for run in runs if run.environment.get("data", data) == data]
    same_data.sort(key=lambda run: run.id != job.id)
    return next((run.id for run in same_data if _is_measured(store, job, run)), None)


def _is_measured(store: Store, job: Job, run: Run) -> bool:
    tasks: list[Task] = list(job.recipe.eval)
    for task in tasks:
        for ref in task.data:
            split = task.open(ref)
            for protocol in task.all_protocols(split):
                key = task.key(split, protocol, run.checkpoint_hash or "", run.step or 0)
                if not store.has_evaluation(run.id, key):
                    return False
    return True
