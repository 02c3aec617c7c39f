"""Why a condition found nothing: a value that no run has, and the nearest that some run has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from gaprun.store.models import STATUSES, Evaluation
from gaprun.store.queries import nearest, recipe_values
from gaprun.store.selecting import METRIC_KEYS, RUN_KEYS
from gaprun.store.where import Condition

MOST_NAMED = 8


def unmet(session: Session, conditions: Sequence[Condition]) -> str:
    """Of the first condition that no stored value meets: `nothing has status=finishd: did you mean finished?`."""
    for condition in conditions:
        values = _values(session, condition.key)
        if condition.negated or not values or any(condition.holds(value) for value in values):
            continue
        texts = sorted({str(value) for value in values if value is not None})
        wanted = condition.values[0]
        close = nearest(wanted, texts)
        more = ", ..." if len(texts) > MOST_NAMED else ""
        hint = (
            f"did you mean {' or '.join(close)}?"
            if close
            else f"there is {', '.join(texts[:MOST_NAMED])}{more}"
        )
        return f"nothing has {condition.key}={wanted}: {hint}"
    return ""


def _values(session: Session, key: str) -> list[Any]:
    """Every value that a run or a measured value has of `key`."""
    if key == "status":
        return list(STATUSES)
    if key == "dataset":
        places = session.execute(select(Evaluation.dataset, Evaluation.split).distinct()).all()
        return [*(f"{dataset}/{split}" for dataset, split in places), *(dataset for dataset, _ in places)]
    column = (RUN_KEYS | METRIC_KEYS).get(key)
    if column is not None:
        return list(session.scalars(select(column).distinct()))
    return list(recipe_values(session, [key], [*RUN_KEYS, *METRIC_KEYS])[key].values())
