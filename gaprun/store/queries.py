"""The questions asked of the database: which runs, which metrics of one run, one metric over every run."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, String, Text, and_, case, cast, func, select
from sqlalchemy.orm import Session, defer

from gaprun.errors import UserError
from gaprun.store.models import Evaluation, Metric, Run, Trajectory
from gaprun.store.where import NULLS, Condition, dotted_keys, lookup

# What a condition may name besides dotted keys of the resolved recipe, and what a metric row holds.
RUN_KEYS = {
    name: getattr(Run, name)
    for name in (
        "id",
        "recipe",
        "kind",
        "seed",
        "recipe_hash",
        "status",
        "host",
        "code_version",
        "checkpoint_hash",
    )
}
METRIC_KEYS = {
    "metric": Metric.name,
    **{name: getattr(Metric, name) for name in ("dataset", "split", "protocol", "n", "d")},
    **{
        name: getattr(Evaluation, name)
        for name in ("step", "task", "data_fingerprint", "options_hash", "definition")
    },
}


def runs(session: Session, conditions: Sequence[Condition], light: bool = False) -> list[Run]:
    """Runs that satisfy every condition, newest first; `light` leaves the large documents unread."""
    query = select(Run).order_by(Run.created.desc(), Run.id)
    if light:
        large = (Run.resolved_recipe, Run.environment, Run.notes)
        query = query.options(*(defer(column, raiseload=True) for column in large))
    own, dotted = _split(conditions, RUN_KEYS)
    found = list(session.scalars(query.where(*_prefilter(own, RUN_KEYS))))
    values = recipe_values(session, [c.key for c in dotted], RUN_KEYS)

    def holds(run: Run) -> bool:
        return all(c.holds(getattr(run, c.key)) for c in own) and all(
            c.holds(values[c.key].get(run.id)) for c in dotted
        )

    return [run for run in found if holds(run)]


def metric_rows(
    session: Session,
    names: Iterable[str],
    conditions: Sequence[Condition],
    keys: Sequence[str] = (),
    run_ids: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """One row per run, metric, data set, split and protocol: the latest step's value, newest definition.

    A row holds `value`, RUN_KEYS, `started`, METRIC_KEYS, and each of `keys` (dotted keys of the resolved
    recipe). Conditions may name any of these but the first. `run_ids`: only of these (up to 500) runs.
    """
    known = RUN_KEYS | METRIC_KEYS
    own, dotted = _split(conditions, known)
    columns = [*(column.label(name) for name, column in known.items()), Run.started, Metric.value]
    values = recipe_values(session, [c.key for c in dotted] + list(keys), known)
    wanted = [] if run_ids is None else [Metric.run_id.in_(run_ids)]
    query = _latest(columns, and_(Metric.name.in_(sorted(set(names))), *wanted, *_prefilter(own, known)))
    result = session.execute(query)
    names_of_columns = list(result.keys())
    rows = []
    for record in result:
        row: dict[str, Any] = dict(zip(names_of_columns, record, strict=True))
        run_id = row["id"]
        if all(c.holds(row[c.key]) for c in own) and all(c.holds(values[c.key].get(run_id)) for c in dotted):
            row.update((key, values[key].get(run_id)) for key in keys)
            rows.append(row)
    return rows


def metrics_of(session: Session, run_id: str) -> list[dict[str, Any]]:
    """The latest metrics of one run, with what each was measured on and by which code, in a fixed order."""
    columns = [
        *(column.label(name) for name, column in METRIC_KEYS.items()),
        Metric.value,
        Evaluation.checkpoint_hash,
        Evaluation.code_version,
    ]
    rows = [dict(row) for row in session.execute(_latest(columns, Metric.run_id == run_id)).mappings()]
    return sorted(rows, key=lambda row: (row["dataset"], row["split"], row["protocol"], row["metric"]))


def metrics_by_evaluation(session: Session, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The metrics of these evaluations, in the order of `ids` and then by name; rows as `metrics_of` gives them."""
    columns = [
        *(column.label(name) for name, column in METRIC_KEYS.items()),
        Metric.value,
        Evaluation.checkpoint_hash,
        Evaluation.code_version,
        Evaluation.device,
        Evaluation.id.label("evaluation"),
    ]
    query = select(*columns).select_from(Metric).join(Evaluation, Metric.evaluation_id == Evaluation.id)
    rows = [dict(row) for row in session.execute(query.where(Evaluation.id.in_(ids))).mappings()]
    place = {number: index for index, number in enumerate(ids)}
    rows.sort(key=lambda row: (place[row["evaluation"]], row["metric"]))
    return [{name: value for name, value in row.items() if name != "evaluation"} for row in rows]


