"""Runs that wait: put in the store when they are submitted, and not shown as waiting for ever when they were lost.

What a run waits for stands in its notes under `queue`: the cluster (`slurm` or `local`), the SLURM job's id and
cluster name, or host and process of the submitter. SLURM itself is asked where its commands reach that cluster; a
job that it no longer knows was cancelled or lost. Elsewhere time decides.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from gaprun.store import claims
from gaprun.store.liveness import lost_because, this_host
from gaprun.store.models import Run
from gaprun.store.values import NewRun

if TYPE_CHECKING:
    from gaprun.store.database import Store

ASK_SECONDS = 10.0
# Between a run's row and its job's id lies one call of sbatch.
SUBMITTING = timedelta(minutes=10)
FORGOTTEN = timedelta(days=14)


def enqueue(store: Store, runs: Sequence[NewRun], note: dict[str, Any]) -> None:
    """Put `runs` in the store as queued, in one transaction; one that was there keeps its steps and results.

    A finished run, which waits to be measured, stays finished.

    `note` says what they wait for (`cluster`, and `job`, or `host` and `pid`).
    """

    def work(session: Session) -> None:
        now = datetime.now(UTC)
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

    store._write(work)


def note_job(store: Store, run_id: str, job: str, log: str) -> None:
    """Add SLURM's id and the log to what a run waits for; the job may have begun, and even ended, by now."""

    def work(session: Session) -> None:
        row = session.get(Run, run_id, with_for_update=True)
        if row is not None:
            notes = row.notes or {}
            row.notes = {**notes, "queue": {**notes.get("queue", {}), "job": job, "log": log}}

    store._write(work)


def requeue(store: Store, run_id: str) -> None:
    """A run that stopped in order to be started again by the scheduler waits again."""
    change = update(Run).where(Run.id == run_id, Run.status.in_(("running", "interrupted")))
    _change(store, change.values(status="queued", error=None, host=None, pid=None, finished=None))


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


def reconcile(store: Store, runs: Sequence[Run]) -> None:
    """Of the queued `runs`, those that wait for nothing become interrupted, here and in the database."""
    if not runs:
        return
    ids = [run.id for run in runs]
    found = store._read(lambda s: s.execute(select(Run.id, Run.notes).where(Run.id.in_(ids))).all())
    notes = {row.id: row.notes for row in found}
    queues = {run_id: (note or {}).get("queue") or {} for run_id, note in notes.items()}
    known = slurm_jobs([q["job"] for q in queues.values() if q.get("cluster") == "slurm" and q.get("job")])
    for run in runs:
        reason = lost_queued(queues.get(run.id, {}), run.created, known)
        if reason is None:
            continue
        run.status, run.error = "interrupted", reason
        if not store.place.read_only:
            give_up(store, [run.id], reason)


def lost_queued(queue: dict[str, Any], created: datetime, known: tuple[str, set[str]] | None) -> str | None:
    """Why a run with this `queue` note waits for nothing, or None while it may well be waiting.

    `known` is what SLURM said here: the cluster's name and the job ids that it has; None where there is no SLURM.
    """
    submitted = datetime.fromisoformat(queue["submitted"]) if "submitted" in queue else created
    age = datetime.now(UTC) - submitted
    if queue.get("cluster") == "local" and queue.get("host") == this_host():
        gone = lost_because(queue["host"], queue.get("pid"), submitted, None)
        return f"its submitter is gone: {gone}" if gone else None
    if queue.get("cluster") == "slurm":
        job = queue.get("job")
        if job is None and age > SUBMITTING:
            return "its submission was cut short: no SLURM job has it"
        if job is not None and known is not None and known[0] == queue.get("cluster_name"):
            if job in known[1]:
                return None
            log = f"; see {queue['log']}" if queue.get("log") else ""
            return f"SLURM job {job} was cancelled, or ended before the run began{log}"
    if age > FORGOTTEN:
        return f"nothing was heard of it since it was submitted on {submitted:%Y-%m-%d}"
    return None


def slurm_jobs(jobs: Sequence[str]) -> tuple[str, set[str]] | None:
    """This host's SLURM cluster and those of `jobs` (ids such as 12 or 12_3) that it has not ended.

    None where SLURM's commands are missing or do not answer, and where no job is asked for.
    """
    if not jobs or (name := cluster_name()) is None:
        return None
    main = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    listed = _ask("squeue", "--noheader", "--array", "--format=%i", f"--jobs={main}")
    if listed is None:
        return None
    if listed.returncode and "Invalid job id" not in listed.stderr:
        return None
    return name, set(listed.stdout.split())


def cluster_name() -> str | None:
    """What the SLURM that this host's commands reach calls itself; None without one that answers."""
    said = _ask("scontrol", "show", "config")
    lines = said.stdout.splitlines() if said and said.returncode == 0 else []
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("ClusterName")), None)


def _ask(program: str, *arguments: str) -> subprocess.CompletedProcess[str] | None:
    if shutil.which(program) is None:
        return None
    try:
        return subprocess.run(
            [program, *arguments],
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _change(store: Store, statement: Any) -> None:
    def work(session: Session) -> None:
        session.execute(statement)

    store._write(work)
