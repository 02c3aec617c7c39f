"""The questions asked of the database: which runs, which metrics of one run, one metric over every run."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, String, Text, cast, func, select
from sqlalchemy.orm import Session, defer

from gaprun.errors import UserError
from gaprun.store.columns import ValueColumns
from gaprun.store.models import Evaluation, Run, StoredMetric, Trajectory
from gaprun.store.order import by_code
from gaprun.store.selecting import (
    COARSE,
    METRIC_KEYS,
    ORIGIN,
    RECENCY,
    RUN_KEYS,
    TAG,
    choosing_among,
    in_sql,
    latest,
    newest_of,
    prefilter,
    row_holds,
    rows_hold,
    split_by_key,
)
from gaprun.store.standing import GOING, LOST, lost_runs, stand
from gaprun.store.where import Condition, dotted_keys, is_path, is_place, lookup

PART = 500  # ids in one statement
LIGHT = tuple(defer(column, raiseload=True) for column in (Run.resolved_recipe, Run.environment, Run.notes))
# What a selection needs of every row, whatever is asked for.
NEEDED = frozenset(("id", "metric", "dataset", "split", "protocol", "task", *RECENCY))
# What few combinations of entries repeat in many rows: read as one JSON list.
REPEATED = RUN_KEYS.keys() | METRIC_KEYS.keys() | {"trained_on", "measured_by", "plain"}
REPEATED -= {"id", "seed", "checkpoint_hash", "model_hash", "note"}


def runs(session: Session, conditions: Sequence[Condition], light: bool = False) -> list[Run]:
    """Runs that satisfy every condition, newest first; `light` leaves the large documents unread."""
    query = select(Run).order_by(Run.created.desc(), by_code(Run.id))
    query = query.options(*LIGHT) if light else query
    own, dotted = split_by_key(conditions, RUN_KEYS)
    lost = lost_runs(session)
    found = list(session.scalars(query.where(*prefilter(in_sql(own, lost), RUN_KEYS))))
    for run in found:
        stand(run, lost)
    return _that_hold(session, found, own, dotted)


def unfinished(session: Session, conditions: Sequence[Condition], wanted: Callable[[Run], bool]) -> list[Run]:
    """The `wanted` of the runs that are not finished and satisfy every condition, newest first and light.

    Whether one that says that it goes on is lost is asked of these alone: that may be a question to a cluster.
    """
    query = select(Run).where(Run.status != "finished").order_by(Run.created.desc(), by_code(Run.id))
    found = [run for run in session.scalars(query.options(*LIGHT)) if wanted(run)]
    if going := [run.id for run in found if run.status in GOING]:
        lost = lost_runs(session, going if len(going) <= PART else None)
        for run in found:
            stand(run, lost)
    return _that_hold(session, found, *split_by_key(conditions, RUN_KEYS)) if found else []


def _that_hold(
    session: Session, found: Sequence[Run], own: Sequence[Condition], dotted: Sequence[Condition]
) -> list[Run]:
    """Those of `found` that satisfy conditions on their own columns and on dotted keys of their recipes."""
    values = recipe_values(session, [c.key for c in dotted], RUN_KEYS)

    def holds(run: Run) -> bool:
        return all(row_holds(c, {c.key: _of_run(run, c.key)}) for c in own) and all(
            c.holds(values[c.key].get(run.id)) for c in dotted
        )

    return [run for run in found if holds(run)]


def _of_run(run: Run, key: str) -> Any:
    return run.tags if key == TAG else getattr(run, key)


def metric_columns(
    session: Session,
    names: Iterable[str] | None,
    conditions: Sequence[Condition] = (),
    keys: Sequence[str] = (),
    run_ids: Sequence[str] | None = None,
    every_step: bool = False,
    only: Collection[str] | None = None,
) -> ValueColumns:
    """The one selection of stored values that every command shows: a row a run, metric, data set, split and protocol.

    Columns are `value`, RUN_KEYS, METRIC_KEYS, ORIGIN (the evaluation's id as `evaluation`, when it was made), each of
    `keys` (dotted keys of the resolved recipe), and `trained_on` (JSON text: fingerprints of the training data, if
    recorded); of these `only` those asked for, and what conditions need, as each costs time. Rows stand by run and
    place, wherever the database lies. Conditions may name RUN_KEYS, METRIC_KEYS and dotted keys; those on evaluations
    hold before the latest is looked for (`newer`), so that they choose among a run's evaluations. `dataset=a/x` means
    the split x of a. `names`: only these metrics; `run_ids`: only these (up to 500) runs; `every_step`: the latest of
    each step of training, not of the furthest alone.
    """
    known = RUN_KEYS | METRIC_KEYS
    own, dotted = split_by_key(conditions, known)
    values = recipe_values(session, [c.key for c in dotted] + list(keys), known)
    wanted = [] if run_ids is None else [StoredMetric.run_id.in_(run_ids)]
    if names is not None:
        wanted.append(StoredMetric.name.in_(sorted(set(names))))
    lost = lost_runs(session)
    sql = in_sql(own, lost)
    offered = known | ORIGIN | {"value": StoredMetric.value, "trained_on": _trained_on(session)}
    needed = NEEDED.union(offered if only is None else only, (c.key for c in own))
    asked = {name: column for name, column in offered.items() if name in needed}
    repeated = [name for name in asked if name in REPEATED]
    alone = [name for name in asked if name not in REPEATED]
    read = [
        *(asked[name].label(name) for name in alone),
        _as_json(session, [asked[name] for name in repeated]),
    ]
    query = latest(read, [*wanted, *prefilter(sql, known)], choosing_among(session, own), every_step)
    result = session.connection().execute(query)  # plain rows: the session would make 100,000 twice as slow
    found = ValueColumns.of(alone, result.fetchall(), repeated)
    if lost and "status" in asked:
        pairs = zip(found["id"], found["status"], strict=True)
        found["status"] = (LOST if run_id in lost else status for run_id, status in pairs)
    if "trained_on" in asked:
        found.set_each("trained_on", _canonical(found.each("trained_on")))
    for key in keys:
        found[key] = map(values[key].get, found["id"])
    undecided = [
        c
        for c in own
        if c not in sql or c.key == TAG or not (c.plain and isinstance(known[c.key].type, String))
    ]
    for condition in undecided:
        found = found.kept(rows_hold(condition, found))
    for condition in dotted:
        found = found.kept([condition.holds(values[condition.key].get(run_id)) for run_id in found["id"]])
    return _in_order(_one_task_each(found, every_step))


def metrics_of(session: Session, run_id: str) -> list[dict[str, Any]]:
    """The latest metrics of one run, with what each was measured on and by which code, in a fixed order."""
    rows = metric_columns(session, None, run_ids=[run_id]).rows()
    rows.sort(key=lambda row: (row["dataset"], row["split"], row["protocol"], row["metric"]))
    return [_of_evaluation(row) for row in rows]


def _of_evaluation(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without its run: the checkpoint and the code are those of the evaluation."""
    origin = {"checkpoint_hash": row["measured_checkpoint"], "code_version": row["measured_by"]}
    return {name: row[name] for name in (*METRIC_KEYS, "value")} | origin


def metrics_by_evaluation(session: Session, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The metrics of these evaluations and no others, in `metrics_of`'s order; rows as `metrics_of` gives them."""
    offered = METRIC_KEYS | ORIGIN | {"value": StoredMetric.value}
    query = (
        select(*(column.label(name) for name, column in offered.items()))
        .select_from(StoredMetric)
        .join(Evaluation, StoredMetric.evaluation_id == Evaluation.id)
    )
    rows = [dict(row) for row in session.execute(query.where(Evaluation.id.in_(ids))).mappings()]
    rows.sort(key=lambda row: (row["dataset"], row["split"], row["protocol"], row["metric"]))
    return [_of_evaluation(row) for row in rows]


def coarse_devices(session: Session) -> list[str]:
    """The devices of evaluations by a coarser arithmetic than the recipe's own, sorted."""
    return sorted(
        session.scalars(select(Evaluation.device).where(Evaluation.device.contains(COARSE)).distinct())
    )


def metric_names(session: Session) -> list[str]:
    """Every metric's name in the database, sorted; by one seek in the index a name."""
    names: list[str] = []
    name = session.scalar(select(func.min(StoredMetric.name)))
    while name is not None:
        names.append(name)
        name = session.scalar(select(func.min(StoredMetric.name)).where(StoredMetric.name > name))
    return sorted(names)  # a server's index has them in the order of its locale


def recipe_values(
    session: Session, keys: Sequence[str], others: Iterable[str] = ()
) -> dict[str, dict[str, Any]]:
    """For each dotted key of the resolved recipe, its value by run id (runs without it are left out).

    Raises UserError, with the nearest names, for a key that no run's recipe has; `others` could have been meant.
    """
    keys = list(dict.fromkeys(keys))
    if not keys:
        return {}
    found: dict[str, dict[str, Any]] = {key: {} for key in keys}
    askable = [key for key in keys if is_path(key)]
    columns = [_recipe_value(session, key) for key in askable]
    for run_id, *texts in session.execute(select(Run.id, *columns)) if askable else ():
        for key, text in zip(askable, texts, strict=True):
            if text is not None and (value := json.loads(text)) is not None:
                found[key][run_id] = value
    for key in keys:
        if not found[key]:
            _check_key(session, key, others)
    return found


def resolved_recipes(session: Session, run_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The resolved recipes of these runs, by id."""
    found: dict[str, dict[str, Any]] = {}
    for part in _parts(run_ids):
        query = select(Run.id, Run.resolved_recipe).where(Run.id.in_(part))
        found.update({run_id: recipe for run_id, recipe in session.execute(query)})
    return found


def details(session: Session, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """The evaluations of these runs that kept per-query results: their id and `details`, the file's place."""
    found: list[dict[str, Any]] = []
    for part in _parts(run_ids):
        query = select(Evaluation.id.label("evaluation"), Evaluation.details)
        query = query.where(Evaluation.run_id.in_(part), Evaluation.details.is_not(None))
        found += [dict(row) for row in session.execute(query).mappings()]
    return found


def trajectories(session: Session, run_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What these runs recorded while training, by run and step (without learning rates and cosines)."""
    names = ("step", "temperature", "loss", "gap", "mismatched_share")
    found: dict[str, list[dict[str, Any]]] = {run_id: [] for run_id in run_ids}
    for part in _parts(run_ids):
        columns = [getattr(Trajectory, name) for name in ("run_id", *names)]
        query = (
            select(*columns).where(Trajectory.run_id.in_(part)).order_by(Trajectory.run_id, Trajectory.step)
        )
        for run_id, *values in session.execute(query):
            found[run_id].append(dict(zip(names, values, strict=True)))
    return found


def steps_per_epoch(session: Session, run_ids: Sequence[str]) -> dict[str, float]:
    """Steps in an epoch of these runs, by what they recorded last; runs that recorded no epochs are left out."""
    found: dict[str, float] = {}
    for part in _parts(run_ids):
        last = select(Trajectory.run_id, func.max(Trajectory.step).label("step")).where(
            Trajectory.run_id.in_(part), Trajectory.epoch > 0
        )
        newest = last.group_by(Trajectory.run_id).subquery()
        query = select(Trajectory.run_id, Trajectory.step / Trajectory.epoch).join(
            newest, (newest.c.run_id == Trajectory.run_id) & (newest.c.step == Trajectory.step)
        )
        found |= {run_id: float(length) for run_id, length in session.execute(query)}
    return found


def _parts(run_ids: Sequence[str], size: int = PART) -> list[Sequence[str]]:
    """Databases limit the parameters of a statement."""
    return [run_ids[start : start + size] for start in range(0, len(run_ids), size)]


def nearest(word: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most like `word`, best first; a name that contains it counts as like it."""
    names = sorted(set(names))
    close = difflib.get_close_matches(word, names, n=count, cutoff=0.6)
    return list(dict.fromkeys(close + [name for name in names if word.lower() in name.lower()]))[:count]


def _recipe_value(session: Session, key: str) -> ColumnElement[Any]:
    """The JSON text at a dotted key of the resolved recipe; a number in the key is a place in a list."""
    parts = key.split(".")
    if session.get_bind().dialect.name == "postgresql":
        return cast(func.json_extract_path(Run.resolved_recipe, *parts), Text)
    path = "$" + "".join(f"[{part}]" if is_place(part) else f'."{part}"' for part in parts)
    # Alone, a value comes as SQLite's: true as 1, 0.30000000000000004 as 0.3. Of several paths come their JSON texts.
    both = func.json_extract(Run.resolved_recipe, path, path)
    return func.substr(both, 2, func.length(both) // 2 - 1)


def _check_key(session: Session, key: str, others: Iterable[str]) -> None:
    samples = session.execute(select(func.min(Run.id)).group_by(Run.recipe)).scalars().all()
    documents = session.scalars(select(Run.resolved_recipe).where(Run.id.in_(samples))).all()
    if not documents or any(lookup(document, key) is not None for document in documents):
        return
    known = {name for document in documents for name in dotted_keys(document)}
    if key in known:
        return
    if key in METRIC_KEYS and key not in others:
        raise UserError(
            f"--where {key}=...: {key} belongs to a measured value and not to a run: use it in `gaprun compare`"
        )
    close = nearest(key, known | set(others)) or nearest(key.rpartition(".")[2], known)
    hint = (
        f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(sorted(known)[:12])}, ..."
    )
    raise UserError(f"no run has the key {key!r}: {hint} (not of the recipe: {', '.join(others)})")


def _one_task_each(columns: ValueColumns, every_step: bool) -> ValueColumns:
    """One value a run, metric, place, protocol (and step), the latest where two tasks measure the same."""
    if len(columns.distinct("metric", "task")) == len(columns.distinct("metric")):
        return columns
    step = ["step"] if every_step else []
    codes, _ = columns.kinds("id", "metric", "dataset", "split", "protocol", *step)
    return columns.taken(newest_of(columns, codes))


def _in_order(columns: ValueColumns) -> ValueColumns:
    """The rows by run and place: a database gives them in any order, and sums and draws depend on it."""
    codes, places = columns.kinds("dataset", "split", "protocol", "metric", "task", "step")
    rank = {code: place for place, code in enumerate(sorted(range(len(places)), key=places.__getitem__))}
    order = sorted(range(len(codes)), key=list(map(rank.__getitem__, codes)).__getitem__)
    order.sort(key=columns["id"].__getitem__)  # keeps the places' order within a run
    return columns.taken(order)


def _canonical(documents: Iterable[str | None]) -> Iterable[str | None]:
    """The same JSON in one spelling: databases differ in blanks and in the order of keys."""
    documents = list(documents)
    spelt = {
        one: None if one is None else json.dumps(json.loads(one), sort_keys=True) for one in set(documents)
    }
    return map(spelt.__getitem__, documents)


def _trained_on(session: Session) -> ColumnElement[Any]:
    """The JSON text of the fingerprints of what a run was trained on; None where it was not recorded."""
    if session.get_bind().dialect.name == "postgresql":
        return cast(func.json_extract_path(Run.environment, "data"), Text)
    return func.json_extract(Run.environment, "$.data").concat("")  # a text also inside of a JSON list


def _as_json(session: Session, columns: Sequence[Any]) -> ColumnElement[Any]:
    """The JSON text of a list of these columns."""
    if session.get_bind().dialect.name == "postgresql":
        return cast(func.json_build_array(*columns), Text)
    return func.json_array(*columns)
