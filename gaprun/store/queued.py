"""Runs that wait: put in the store when they are submitted, taken up again, given up or taken back.

What a run waits for stands in its notes under `queue`: the cluster, its job's id and log there, or host and process
of a submitter on this machine (`local`); `store.standing` says whether it still does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from gaprun.store import claims
from gaprun.store.clock import now_at
from gaprun.store.models import Run
from gaprun.store.rights import check_rights
from gaprun.store.values import NewRun

if TYPE_CHECKING:
    from gaprun.store.database import Store


def enqueue(store: Store, runs: Sequence[NewRun], note: dict[str, Any]) -> None:
    """Put `runs` in the store as queued, in one transaction; one that was there keeps its steps and results.

    A finished run, which waits to be measured, stays finished.

    `note` says what they wait for (`cluster`, and `job`, or `process` with its `host` and `pid`). Raises UserError
    where this user may not write all that a run has, and while a process may be at one of them (one that cannot be
    looked up is watched for a while first, as by `Store.begin_run`).
    """
    check_rights(store.engine, store.place.name)
    ids = [run.id for run in runs]

    def work(watched: dict[str, claims.Beat], session: Session) -> dict[str, claims.Beat]:
        rows = session.scalars(select(Run).where(Run.id.in_(ids), Run.status != "finished"))
        seen = {row.id: claims.refuse_if_owned(session, row, watched.get(row.id)) for row in rows}
        if unsure := {run_id: beat for run_id, beat in seen.items() if beat is not None}:
            return unsure
        now = now_at(session)
        for run in runs:
            row = session.get(Run, run.id)
            if row is None:
                row = Run(id=run.id, created=now, step=0, environment=run.environment)
                row.code_version, row.folder = run.code_version, run.folder
                session.add(row)
            row.recipe, row.kind, row.seed = run.recipe, run.kind, run.seed
            row.recipe_hash, row.resolved_recipe = run.recipe_hash, run.resolved_recipe
            if row.status != "finished":
                row.total_steps, row.status, row.error = run.total_steps, "queued", None
                row.host = row.pid = row.finished = row.heartbeat = None
                claims.release(session, run.id)
            row.notes = {**(row.notes or {}), "queue": {"submitted": now.isoformat(), **note}}
        return {}

    watched: dict[str, claims.Beat] = {}
    while unsure := store._write(partial(work, watched)):
        claims.wait()
        watched |= unsure


def note_job(store: Store, run_id: str, job: str, log: str) -> None:
    """Add the cluster's job id and log to what a run waits for; the job may have begun, and even ended, by now."""

    def work(session: Session) -> None:
        row = session.get(Run, run_id, with_for_update=True)
        if row is not None:
            notes = row.notes or {}
            row.notes = {**notes, "queue": {**notes.get("queue", {}), "job": job, "log": log}}

    store._write(work)


def requeue(store: Store, run_id: str) -> None:
    """A run that stopped in order to be started again by the scheduler waits again, also if who had it is lost."""

    def work(session: Session) -> None:
        change = update(Run).where(Run.id == run_id, Run.status.in_(("running", "interrupted")))
        session.execute(change.values(status="queued", error=None, host=None, pid=None, finished=None))
        claims.release(session, run_id)

    store._write(work)


def give_up(store: Store, run_ids: Sequence[str], reason: str) -> None:
    """Those of the runs that are still queued become interrupted, for `reason`."""
    change = update(Run).where(Run.id.in_(run_ids), Run.status == "queued")
    _change(store, change.values(status="interrupted", error=reason))


def withdraw(store: Store, run_ids: Sequence[str], reason: str) -> None:
    """Take back what `enqueue` did to those that are still queued: runs that never began leave the database."""

    def work(session: Session) -> None:
        session.execute(delete(Run).where(Run.id.in_(run_ids), Run.status == "queued", Run.started.is_(None)))

    store._write(work)
    give_up(store, run_ids, reason)


def _change(store: Store, statement: Any) -> None:
    def work(session: Session) -> None:
        session.execute(statement)

    store._write(work)
