"""Who may write a run: one process at a time holds its claim, a random token in the database.

`Store.begin_run` takes the claim and every later write of that process asks whether it still holds. A claim whose
owner may be alive is not taken: a process of this machine and PID namespace is looked up; for any other, both the age
of its last heartbeat and (because clocks can be set) a while of watching must say that it no longer beats.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select
from sqlalchemy.orm import Session

from gaprun.errors import Failure, UserError
from gaprun.store.clock import now_at
from gaprun.store.liveness import SILENCE, is_alive, is_this, lost_because, this_host, this_process
from gaprun.store.models import Run, RunClaim

BEAT_SECONDS = 15.0
WATCH_SECONDS = 35.0


class ClaimLost(Failure):
    """Another process has taken the run over: this one must write nothing more."""


@dataclass(frozen=True)
class Beat:
    """What a living owner changes at each heartbeat."""

    token: str | None
    heartbeat: datetime | None
    step: int


def beat_of(session: Session, run: Run) -> Beat:
    """The run's claim and heartbeat as they are now."""
    claim = session.get(RunClaim, run.id)
    return Beat(claim.token if claim else None, run.heartbeat, run.step)


def refuse_if_owned(
    session: Session, run: Run, watched: Beat | None, token: str | None = None
) -> Beat | None:
    """Raise UserError while another process may be at `run`; None when this one may claim it.

    Otherwise returns what must first be seen not to change (`still_silent`); `watched` is what was, and `token` this
    process's own of an earlier claim.
    """
    claim = session.get(RunClaim, run.id)
    if claim is not None and (run.host, run.pid) != place_of(claim.owner):
        claim = None  # the row was changed by a gaprun without claims: what it says counts
    if claim is not None:
        if is_this(claim.owner) or claim.token == token:
            return None
        alive = is_alive(claim.owner)
    elif run.status != "running":
        return None
    else:
        here = run.host == this_host() and run.pid is not None
        alive = lost_because(run.host, run.pid, run.started, None) is None if here else None
    if alive is False:
        return None
    now = beat_of(session, run)
    if (
        alive
        or _recent(run.heartbeat or run.started, now_at(session))
        or (watched is not None and watched != now)
    ):
        last = f", last heard of at {run.heartbeat:%Y-%m-%d %H:%M:%S} UTC" if run.heartbeat else ""
        raise UserError(
            f"run {run.id} is already running (process {run.pid} on {run.host}{last}): wait for it, or stop it first"
        )
    return now if watched is None else None


def _recent(last: datetime | None, now: datetime) -> bool:
    """Whether a heartbeat is so fresh that its sender counts as alive; one from the future says nothing."""
    return last is not None and abs(now - last) <= SILENCE


def wait() -> None:
    """Let pass what a living owner needs to be seen to beat, by a clock that nobody sets."""
    deadline = time.monotonic() + WATCH_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(left)


def still_silent(read: Callable[[], Beat | None], seen: Beat) -> bool:
    """Whether what `read` gives stays `seen` for WATCH_SECONDS by a clock that nobody sets."""
    deadline = time.monotonic() + WATCH_SECONDS
    while time.monotonic() < deadline:
        time.sleep(min(1.0, WATCH_SECONDS / 5))
        if read() != seen:
            return False
    return True


def take(session: Session, run_id: str) -> str:
    """Claim `run_id` for this process; returns the token."""
    token = uuid.uuid4().hex
    session.merge(RunClaim(run_id=run_id, token=token, owner=this_process()))
    return token


def check(session: Session, run_id: str, token: str | None) -> None:
    """Raise ClaimLost if this process claimed `run_id` by `token` and another has it now; None was never claimed."""
    if token is None:
        return
    found = session.get(RunClaim, run_id)
    if found is None or found.token != token:
        by = f" by {found.owner.partition(' ')[2]}" if found else ""
        raise ClaimLost(f"run {run_id} was taken over{by}; this process stops and writes nothing more to it")


def release(session: Session, run_id: str) -> None:
    """Give the claim on `run_id` back."""
    session.execute(delete(RunClaim).where(RunClaim.run_id == run_id))


def owners(session: Session | Connection, run_ids: list[str]) -> dict[str, str]:
    """The processes that hold claims, by run."""
    rows = session.execute(select(RunClaim.run_id, RunClaim.owner).where(RunClaim.run_id.in_(run_ids)))
    return {row.run_id: row.owner for row in rows}


def place_of(owner: str) -> tuple[str, int | None]:
    """Host name and process number of what `this_process` gave."""
    process, _, host = owner.partition(" ")
    number = process.split("/")[2:3]
    return host, int(number[0]) if number and number[0].isdigit() else None
