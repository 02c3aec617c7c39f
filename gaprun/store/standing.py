"""Runs that say running or queued though nothing runs or waits: told to whoever reads, and written by no reader.

What a queued run waits for stands in its notes under `queue`: `cluster` (who keeps the queue), when it was `submitted`,
and what that cluster needs to find it again. `local` is a submitter of this package, known as `liveness` does; any
other is asked through `store.schedulers`. Where nobody answers, time decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from gaprun.store import claims
from gaprun.store.clock import now_at
from gaprun.store.liveness import is_alive, lost_because, this_host
from gaprun.store.models import Run
from gaprun.store.schedulers import SCHEDULERS, submitted_at

FORGOTTEN = timedelta(days=14)
GOING = ("running", "queued")
LOST = "interrupted"


def lost_runs(session: Session | Connection, ids: Sequence[str] | None = None) -> dict[str, str]:
    """Of the runs (None: all) that say running or queued, those that are not, each with the reason."""
    query = select(Run.id, Run.status, Run.host, Run.pid, Run.started, Run.heartbeat, Run.created, Run.notes)
    query = query.where(Run.status.in_(GOING))
    rows = session.execute(query if ids is None else query.where(Run.id.in_(ids))).all()
    running = [row.id for row in rows if row.status == "running"]
    owners = claims.owners(session, running) if running else {}
    now = now_at(session) if rows else None
    found = {row.id: lost_running(row, owners.get(row.id), now) for row in rows if row.status == "running"}
    waiting = {row.id: row for row in rows if row.status == "queued"}
    queues = {run_id: (row.notes or {}).get("queue") or {} for run_id, row in waiting.items()}
    found |= lost_queued(queues, {run_id: row.created for run_id, row in waiting.items()}, now)
    return {run_id: reason for run_id, reason in found.items() if reason is not None}


def as_it_stands(session: Session, run: Run) -> Run:
    """`run` as it is to be read: interrupted, with the reason as its error, where it only says that it is going."""
    if run.status in GOING:
        stand(run, lost_runs(session, [run.id]))
    return run


def stand(run: Run, lost: Mapping[str, str]) -> None:
    """Give `run`, if it is among the `lost`, its true status and error; the database keeps what it has."""
    if (reason := lost.get(run.id)) is not None:
        set_committed_value(run, "status", LOST)
        set_committed_value(run, "error", reason)


def lost_running(run: Any, owner: str | None, now: datetime | None = None) -> str | None:
    """Why `run` (a row with host, pid, started, heartbeat) does not run, or None while it may; `owner` as claimed,
    `now` by the database's clock."""
    if owner is not None and (run.host, run.pid) != claims.place_of(owner):
        owner = None  # the row was changed by a gaprun without claims
    return lost_because(run.host, run.pid, run.started, run.heartbeat, owner, now)


def lost_queued(
    queues: Mapping[str, Mapping[str, Any]], created: Mapping[str, datetime], now: datetime | None = None
) -> dict[str, str | None]:
    """For each run of `queues` why it waits for nothing, or None while it may well be waiting.

    Each scheduler is asked once, for all of its runs.
    """
    found: dict[str, str | None] = {}
    for cluster, ask in SCHEDULERS.items():
        own = [run_id for run_id, queue in queues.items() if queue.get("cluster") == cluster]
        if own:
            found |= zip(own, ask([queues[run_id] for run_id in own]), strict=True)
    for run_id, queue in queues.items():
        if found.get(run_id) is None:
            found[run_id] = _lost_by_time(queue, created[run_id], now or datetime.now(UTC))
    return {run_id: reason or None for run_id, reason in found.items()}


def _lost_by_time(queue: Mapping[str, Any], created: datetime, now: datetime) -> str | None:
    submitted = submitted_at(queue) or created
    if queue.get("cluster") == "local" and "process" in queue:
        if is_alive(queue["process"]) is False:
            return f"its submitter is gone: process {queue.get('pid')} ended without saying so"
    elif queue.get("cluster") == "local" and queue.get("host") == this_host():  # of an earlier gaprun
        gone = lost_because(queue["host"], queue.get("pid"), submitted, None)
        return f"its submitter is gone: {gone}" if gone else None
    if now - submitted > FORGOTTEN:
        return f"nothing was heard of it since it was submitted on {submitted:%Y-%m-%d}"
    return None