def metric_names(session: Session) -> list[str]:
    """Every metric's name in the database, by one seek in the index a name."""
    names: list[str] = []
    name = session.scalar(select(func.min(Metric.name)))
    while name is not None:
        names.append(name)
        name = session.scalar(select(func.min(Metric.name)).where(Metric.name > name))
    return names


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
    askable = [key for key in keys if '"' not in key]
    columns = [_recipe_value(session, key) for key in askable]
    for run_id, *texts in session.execute(select(Run.id, *columns)):
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
    """The evaluations of these runs that kept per-query results: their key and `details`, the file's place."""
    names = (
        "run_id",
        "step",
        "data_fingerprint",
        "protocol",
        "options_hash",
        "definition",
        "task",
        "details",
    )
    found: list[dict[str, Any]] = []
    for part in _parts(run_ids):
        query = select(*(getattr(Evaluation, name) for name in names)).where(
            Evaluation.run_id.in_(part), Evaluation.details.is_not(None)
        )
        found += [dict(row) for row in session.execute(query).mappings()]
    return found


def trajectories(session: Session, run_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What these runs recorded while training, by run and step (without learning rates and cosines)."""
    names = ("step", "temperature", "loss", "gap")
    found: dict[str, list[dict[str, Any]]] = {run_id: [] for run_id in run_ids}
    for part in _parts(run_ids):
        columns = [getattr(Trajectory, name) for name in ("run_id", *names)]
        query = (
            select(*columns).where(Trajectory.run_id.in_(part)).order_by(Trajectory.run_id, Trajectory.step)
        )
        for run_id, *values in session.execute(query):
            found[run_id].append(dict(zip(names, values, strict=True)))
    return found


def _parts(run_ids: Sequence[str], size: int = 500) -> list[Sequence[str]]:
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
    path = "$" + "".join(f"[{part}]" if part.isdigit() else f'."{part}"' for part in parts)
    # SQLite has no booleans: extracted, true and 1 are the same.
    kind = func.json_type(Run.resolved_recipe, path)
    whole = func.json_quote(func.json_extract(Run.resolved_recipe, path))
    return case((kind.in_(("true", "false")), kind), else_=whole)


def _check_key(session: Session, key: str, others: Iterable[str]) -> None:
    samples = session.execute(select(func.min(Run.id)).group_by(Run.recipe)).scalars().all()
    documents = session.scalars(select(Run.resolved_recipe).where(Run.id.in_(samples))).all()
    if not documents or any(lookup(document, key) is not None for document in documents):
        return
    known = {name for document in documents for name in dotted_keys(document)}
    if key in known:
        return
    close = nearest(key, known | set(others)) or nearest(key.rpartition(".")[2], known)
    hint = (
        f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(sorted(known)[:12])}, ..."
    )
    raise UserError(f"no run has the key {key!r}: {hint} (not of the recipe: {', '.join(others)})")


def _latest(columns: Sequence[Any], condition: ColumnElement[bool]) -> Select[Any]:
    recency = (
        func.row_number()
        .over(
            partition_by=(Metric.run_id, Metric.name, Metric.dataset, Metric.split, Metric.protocol),
            order_by=(Evaluation.step.desc(), Evaluation.definition.desc(), Evaluation.id.desc()),
        )
        .label("recency")
    )
    inner = (
        select(*columns, recency)
        .select_from(Metric)
        .join(Evaluation, Metric.evaluation_id == Evaluation.id)
        .join(Run, Metric.run_id == Run.id)
        .where(condition)
        .subquery()
    )
    return select(*(c for c in inner.c if c.name != "recency")).where(inner.c.recency == 1)


def _split(conditions: Sequence[Condition], own: Iterable[str]) -> tuple[list[Condition], list[Condition]]:
    return [c for c in conditions if c.key in own], [c for c in conditions if c.key not in own]


def _prefilter(conditions: Sequence[Condition], known: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """What SQL can decide by itself: plain text that must be equal. `Condition.holds` decides all."""
    clauses = []
    for condition in conditions:
        column = known[condition.key]
        special = any("*" in value or "?" in value or value.lower() in NULLS for value in condition.values)
        if isinstance(column.type, String) and not special and not condition.negated:
            clauses.append(column.in_(condition.values))
    return clauses
