"""The questions asked of the database: which runs, which metrics of one run, one metric over every run."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import Session, defer

from gaprun.errors import UserError
from gaprun.store.models import Evaluation, Metric, Run
from gaprun.store.where import Condition, dotted_keys, lookup

RUN_COLUMNS = (
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
EVALUATION_COLUMNS = ("step", "task", "data_fingerprint", "options_hash", "definition")
METRIC_COLUMNS = ("name", "dataset", "split", "protocol", "n", "d")


def runs(session: Session, conditions: Sequence[Condition], light: bool = False) -> list[Run]:
    """Runs that satisfy every condition, newest first; `light` leaves the large documents unread."""
    query = select(Run).order_by(Run.created.desc(), Run.id)
    if light:
        query = query.options(
            *(defer(c, raiseload=True) for c in (Run.resolved_recipe, Run.environment, Run.notes))
        )
    own, dotted = _split(conditions, RUN_COLUMNS)
    query = query.where(*_prefilter(own))
    found = list(session.scalars(query))
    values = recipe_values(session, [c.key for c in dotted])
    return [
        run
        for run in found
        if all(c.holds(getattr(run, c.key)) for c in own)
        and all(c.holds(values[c.key].get(run.id)) for c in dotted)
    ]


def metric_rows(
    session: Session, names: Iterable[str], conditions: Sequence[Condition], keys: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """One row per run, metric, data set, split and protocol: the latest step's value, newest definition.

    A row holds RUN_COLUMNS (`id` as `run_id`, and `started`), EVALUATION_COLUMNS, METRIC_COLUMNS (`name` as
    `metric`), `value`, and each of `keys` (dotted keys of the resolved recipe). Conditions may name any of
    these.
    """
    own, dotted = _split(conditions, (*RUN_COLUMNS, *EVALUATION_COLUMNS, *METRIC_COLUMNS))
    columns = [
        *(getattr(Run, c).label("run_id" if c == "id" else c) for c in RUN_COLUMNS),
        Run.started,
        *(getattr(Evaluation, c) for c in EVALUATION_COLUMNS),
        *(getattr(Metric, c).label("metric" if c == "name" else c) for c in METRIC_COLUMNS),
        Metric.value,
    ]
    query = _latest(columns, and_(Metric.name.in_(sorted(set(names))), *_prefilter(own)))
    wanted = [c.key for c in dotted] + list(keys)
    values = recipe_values(session, wanted)
    rows = []
    for record in session.execute(query).mappings():
        row = dict(record)
        row.pop("recency")
        own_name = {"id": "run_id", "name": "metric"}
        if not all(c.holds(row[own_name.get(c.key, c.key)]) for c in own):
            continue
        if all(c.holds(values[c.key].get(row["run_id"])) for c in dotted):
            rows.append(row | {key: values[key].get(row["run_id"]) for key in keys})
    return rows


def metrics_of(session: Session, run_id: str) -> list[dict[str, Any]]:
    """The latest metrics of one run as `metric, dataset, split, protocol, value, n`, in a fixed order."""
    columns = [
        Metric.name.label("metric"),
        Metric.dataset,
        Metric.split,
        Metric.protocol,
        Metric.value,
        Metric.n,
    ]
    records = session.execute(_latest(columns, Metric.run_id == run_id)).mappings()
    rows = [{key: value for key, value in record.items() if key != "recency"} for record in records]
    return sorted(rows, key=lambda row: (row["dataset"], row["split"], row["metric"], row["protocol"]))


def metric_names(session: Session) -> list[str]:
    """Every metric's name in the database, by one seek in the index a name."""
    names: list[str] = []
    name = session.scalar(select(func.min(Metric.name)))
    while name is not None:
        names.append(name)
        name = session.scalar(select(func.min(Metric.name)).where(Metric.name > name))
    return names


def recipe_values(session: Session, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each dotted key of the resolved recipe, its value by run id (runs without it are left out).

    Raises UserError, with the nearest names, for a key that no run's recipe has.
    """
    keys = list(dict.fromkeys(keys))
    if not keys:
        return {}
    paths = [tuple(int(part) if part.isdigit() else part for part in key.split(".")) for key in keys]
    found: dict[str, dict[str, Any]] = {key: {} for key in keys}
    query = select(Run.id, *(Run.resolved_recipe[path] for path in paths))
    for run_id, *values in session.execute(query):
        for key, value in zip(keys, values, strict=True):
            if value is not None:
                found[key][run_id] = value
    for key in keys:
        if not found[key]:
            _check_key(session, key)
    return found


def nearest(word: str, names: Iterable[str], count: int = 3) -> list[str]:
    """The names most like `word`, best first; a name that contains it counts as like it."""
    names = sorted(set(names))
    close = difflib.get_close_matches(word, names, n=count, cutoff=0.6)
    return list(dict.fromkeys(close + [name for name in names if word.lower() in name.lower()]))[:count]


def _check_key(session: Session, key: str) -> None:
    samples = session.execute(select(func.min(Run.id)).group_by(Run.recipe)).scalars().all()
    documents = session.scalars(select(Run.resolved_recipe).where(Run.id.in_(samples))).all()
    if not documents or any(lookup(document, key) is not None for document in documents):
        return
    known = {name for document in documents for name in dotted_keys(document)}
    if key in known:
        return
    close = nearest(key, known) or nearest(key.rpartition(".")[2], known)
    hint = (
        f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(sorted(known)[:12])}, ..."
    )
    columns = ", ".join(("recipe", "seed", "status", "kind", "dataset", "split", "protocol"))
    raise UserError(f"no run has the key {key!r}: {hint} (besides recipe keys: {columns})")


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
    return select(inner).where(inner.c.recency == 1)


def _split(conditions: Sequence[Condition], own: Sequence[str]) -> tuple[list[Condition], list[Condition]]:
    return [c for c in conditions if c.key in own], [c for c in conditions if c.key not in own]


def _prefilter(conditions: Sequence[Condition]) -> list[ColumnElement[bool]]:
    """What SQL can decide by itself: plain text that must be equal. `Condition.holds` decides all."""
    models = {c: Run for c in RUN_COLUMNS} | {c: Metric for c in METRIC_COLUMNS if c not in ("n", "d")}
    clauses = []
    for condition in conditions:
        plain = not condition.negated and not any(
            sign in value for value in condition.values for sign in "*?"
        )
        if plain and condition.key in models and condition.key != "seed":
            nullable = any(value.lower() in ("null", "none") for value in condition.values)
            if not nullable:
                clauses.append(getattr(models[condition.key], condition.key).in_(condition.values))
    return clauses
