"""The store: every number of every run, written as it comes; reading is in `store.reading`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any

from sqlalchemy import Table, delete, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Session

from gaprun.errors import Failure
from gaprun.files import plain_name
from gaprun.store import claims
from gaprun.store.clock import now_at
from gaprun.store.connection import close_at_end
from gaprun.store.engine import make_engine
from gaprun.store.liveness import this_host
from gaprun.store.models import STATUSES, Evaluation, Run, StoredMetric, Trajectory
from gaprun.store.place import Place, check_file, locate, make_file
from gaprun.store.reading import TRAJECTORY_COLUMNS, Reading, by_key
from gaprun.store.rights import check_rights
from gaprun.store.schema import ensure_schema
from gaprun.store.texts import check_texts
from gaprun.store.values import EvaluationKey, NewRun


def open_store(url: str | None = None, create: bool = True, write: bool = True) -> Store:
    """The store at `url` (a SQLite file or URL, or a PostgreSQL URL; None: GAPRUN_DB, then `results.db`).

    Creates a missing file if `create`, and upgrades an older schema (leaving a backup beside a SQLite file). Without
    `write` its connections are such that the database itself refuses every change, and an older schema is refused.
    Raises UserError for what cannot be a store: a missing file, a folder, another program's database, a newer
    gaprun's.
    """
    return open_place(check_file(locate(url), create and write, write), create)


def open_place(place: Place, create: bool = True) -> Store:
    """The store at a place that was looked at (`check_file`); see `open_store`."""
    make_file(place)
    engine = make_engine(place)
    return close_at_end(Store(place, engine, ensure_schema(engine, place, create)))


class Store(Reading):
    """One database of runs: what a training and a measurement write, each write in one transaction."""

    def begin_run(self, run: NewRun) -> None:
        """Claim `run` for this process and record that it starts, or takes it up again (status running).

        A training that is finished stays so, with its dates and code: its claim is to measure it. What another
        process has taken over meanwhile raises ClaimLost at this one's next write. Raises UserError while another
        process is at it (one that cannot be looked up is watched for a while first), and where this user may not
        write all that a run has.
        """
        check_rights(self.engine, self.place.name)
        watched: claims.Beat | None = None
        while True:
            seen = self._write(partial(self._begin, run, watched))
            if isinstance(seen, str):
                self._claims[run.id] = seen
                return
            if claims.still_silent(partial(self._read, partial(_beat_now, run.id)), seen):
                watched = seen
            else:
                watched = claims.Beat(None, None, -1)  # it moved: nothing can equal this, so it is refused

    def _begin(self, run: NewRun, watched: claims.Beat | None, session: Session) -> claims.Beat | str:
        now = now_at(session)
        row = session.get(Run, run.id)
        if row is None:
            row = Run(id=run.id, created=now, step=0, status="queued", code_version=run.code_version)
            session.add(row)
        elif (seen := claims.refuse_if_owned(session, row, watched, self._claims.get(run.id))) is not None:
            return seen
        row.host, row.pid, row.heartbeat = this_host(), os.getpid(), now
        row.recipe, row.resolved_recipe = run.recipe, run.resolved_recipe
        if row.status != "finished" or run.kind != "train":
            for name in ("kind", "seed", "recipe_hash", "environment", "folder", "total_steps"):
                setattr(row, name, getattr(run, name))
            if row.step == 0 or run.kind != "train":
                row.code_version = run.code_version
            row.status, row.error, row.started, row.finished = "running", None, now, None
        session.flush()
        return claims.take(session, run.id)

    def check_may_store(self) -> None:
        """Raise UserError where this user may not write what is measured; who is at a run was asked when it began."""
        self.check_writable()
        if not self._claims:
            check_rights(self.engine, self.place.name)

    def beat(self, run_id: str) -> None:
        """Say that `run_id`, while this process claims it, is alive at the step that it was."""
        if run_id in self._claims:
            self._write(lambda session: self._check_and_beat(session, run_id, None))

    def heartbeat(self, run_id: str, step: int, pace: Mapping[str, Any] | None = None) -> None:
        """Say that `run_id` is alive at `step`, and how fast (`training.pace`); takes back that it was thought lost."""
        self._write(lambda session: self._check_and_beat(session, run_id, step, pace))

    def _check_and_beat(
        self, session: Session, run_id: str, step: int | None, pace: Mapping[str, Any] | None = None
    ) -> None:
        claims.check(session, run_id, self._claims.get(run_id))
        _beat(session, run_id, step)
        if pace is not None:
            notes = session.scalar(select(Run.notes).where(Run.id == run_id)) or {}
            session.execute(update(Run).where(Run.id == run_id).values(notes={**notes, "pace": dict(pace)}))

    def record(self, run_id: str, rows: Sequence[dict[str, Any]]) -> None:
        """Add trajectory rows (`step` and any of the trajectory's columns), replacing rows of the same step.

        Columns that a row does not name keep what they hold. NaN and infinity become NULL. Also a heartbeat.
        """
        if not rows:
            return
        by_step: dict[int, dict[str, Any]] = {}
        for row in rows:
            if "step" not in row or row.keys() - set(TRAJECTORY_COLUMNS):
                raise ValueError(
                    f"a trajectory row has step and any of {TRAJECTORY_COLUMNS}, got {sorted(row)}"
                )
            by_step.setdefault(row["step"], {}).update({name: _stored(value) for name, value in row.items()})
        alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in by_step.values():
            alike.setdefault(tuple(sorted(row)), []).append({"run_id": run_id, **row})

        def work(session: Session) -> None:
            claims.check(session, run_id, self._claims.get(run_id))
            _beat(session, run_id, max(by_step))
            for names, batch in alike.items():
                statement = self._insert(Trajectory.__table__)
                others = {name: statement.excluded[name] for name in names if name != "step"}
                keys = ["run_id", "step"]
                session.execute(
                    statement.on_conflict_do_update(index_elements=keys, set_=others)
                    if others
                    else statement.on_conflict_do_nothing(index_elements=keys),
                    batch,
                )

        self._write(work)

    def annotate(self, run_id: str, notes: dict[str, Any]) -> None:
        """Merge `notes` into the run's notes; its status and times stay."""

        def work(session: Session) -> None:
            run = session.get(Run, run_id)
            if run is None:
                raise _absent(run_id)
            claims.check(session, run_id, self._claims.get(run_id))
            run.notes = {**(run.notes or {}), **notes}

        self._write(work)

    def retag(self, run_id: str, tags: Sequence[str], remove: bool = False) -> list[str]:
        """Add `tags` to the run's (or take them away); returns all that it has then.

        Whoever is at the run: tags are a person's and not part of what is measured. Raises UserError for one that is no
        plain word.
        """
        for tag in tags:
            plain_name(tag, "tag")

        def work(session: Session) -> list[str]:
            run = session.get(Run, run_id)
            if run is None:
                raise _absent(run_id)
            kept = [tag for tag in run.tag if tag not in tags] if remove else [*run.tag, *tags]
            kept = list(dict.fromkeys(kept))
            run.tags = f" {' '.join(kept)} " if kept else ""
            return kept

        return self._write(work)

    def set_note(self, run_id: str, text: str) -> None:
        """Replace the run's note, whoever is at it."""
        check_texts(text, "the note")
        self._write(
            lambda session: _one(
                session.execute(update(Run).where(Run.id == run_id).values(note=text)), run_id
            )
        )

    def set_code(self, run_id: str, versions: Sequence[str]) -> None:
        """Record the versions of the code that trained `run_id`, in their order."""

        def work(session: Session) -> None:
            claims.check(session, run_id, self._claims.get(run_id))
            text = ", ".join(dict.fromkeys(versions))
            _one(session.execute(update(Run).where(Run.id == run_id).values(code_version=text)), run_id)

        self._write(work)

    def finish_run(
        self,
        run_id: str,
        status: str,
        error: str | None = None,
        checkpoint: str | None = None,
        checkpoint_hash: str | None = None,
        notes: dict[str, Any] | None = None,
    ) -> None:
        """Record how `run_id` ended: finished, failed (with its error) or interrupted; None keeps a value.

        Gives this process's claim back. A training that was finished before stays so, whatever came after.
        """
        if status not in STATUSES:
            raise ValueError(f"status {status!r} is none of {STATUSES}")
        given = {"checkpoint": checkpoint, "checkpoint_hash": checkpoint_hash, "notes": notes}
        values = {name: value for name, value in given.items() if value is not None}

        def work(session: Session) -> None:
            claims.check(session, run_id, self._claims.get(run_id))
            claims.release(session, run_id)
            row = session.get(Run, run_id)
            if row is None:
                raise _absent(run_id)
            row.heartbeat = now_at(session)
            if row.status == "finished" and row.kind == "train":
                return
            for name, value in values.items():
                setattr(row, name, value)
            row.status, row.error, row.finished = status, error, row.heartbeat

        self._write(work)
        self._claims.pop(run_id, None)

    def add_evaluation(
        self,
        run_id: str,
        key: EvaluationKey,
        metrics: dict[str, float],
        n: int | None,
        d: int | None,
        details: str | None = None,
        code_version: str | None = None,
    ) -> int:
        """Store one evaluation with all its metrics, or replace what the same key held; returns its id.

        n: number of items measured; d: embedding dimension; details: file with per-query results;
        code_version: of the code that measured, by default the run's own.
        """

        def work(session: Session) -> int:
            run = session.get(Run, run_id)
            if run is None:
                raise _absent(run_id)
            claims.check(session, run_id, self._claims.get(run_id))
            row = session.scalar(by_key(run_id, key))
            if row is None:
                row = Evaluation(run_id=run_id, **key.columns())
                session.add(row)
            row.step, row.dataset, row.split, row.details = key.step, key.dataset, key.split, details
            row.device = key.device
            row.code_version, row.created = code_version or run.code_version, now_at(session)
            session.flush()
            session.execute(delete(StoredMetric).where(StoredMetric.evaluation_id == row.id))
            labels = {"dataset": key.dataset, "split": key.split, "protocol": key.protocol.id, "n": n, "d": d}
            session.add_all(
                StoredMetric(evaluation_id=row.id, run_id=run_id, name=name, value=_stored(value), **labels)
                for name, value in metrics.items()
            )
            return row.id

        return self._write(work)

    def remove(self, run_id: str) -> None:
        """Remove `run_id` with its evaluations, metrics and trajectory from the database; its files stay."""
        self._write(lambda session: _one(session.execute(delete(Run).where(Run.id == run_id)), run_id))

    def _insert(self, table: Any) -> Any:
        assert isinstance(table, Table)
        if self.engine.dialect.name == "sqlite":
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql  # a tenth of the start of every command

        return postgresql.insert(table)


def _beat_now(run_id: str, session: Session) -> claims.Beat | None:
    row = session.get(Run, run_id)
    return None if row is None else claims.beat_of(session, row)


def _beat(session: Session, run_id: str, step: int | None) -> None:
    alive = Run.status.in_(("running", "interrupted"))
    now = now_at(session)
    values = {"heartbeat": now, "status": "running", "error": None} | ({} if step is None else {"step": step})
    if session.execute(update(Run).where(Run.id == run_id, alive).values(values)).rowcount == 0:  # type: ignore[attr-defined]
        row = session.get(Run, run_id)
        if row is None:
            raise _absent(run_id)
        row.heartbeat = now


def _one(result: Any, run_id: str) -> None:
    if result.rowcount != 1:
        raise _absent(run_id)


def _absent(run_id: str) -> Failure:
    return Failure(f"run {run_id} is not in the database: was it removed meanwhile?")


def _stored(value: Any) -> Any:
    """`value` as the database keeps it: plain Python numbers, None for NaN and infinity."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):  # also numpy's
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None
