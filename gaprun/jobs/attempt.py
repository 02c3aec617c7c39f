"""One process's attempt at a job: the run's folder and row, taken for it, and what every stage of it needs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gaprun.files import plain_name
from gaprun.jobs.kept import KeptStore
from gaprun.jobs.log import write_recipe
from gaprun.jobs.preflight import Prepared, facts_of, new_run
from gaprun.recipe.jobs import Job
from gaprun.runtime.distributed import World
from gaprun.runtime.events import Event, Report, StopRequest
from gaprun.store import Store, folders
from gaprun.store.lock import locked


@dataclass(frozen=True)
class Own:
    """The run's folder, what everything in it must say (`facts`), and what the database said of the run before.

    code, checkpoint_hash: of its row, where it has one with the same data; finished: whether it was; step: how far
    it came.
    """

    folder: Path
    facts: dict[str, Any]
    code: str | None
    checkpoint_hash: str | None
    finished: bool
    step: int


@dataclass(frozen=True)
class Attempt:
    """What the stages share.

    `kept` is `store` as the first process writes it, None in every other process; `code` is this code's version.
    """

    job: Job
    store: Store
    kept: KeptStore | None
    device: torch.device
    ready: Prepared
    own: Own
    code: str
    stop: StopRequest
    report: Report
    world: World


def claim(
    job: Job,
    store: Store,
    ready: Prepared,
    here: dict[str, object],
    code: str,
    report: Report,
    held: ExitStack,
) -> Own:
    """Take the run for this process: its folder, by a lock, and its row. Raises UserError where either is another's."""
    store.check_may_store()  # before anything is made for it
    folder = store.artifacts / plain_name(job.id, "run")
    facts = facts_of(job, ready)
    if folders.check_mark(folder, facts, store.place, store.identity):
        with locked(folder, job.id):
            moved = f"{folder.name} was of another run: {folders.move_aside(folder)}"
            report(Event(job.id, "resume", 1, 1, moved))
    held.enter_context(locked(folder, job.id))
    rows = store.runs([f"id={job.id}"])
    known = bool(rows and rows[0].environment.get("data"))
    finished = bool(rows) and rows[0].status == "finished"
    store.begin_run(new_run(job, ready, store.artifacts, code, here))
    folders.own(store, job.id, facts)
    write_recipe(folder, job.recipe)
    before = rows[0].code_version if known else None
    identity = rows[0].checkpoint_hash if finished else None
    return Own(folder, facts, before, identity, finished, rows[0].step if rows else 0)
