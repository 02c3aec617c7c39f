"""Why a condition found or left out nothing: a value that no run has, and the nearest that some run has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from gaprun.store.models import STATUSES, Evaluation
from gaprun.store.queries import nearest, recipe_values
from gaprun.store.selecting import METRIC_KEYS, RUN_KEYS, TAG
from gaprun.store.where import NULLS, Condition, equal

MOST_NAMED = 8


def unmet(session: Session, conditions: Sequence[Condition]) -> str:
    """Of the first condition that no stored value meets: `nothing has status=finishd: did you mean finished?`."""
    for condition in conditions:
        values = _values(session, condition.key)
        if condition.negated or not values or any(condition.holds(value) for value in values):
            continue
        wanted = condition.values[0]
        return f"nothing has {condition.key}={wanted}: {_meant(wanted, values)}"
    return ""


def idle(session: Session, conditions: Sequence[Condition]) -> list[str]:
    """A line for each value that nothing stored has; for conditions that others may still fulfil: with several values,
    or with `!=`."""
    found = []
    for condition in conditions:
        values = _values(session, condition.key)
        for wanted in condition.values:
            if not values or wanted.lower() in NULLS or any(equal(value, wanted) for value in values):
                continue
            so = f", so {condition.key}!={wanted} leaves nothing out" if condition.negated else ""
            found.append(f"nothing has {condition.key}={wanted}{so}: {_meant(wanted, values)}")
    return found


def _meant(wanted: str, values: Sequence[Any]) -> str:
    """The nearest of the values, else some of them."""
    several = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    texts = sorted({str(value) for value in several if value is not None})
    close = nearest(wanted, texts)
    more = ", ..." if len(texts) > MOST_NAMED else ""
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there {'is' if len(texts) == 1 else 'are'} {', '.join(texts[:MOST_NAMED])}{more}"


def _values(session: Session, key: str) -> list[Any]:
    """Every value that a run or a measured value has of `key`."""
    if key == "status":
        return list(STATUSES)
    if key == "dataset":
        places = session.execute(select(Evaluation.dataset, Evaluation.split).distinct()).all()
        return [*(f"{dataset}/{split}" for dataset, split in places), *(dataset for dataset, _ in places)]
    if key == TAG:
        return [tag for tags in session.scalars(select(RUN_KEYS[TAG]).distinct()) for tag in tags.split()]
    column = (RUN_KEYS | METRIC_KEYS).get(key)
    if column is not None:
        return list(session.scalars(select(column).distinct()))
    return list(recipe_values(session, [key], [*RUN_KEYS, *METRIC_KEYS])[key].values())
