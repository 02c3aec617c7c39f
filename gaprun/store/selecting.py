"""Which stored evaluation counts, and what of `--where` the database decides by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Select, String, case, not_, or_, select, tuple_, type_coerce
from sqlalchemy.orm import Session, aliased

from gaprun.store.columns import ValueColumns
from gaprun.store.models import Evaluation, Run, StoredMetric
from gaprun.store.where import Condition

TAG = "tag"
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
        "note",
    )
} | {TAG: Run.tags}
METRIC_KEYS = {
    "metric": StoredMetric.name,
    **{name: getattr(StoredMetric, name) for name in ("dataset", "split", "protocol", "n", "d")},
    **{
        name: getattr(Evaluation, name)
        for name in (
            "step",
            "task",
            "data_fingerprint",
            "options_hash",
            "definition",
            "model_hash",
            "device",
            "pool",
            "transform",
        )
    },
}


# How a device says that the towers ran under autocast (`eval --precision bf16`).
COARSE = "-autocast"


def _plain(table: Any) -> ColumnElement[int]:
    return case((table.device.contains(COARSE), 0), else_=1)


# Of the evaluations of one run that agree in these, the latest counts.
_PLACE = ("task", "dataset", "split", "protocol")
# `plain` is 1 where the arithmetic was the recipe's own, 0 where it was a coarser one that somebody asked for.
# `created` only says which of two is later: as the database gives it, since 100,000 datetime objects take their time.
ORIGIN = {
    "evaluation": Evaluation.id,
    "plain": _plain(Evaluation),
    "created": type_coerce(Evaluation.created, String),
    "measured_checkpoint": Evaluation.checkpoint_hash,
    "measured_by": Evaluation.code_version,
}
RECENCY = "step", "plain", "created", "evaluation"
Choosing = Callable[[Any], list[ColumnElement[bool]]]


def latest(
    columns: Sequence[Any],
    where: Sequence[ColumnElement[bool]],
    choosing: Choosing,
    every_step: bool = False,
) -> Select[Any]:
    """Metrics of evaluations that meet `choosing` and have no newer one of the same run, task, place and protocol (with
    `every_step`: and step).

    It is an evaluation that counts, whichever of its metrics are asked for, so that one evaluation's values are never
    filled up with another's.
    """
    newer = aliased(Evaluation)
    newest = not_(
        select(newer.id)
        .where(
            newer.run_id == Evaluation.run_id,
            newer.id != Evaluation.id,  # says nothing more, and spares most rows the look at what follows
            *(getattr(newer, name) == getattr(Evaluation, name) for name in _PLACE),
            tuple_(newer.step, _plain(newer), newer.created, newer.id)
            > tuple_(Evaluation.step, _plain(Evaluation), Evaluation.created, Evaluation.id),
            *([newer.step == Evaluation.step] if every_step else []),
            *choosing(newer),
        )
        .exists()
    )
    return (
        select(*columns)
        .select_from(StoredMetric)
        .join(Evaluation, StoredMetric.evaluation_id == Evaluation.id)
        .join(Run, StoredMetric.run_id == Run.id)
        .where(*where, *choosing(Evaluation), newest)
    )


def recency(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What "the latest" means everywhere: the furthest step, of one step what was measured last, ties by id.

    A value by a coarser arithmetic that somebody asked for never stands for one that was measured without.
    """
    return tuple(row[name] for name in RECENCY)


def newest_of(columns: ValueColumns, codes: Sequence[int]) -> list[int]:
    """The number of the latest row (by `recency`) of each kind, given each row's in `codes` (`ValueColumns.kinds`)."""
    recent = list(columns.entries(*RECENCY))
    newest: dict[int, int] = {}
    for row, code in enumerate(codes):
        if code not in newest or recent[row] > recent[newest[code]]:
            newest[code] = row
    return list(newest.values())


def choosing_among(session: Session, conditions: Sequence[Condition]) -> Choosing:
    """The conditions that tell evaluations of one run, task, place and protocol apart, for any name of their table.

    What SQL cannot decide is decided here, on the distinct values that are stored (few).
    """
    made: list[tuple[str, list[Any]]] = []
    for condition in conditions:
        column = METRIC_KEYS.get(condition.key)
        if column is None or condition.key in ("metric", *_PLACE):
            continue
        if isinstance(column.type, String) and condition.plain:
            kept: list[Any] = list(condition.values)
        else:
            kept = [v for v in session.scalars(select(column).distinct()) if condition.holds(v)]
        made.append((column.key, kept))
    return partial(_clauses, made)


def _clauses(made: Sequence[tuple[str, list[Any]]], table: Any) -> list[ColumnElement[bool]]:
    clauses = []
    for name, kept in made:
        if hasattr(table, name):
            clauses.append(_among(getattr(table, name), kept))
        else:  # a column of metrics
            of = aliased(StoredMetric)
            fits = select(of.id).where(of.evaluation_id == table.id, _among(getattr(of, name), kept))
            clauses.append(fits.exists())
    return clauses


def _among(column: Any, kept: list[Any]) -> ColumnElement[bool]:
    present = column.in_([value for value in kept if value is not None])
    return or_(present, column.is_(None)) if None in kept else present


def row_holds(condition: Condition, row: Mapping[str, Any]) -> bool:
    """Whether a metric row meets `condition`; `dataset=a/x` means the split x of a."""
    if condition.key == "dataset":
        return condition.holds(row["dataset"], f"{row['dataset']}/{row['split']}")
    if condition.key == TAG:
        return condition.holds(*(row[TAG].split() or [None]))
    return condition.holds(row[condition.key])


def rows_hold(condition: Condition, columns: ValueColumns) -> list[bool]:
    """Whether each row meets `condition` (`row_holds`), decided once for equal entries."""
    names = ("dataset", "split") if condition.key == "dataset" else (condition.key,)
    codes, found = columns.kinds(*names)
    holds = [row_holds(condition, dict(zip(names, one, strict=True))) for one in found]
    return [holds[code] for code in codes]


def split_by_key(
    conditions: Sequence[Condition], own: Iterable[str]
) -> tuple[list[Condition], list[Condition]]:
    """The conditions on one of the keys `own`, and those on dotted keys of the resolved recipe."""
    return [c for c in conditions if c.key in own], [c for c in conditions if c.key not in own]


def in_sql(conditions: Sequence[Condition], lost: Mapping[str, str]) -> list[Condition]:
    """Those that the rows can decide as they are: not those on the status where some say what they are not."""
    return [condition for condition in conditions if condition.key != "status" or not lost]


def prefilter(conditions: Sequence[Condition], known: Mapping[str, Any]) -> list[ColumnElement[bool]]:
    """What SQL can decide by itself: plain text that must be equal. `Condition.holds` decides all."""
    clauses = []
    for condition in conditions:
        column = known[condition.key]
        if isinstance(column.type, String) and condition.plain:
            clause = column.in_(condition.values)
            if condition.key == TAG:
                clause = or_(*(column.contains(f" {value} ", autoescape=True) for value in condition.values))
            if condition.key == "dataset":
                clause = or_(clause, (StoredMetric.dataset + "/" + StoredMetric.split).in_(condition.values))
            clauses.append(clause)
    return clauses
