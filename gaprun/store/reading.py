"""What is read from a store: runs as they stand, evaluations, metrics and trajectories."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from gaprun.errors import UserError
from gaprun.store import claims, following, hints, queries
from gaprun.store.clock import now_at
from gaprun.store.columns import ValueColumns
from gaprun.store.connection import OpenDatabase
from gaprun.store.models import Evaluation, Run, Trajectory
from gaprun.store.order import by_code
from gaprun.store.standing import as_it_stands, lost_running
from gaprun.store.values import EvaluationKey
from gaprun.store.where import parse_conditions

Ids = Sequence[str] | None

TRAJECTORY_COLUMNS = tuple(column.name for column in Trajectory.__table__.columns if column.name != "run_id")


class Reading(OpenDatabase):
    """The questions that a store answers."""

    def run(self, name: str) -> Run:
        """The run whose id is or, alone, begins with `name`. Raises UserError for none or several."""

        def work(session: Session) -> Run:
            if (exact := session.get(Run, name)) is not None:
                return as_it_stands(session, exact)
            ids = list(session.scalars(select(Run.id).order_by(by_code(Run.id))))
            found = [run_id for run_id in ids if run_id.startswith(name)] if name else []
            if len(found) == 1:
                return as_it_stands(session, session.get_one(Run, found[0]))
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

        return self._read(work)

    def runs(self, where: Iterable[str] = (), light: bool = False) -> list[Run]:
        """Runs for which every condition `key=value` holds, newest first.

        One that says running or queued though nothing runs or waits is given as interrupted, for the conditions too.
        `light` leaves resolved_recipe, environment and notes unread (they then raise when touched).
        """
        conditions = parse_conditions(where)
        return self._read(lambda session: queries.runs(session, conditions, light))

    def unfinished(self, where: Iterable[str], wanted: Callable[[Run], bool]) -> list[Run]:
        """The `wanted` runs for which every condition holds and that are not finished; see `queries.unfinished`."""
        conditions = parse_conditions(where)
        return self._read(lambda session: queries.unfinished(session, conditions, wanted))

    def unmet(self, where: Iterable[str]) -> str:
        """Which condition no stored value meets, and the nearest that one does; "" where each has one."""
        conditions = parse_conditions(where)
        return self._read(lambda session: hints.unmet(session, conditions))

    def idle(self, where: Iterable[str]) -> list[str]:
        """Which values in `where` decide nothing because nothing stored has them; see `hints.idle`."""
        asked = [c for c in parse_conditions(where) if c.negated or len(c.values) > 1]
        return self._read(lambda session: hints.idle(session, asked)) if asked else []

    def is_owned(self, run_id: str) -> bool:
        """Whether a process that is or may be alive holds the claim on `run_id`."""

        def work(session: Session) -> bool:
            owner, run = claims.owners(session, [run_id]).get(run_id), session.get(Run, run_id)
            if owner is None or run is None:
                return False
            return lost_running(run, owner, now_at(session)) is None

        return self._read(work)

    def find_evaluation(self, run_id: str, key: EvaluationKey, unrecorded: bool = False) -> Evaluation | None:
        """The stored evaluation of `run_id` that asked the same question of the same model, if there is one.

        `unrecorded`: one that does not say which model it measured counts too, after one that does.
        """
        found = self._read(lambda session: session.scalar(by_key(run_id, key)))
        if found is None and unrecorded and key.model_hash:
            return self.find_evaluation(run_id, replace(key, model_hash=""))
        return found

    def has_evaluation(self, run_id: str, key: EvaluationKey) -> bool:
        """Whether the question of `key` was asked of this checkpoint of `run_id`, on whatever device."""
        query = by_key(run_id, key, every_model=True).limit(1)
        return self._read(lambda session: session.scalar(query)) is not None

    def metrics_by_evaluation(self, ids: Sequence[int]) -> list[dict[str, Any]]:
        """The metrics of these evaluations and no others; rows as `metrics` gives them, with `device`."""
        return self._read(lambda session: queries.metrics_by_evaluation(session, ids))

    def metric_columns(
        self,
        names: Iterable[str] | None,
        where: Iterable[str] = (),
        keys: Sequence[str] = (),
        run_ids: Ids = None,
        every_step: bool = False,
        only: Collection[str] | None = None,
    ) -> ValueColumns:
        """The latest value of each metric in `names` of each run (and step); see `queries.metric_columns`."""
        conditions = parse_conditions(where)
        return self._read(
            lambda session: queries.metric_columns(
                session, names, conditions, keys, run_ids, every_step, only
            )
        )

    def metric_rows(
        self,
        names: Iterable[str] | None,
        where: Iterable[str] = (),
        run_ids: Ids = None,
        every_step: bool = False,
    ) -> list[dict[str, Any]]:
        """`metric_columns` with a dictionary a row, for what concerns few runs."""
        return self.metric_columns(names, where, run_ids=run_ids, every_step=every_step).rows()

    def resolved_recipes(self, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The resolved recipes of these runs, by id."""
        return self._read(lambda session: queries.resolved_recipes(session, run_ids))

    def details(self, run_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Where per-query results of these runs are kept; see `queries.details`."""
        return self._read(lambda session: queries.details(session, run_ids))

    def trajectories(self, run_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
        """Step, temperature, loss, gap and share of mismatched pairs along these runs, by run."""
        return self._read(lambda session: queries.trajectories(session, run_ids))

    def steps_per_epoch(self, run_ids: Sequence[str]) -> dict[str, float]:
        """Steps in an epoch, by run; see `queries.steps_per_epoch`."""
        return self._read(lambda session: queries.steps_per_epoch(session, run_ids))

    def runs_now(
        self, latest: int, lost: Mapping[str, str]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        """The runs that go on, and those that finished and that stopped last; see `following.runs_now`."""
        return self._read(lambda session: following.runs_now(session, latest, lost))

    def lost_waiting(self) -> dict[str, str]:
        """Queued runs that wait for nothing, with the reason; asks the cluster."""
        return self._read(following.lost_waiting)

    def last_measured(self, run_ids: Sequence[str]) -> dict[str, datetime]:
        """When each of these (up to 500) runs was measured last, if it was."""
        return self._read(lambda session: following.last_measured(session, run_ids))

    def curves_after(self, run_id: str, step: int) -> dict[str, list[Any]]:
        """What `run_id` recorded after `step`, by column; see `following.curves_after`."""
        return self._read(lambda session: following.curves_after(session, run_id, step))

    def coarse_devices(self) -> list[str]:
        """The devices of evaluations by a coarser arithmetic that `eval --precision` asked for, sorted."""
        return self._read(queries.coarse_devices)

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


def by_key(run_id: str, key: EvaluationKey, every_model: bool = False) -> Any:
    """The query for the evaluations of `run_id` that asked the question of `key`; `every_model`: of whatever model."""
    names = ["checkpoint_hash", "task", "data_fingerprint", "protocol", "options_hash", "definition"]
    names += [] if every_model else ["model_hash"]
    asked = key.columns()
    return select(Evaluation).where(
        Evaluation.run_id == run_id, *(getattr(Evaluation, name) == asked[name] for name in names)
    )
