"""The store: every number of every run, written as it comes, in one short transaction a write.

A write waits while the database is locked or its server away (about a minute), and is idempotent, so that a
killed or resumed process can repeat it. Objects that come back are detached: plain values, no connection
behind them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, Table, Update, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from gaprun.errors import Failure, UserError
from gaprun.files import plain_name
from gaprun.store import claims, queries, queued
from gaprun.store.engine import Place, check_file, locate, make_engine, retried
from gaprun.store.liveness import lost_because, this_host
from gaprun.store.models import STATUSES, DatabaseIdentity, Evaluation, Metric, Run, Trajectory
from gaprun.store.schema import ensure_schema
from gaprun.store.values import EvaluationKey, NewRun
from gaprun.store.where import parse_conditions

T = TypeVar("T")
Ids = Sequence[str] | None

TRAJECTORY_COLUMNS = tuple(column.name for column in Trajectory.__table__.columns if column.name != "run_id")


def open_store(url: str | None = None, create: bool = True) -> Store:
    """The store at `url` (a SQLite file or URL, or a PostgreSQL URL; None: GAPRUN_DB, then `results.db`).

    Creates a missing file if `create`, and upgrades an older schema (leaving a backup beside a SQLite file).
    Raises UserError for what cannot be a store: a missing file, a folder, another program's database, a newer
    gaprun's.
    """
    place = check_file(locate(url), create)
    engine = make_engine(place)
    backup = ensure_schema(engine, place, create)
    return Store(place, engine, backup)


def artifacts_of(place: Place) -> Path:
    """The folder for the files of the runs in the database at `place`."""
    if folder := os.environ.get("GAPRUN_RUNS"):
        return Path(folder).expanduser()
    return (place.path.absolute().parent if place.path else Path.cwd()) / "runs"


class DatabaseGone(Failure):
    """The file behind an open SQLite database is another one now, or none."""


class Store:
    """One database of runs; may be kept open for days, shared by threads, and used in forked workers."""

    def __init__(self, place: Place, engine: Engine, backup: Path | None = None) -> None:
        self.place = place
        self.engine = engine
        self.backup = backup
        self._pid = os.getpid()
        self._claims: dict[str, str] = {}
        self._path = None if place.path is None or place.read_only else place.path.absolute()
        self._file = _file_at(self._path)

    @property
    def url(self) -> str:
        """The database's URL without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    @property
    def artifacts(self) -> Path:
        """The folder for the runs' files: GAPRUN_RUNS, `runs` beside a SQLite file, `./runs` for a server."""
        return artifacts_of(self.place)

    def folder(self, run: Run) -> Path:
        """The folder of one run's files; it need not exist (results move without their files).

        What a database says is followed only within the artifacts folder. Raises UserError for an id that is no name.
        """
        return self.own_path(run.folder) or self.artifacts / plain_name(run.id, "run")

    def own_path(self, place: str) -> Path | None:
        """The file or folder that a database calls `place`, or None if it lies outside the artifacts folder."""
        try:
            found = self.artifacts.parent / place
            inside = self.artifacts.resolve() in found.resolve().parents
        except (OSError, ValueError, RuntimeError):  # a NUL, or links in a circle
            return None
        return found if place and inside else None

    def close(self) -> None:
        """Let go of the file (SQLite then puts its write-ahead log away); the store opens it again when used."""
        self.engine.dispose()

    @cached_property
    def identity(self) -> str:
        """What this database calls itself, wherever it lies: a random hexadecimal text."""
        return self._read(lambda session: session.scalars(select(DatabaseIdentity.id)).one())

    # Writing

    def begin_run(self, run: NewRun) -> None:
        """Claim `run` for this process and record that it starts, or takes it up again (status running).

        A training that is finished stays so, with its dates and code: its claim is to measure it. What another
        process has taken over meanwhile raises ClaimLost at this one's next write. Raises UserError while another
        process is at it; one that cannot be looked up is watched for a while first.
        """
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
        now = datetime.now(UTC)
        row = session.get(Run, run.id)
        if row is None:
            row = Run(id=run.id, created=now, step=0, status="queued", code_version=run.code_version)
            session.add(row)
        elif (seen := claims.refuse_if_owned(session, row, watched)) is not None:
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

    def beat(self, run_id: str) -> None:
        """Say that `run_id`, while this process claims it, is alive at the step that it was."""
        if run_id in self._claims:
            self._write(lambda session: self._check_and_beat(session, run_id, None))

    def heartbeat(self, run_id: str, step: int) -> None:
        """Say that `run_id` is alive at `step`; also takes back that it was thought lost."""

        self._write(lambda session: self._check_and_beat(session, run_id, step))

    def _check_and_beat(self, session: Session, run_id: str, step: int | None) -> None:
        claims.check(session, run_id, self._claims.get(run_id))
        _beat(session, run_id, step)

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
            row.heartbeat = datetime.now(UTC)
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
            row = session.scalar(_by_key(run_id, key))
            if row is None:
                row = Evaluation(run_id=run_id, options_hash=key.options_hash, **_columns(key))
                session.add(row)
            row.step, row.dataset, row.split, row.details = key.step, key.dataset, key.split, details
            row.device = key.device
            row.code_version, row.created = code_version or run.code_version, datetime.now(UTC)
            session.flush()
            session.execute(delete(Metric).where(Metric.evaluation_id == row.id))
            labels = {"dataset": key.dataset, "split": key.split, "protocol": key.protocol, "n": n, "d": d}
            session.add_all(
                Metric(evaluation_id=row.id, run_id=run_id, name=name, value=_stored(value), **labels)
                for name, value in metrics.items()
            )
            return row.id

        return self._write(work)

    def remove(self, run_id: str) -> None:
        """Remove `run_id` with its evaluations, metrics and trajectory from the database; its files stay."""
        self._write(lambda session: _one(session.execute(delete(Run).where(Run.id == run_id)), run_id))

    # Reading

    def run(self, name: str) -> Run:
        """The run whose id is or, alone, begins with `name`. Raises UserError for none or several."""

        def work(session: Session) -> Run:
            if (exact := session.get(Run, name)) is not None:
                return exact
            ids = list(session.scalars(select(Run.id).order_by(Run.id)))
            found = [run_id for run_id in ids if run_id.startswith(name)] if name else []
            if len(found) == 1:
                return session.get_one(Run, found[0])
            if found:
                raise UserError(
                    f"run {name!r} could be {', '.join(found[:5])}{', ...' if len(found) > 5 else ''}"
                )
            alike = queries.nearest(name, {run_id[: len(name)] for run_id in ids})
            close = (
                queries.nearest(name, ids) or [run_id for run_id in ids if run_id[: len(name)] in alike][:3]
            )
            hint = f"did you mean {' or '.join(close)}?" if close else "see `gaprun runs list`"
            raise UserError(f"no run {name!r} in {self.place.name}: {hint}")

        run = self._read(work)
        self._reconcile([run])
        return run

    def runs(self, where: Iterable[str] = (), light: bool = False) -> list[Run]:
        """Runs for which every condition `key=value` holds, newest first.

        A row that says running or queued though nothing runs or waits becomes interrupted. `light` leaves
        resolved_recipe, environment and notes unread (they then raise when touched).
        """
        conditions = parse_conditions(where)
        going = parse_conditions(["status=running", "status=queued"])
        self._reconcile(self._read(lambda session: queries.runs(session, going, light=True)))
        return self._read(lambda session: queries.runs(session, conditions, light))

    def is_owned(self, run_id: str) -> bool:
        """Whether a process that is or may be alive holds the claim on `run_id`."""
        owner = self._read(lambda session: claims.owners(session, [run_id])).get(run_id)
        run = self._read(lambda session: session.get(Run, run_id))
        return owner is not None and run is not None and _lost(run, owner) is None

    def find_evaluation(self, run_id: str, key: EvaluationKey, unrecorded: bool = False) -> Evaluation | None:
        """The stored evaluation of `run_id` that asked the same question of the same model, if there is one.

        `unrecorded`: one that does not say which model it measured counts too, after one that does.
        """
        found = self._read(lambda session: session.scalar(_by_key(run_id, key)))
        if found is None and unrecorded and key.model_hash:
            return self.find_evaluation(run_id, replace(key, model_hash=""))
        return found

    def has_evaluation(self, run_id: str, key: EvaluationKey) -> bool:
        """Whether the question of `key` was asked of this checkpoint of `run_id`, on whatever device."""
        query = _by_key(run_id, key, every_model=True).limit(1)
        return self._read(lambda session: session.scalar(query)) is not None

    def metrics_by_evaluation(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """The metrics of these evaluations and no others; rows as `metrics` gives them, with `device`."""
        return self._read(lambda session: queries.metrics_by_evaluation(session, ids))

    def metric_rows(
        self,
        names: Iterable[str] | None,
        where: Iterable[str] = (),
        keys: Sequence[str] = (),
        run_ids: Ids = None,
    ) -> list[dict[str, Any]]:
        """The latest value of each metric in `names` of each run; see `queries.metric_rows`."""
        conditions = parse_conditions(where)
        return self._read(lambda session: queries.metric_rows(session, names, conditions, keys, run_ids))

    def resolved_recipes(self, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The resolved recipes of these runs, by id."""
        return self._read(lambda session: queries.resolved_recipes(session, run_ids))

    def details(self, run_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Where per-query results of these runs are kept; see `queries.details`."""
        return self._read(lambda session: queries.details(session, run_ids))

    def trajectories(self, run_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Step, temperature, loss and gap along these runs, by run."""
        return self._read(lambda session: queries.trajectories(session, run_ids))

    def metric_names(self) -> list[str]:
        """Every metric's name in the database, sorted."""
        return self._read(queries.metric_names)

    def metrics(self, run_id: str) -> list[dict[str, Any]]:
        """The latest metrics of one run: `metric, dataset, split, protocol, value, n`, and their origin.

        Origin is `d`, `step`, `task`, `data_fingerprint`, `checkpoint_hash`, `code_version` and the like.
        """
        return self._read(lambda session: queries.metrics_of(session, run_id))

    def trajectory(self, run_id: str) -> list[dict[str, Any]]:
        """What training recorded, by step: dictionaries of `step, samples_seen, epoch, temperature, ...`."""
        columns = [Trajectory.__table__.c[name] for name in TRAJECTORY_COLUMNS]
        query = select(*columns).where(Trajectory.run_id == run_id).order_by(Trajectory.step)
        return self._read(lambda session: [dict(row) for row in session.execute(query).mappings()])

    # Inside

    def _reconcile(self, runs: Sequence[Run]) -> None:
        queued.reconcile(self, [run for run in runs if run.status == "queued"])
        running = [run.id for run in runs if run.status == "running"]
        owners = self._read(lambda session: claims.owners(session, running)) if running else {}
        for run in runs:
            if run.status != "running" or (reason := _lost(run, owners.get(run.id))) is None:
                continue
            seen = (Run.id == run.id, Run.status == "running", Run.pid == run.pid, Run.started == run.started)
            change = update(Run).where(*seen).values(status="interrupted", error=reason)
            run.status, run.error = "interrupted", reason
            if not self.place.read_only:
                self._write(partial(_execute, change))

    def _write(self, work: Callable[[Session], T]) -> T:
        if self.place.read_only:
            raise UserError(
                f"database {self.place.name} is read-only: copy it to a folder where you may write"
            )
        return self._transact(work, write=True)

    def _read(self, work: Callable[[Session], T]) -> T:
        return self._transact(work, write=False)

    def _transact(self, work: Callable[[Session], T], write: bool) -> T:
        if self._pid != os.getpid():
            # A connection must not be used, nor closed, on the other side of a fork; its pool is kept unused.
            self._inherited = self.engine.pool
            self.engine.dispose(close=False)
            self._pid = os.getpid()
        bind = self.engine.execution_options(gaprun_write=write)

        def attempt() -> T:
            with Session(bind, expire_on_commit=False) as session, session.begin():
                return work(session)

        if write:
            self._check_file()
        result = retried(attempt, self.place.name)
        if write:
            self._check_file()
        return result

    def _check_file(self) -> None:
        """Raise DatabaseGone if the SQLite file is not the one that was opened: SQLite itself would write on."""
        if _file_at(self._path) != self._file:
            raise DatabaseGone(f"database {self.place.name} was moved, deleted or replaced while it was open")

    def _insert(self, table: Any) -> Any:
        assert isinstance(table, Table)
        return (sqlite if self.engine.dialect.name == "sqlite" else postgresql).insert(table)


def _file_at(path: Path | None) -> tuple[int, int] | None:
    """Device and number of a file, whatever its name; None where there is none."""
    try:
        state = path.stat() if path else None
    except OSError:
        return None
    return (state.st_dev, state.st_ino) if state else None


def _execute(statement: Update, session: Session) -> None:
    session.execute(statement)


def _lost(run: Run, owner: str | None) -> str | None:
    if owner is not None and (run.host, run.pid) != claims.place_of(owner):
        owner = None  # the row was changed by a gaprun without claims
    return lost_because(run.host, run.pid, run.started, run.heartbeat, owner)


def _beat_now(run_id: str, session: Session) -> claims.Beat | None:
    row = session.get(Run, run_id)
    return None if row is None else claims.beat_of(session, row)


def _beat(session: Session, run_id: str, step: int | None) -> None:
    alive = Run.status.in_(("running", "interrupted"))
    values = {"heartbeat": datetime.now(UTC), "status": "running", "error": None}
    values |= {} if step is None else {"step": step}
    if session.execute(update(Run).where(Run.id == run_id, alive).values(values)).rowcount == 0:  # type: ignore[attr-defined]
        row = session.get(Run, run_id)
        if row is None:
            raise _absent(run_id)
        row.heartbeat = datetime.now(UTC)


def _one(result: Any, run_id: str) -> None:
    if result.rowcount != 1:
        raise _absent(run_id)


def _absent(run_id: str) -> Failure:
    return Failure(f"run {run_id} is not in the database: was it removed meanwhile?")


def _columns(key: EvaluationKey) -> dict[str, Any]:
    return {name: getattr(key, name) for name in key.__dataclass_fields__}


def _by_key(run_id: str, key: EvaluationKey, every_model: bool = False) -> Any:
    names = ["checkpoint_hash", "task", "data_fingerprint", "protocol", "options_hash", "definition"]
    names += [] if every_model else ["model_hash"]
    return select(Evaluation).where(
        Evaluation.run_id == run_id, *(getattr(Evaluation, name) == getattr(key, name) for name in names)
    )


def _stored(value: Any) -> Any:
    """`value` as the database keeps it: plain Python numbers, None for NaN and infinity."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):  # also numpy's
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None
