"""What is asked while training goes on: the runs that do, those that ended last, and what is new of one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from gaprun.store.models import Evaluation, Run, Trajectory
from gaprun.store.order import by_code
from gaprun.store.standing import LOST, lost_runs

CURVES = ("loss", "gap", "temperature")
_COLUMNS = [
    getattr(Run, name)
    for name in ("id", "recipe", "kind", "seed", "status", "error", "created", "started", "finished", "heartbeat",
                 "host", "step", "total_steps", "notes")
]  # fmt: skip


def runs_now(
    session: Session, latest: int, lost: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the runs that go on (running, the one that started last first, then queued), of the `latest` finished and
    of the `latest` that stopped, the newest end first.

    `lost`: queued runs that wait for nothing, with the reason. Each row holds the columns of _COLUMNS by name.
    """
    going = _rows(session, select(*_COLUMNS).where(Run.status.in_(("running", "queued"))))
    lost = {**lost, **lost_runs(session, [row["id"] for row in going if row["status"] == "running"])}
    end = func.coalesce(Run.finished, Run.heartbeat, Run.started, Run.created)

    def newest(*statuses: str) -> list[dict[str, Any]]:
        chosen = (
            select(*_COLUMNS)
            .where(Run.status.in_(statuses))
            .order_by(end.desc(), by_code(Run.id))
            .limit(latest)
        )
        return _rows(session, chosen)

    stopped = newest("failed", "interrupted")
    for row in going:
        if row["id"] in lost:
            stopped.append({**row, "status": LOST, "error": lost[row["id"]]})
    stopped.sort(key=ended, reverse=True)
    going = [row for row in going if row["id"] not in lost]
    going.sort(key=lambda row: row["started"] or row["created"], reverse=True)
    going.sort(key=lambda row: row["status"] == "queued")
    return going, newest("finished"), stopped[:latest]


def lost_waiting(session: Session) -> dict[str, str]:
    """Queued runs that wait for nothing, with the reason; asks the cluster."""
    return lost_runs(session, list(session.scalars(select(Run.id).where(Run.status == "queued"))))


def last_measured(session: Session, run_ids: Sequence[str]) -> dict[str, datetime]:
    """When each of these (up to 500) runs was measured last; runs that never were are left out."""
    query = select(Evaluation.run_id, func.max(Evaluation.created)).where(Evaluation.run_id.in_(run_ids))
    return {run_id: moment for run_id, moment in session.execute(query.group_by(Evaluation.run_id))}


def curves_after(session: Session, run_id: str, step: int) -> dict[str, list[Any]]:
    """The columns `step` and CURVES of what `run_id` recorded after `step` (-1: all)."""
    names = ("step", *CURVES)
    query = select(*(getattr(Trajectory, name) for name in names))
    query = query.where(Trajectory.run_id == run_id, Trajectory.step > step).order_by(Trajectory.step)
    rows = session.execute(query).all()
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _rows(session: Session, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in session.execute(query).mappings()]


def ended(row: Mapping[str, Any]) -> datetime:
    """When a run ended, as far as it is known: the order of `runs_now`."""
    found: datetime = row["finished"] or row["heartbeat"] or row["started"] or row["created"]
    return found
