"""Every metric that is known, by name: those that the tasks declare (plugins' too), and the short names for several.

Reading it imports the tasks' declarations and no torch.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from gaprun.errors import UserError
from gaprun.metrics import ARROWS, NONE, Metric
from gaprun.tables.numbers import fixed, places_for

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]*")  # of a metric that commands can name


def families() -> dict[str, tuple[Metric, ...]]:
    """The metrics by family: a task's own, in the order in which tables show them.

    Raises UserError where two tasks declare one name, and for what is no metric.
    """
    from gaprun.evaluation.tasks import DEFAULT_TASKS, TASKS
    from gaprun.registry import load_plugins

    load_plugins()
    usual = [TASKS.get(name) for name in DEFAULT_TASKS]
    tasks = [*(t for t in usual if t), *(t for t in TASKS if t not in usual)]
    return _families(tuple(tasks))


@lru_cache(maxsize=1)
def _families(tasks: tuple[Any, ...]) -> dict[str, tuple[Metric, ...]]:
    from gaprun.evaluation.tasks.training import IMPORTED, TRAINING

    others = {"training": TRAINING, "imported": IMPORTED}
    found: dict[str, tuple[Metric, ...]] = {}
    declared = {metric.name: family for family, metrics in others.items() for metric in metrics}
    for task in tasks:
        name = str(task.model_fields["task"].default)
        family = task.family or name
        if family in found or family in others:
            raise UserError(f"the task {name}: the metrics of {family} are another's; choose another name")
        for metric in task.metrics:
            if (
                not isinstance(metric, Metric)
                or not NAME.fullmatch(metric.name)
                or metric.direction not in ARROWS
            ):
                raise UserError(
                    f"the task {name}: {task.__name__}.metrics holds {metric!r}, not Metric(name, direction, ...) "
                    f"with a name of letters, figures and _ . @ -, and one of {', '.join(ARROWS)}"
                )
            if declared.setdefault(metric.name, family) != family:
                raise UserError(
                    f"the metric {metric.name} is declared twice, by the tasks {declared[metric.name]} and {family}"
                )
        if task.metrics:
            found[family] = task.metrics
    found |= others
    return found


def declared() -> dict[str, Metric]:
    """Every declared metric by name, in the order of `families`."""
    return {metric.name: metric for metrics in families().values() for metric in metrics}


def metric(name: str) -> Metric:
    """The metric of that name; a name that nobody declared (of an import, say) has no better side and no words."""
    return declared().get(name) or Metric(name, NONE, name)


def value_text(name: str, value: float | None) -> str:
    """One value of the metric `name` as tables show it; n/a where it is not defined."""
    if value is None or not math.isfinite(value):
        return "n/a"
    return fixed(value, places_for(metric(name).places, abs(value)))


def short_names() -> dict[str, tuple[str, ...]]:
    """What stands for several metrics at once: `recall@5` for both directions, `geometry` for all that its task gives.

    A name with a family's meaning and a metric's (`sugarcrepe`, `mmvp`) is the metric.
    """
    groups: dict[str, list[str]] = {}
    for one in declared().values():
        if one.short:
            groups.setdefault(one.short, []).append(one.name)
    for family, metrics in families().items():
        groups.setdefault(family, [one.name for one in metrics])
    return {name: tuple(parts) for name, parts in groups.items() if name not in declared()}


def expand_metric(name: str) -> list[str]:
    """The metric names behind what a user typed: a full name stands for itself, a short name for its parts
    (`recall@5` -> `image_recall@5`, `text_recall@5`), a family for all its members (`geometry`).

    Raises UserError with the nearest names when nothing fits.
    """
    full, short = declared(), short_names()
    if name in full:
        return [name]
    if name in short:
        return list(short[name])
    near = difflib.get_close_matches(name, [*full, *short], n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known names: {', '.join([*short, *full])}"
    raise UserError(f"unknown metric {name!r}: {hint}")


def in_order(names: Iterable[str]) -> list[str]:
    """`names` as every table lists them: in the order of declaration, then the others by name."""
    place = {name: index for index, name in enumerate(declared())}
    return sorted(names, key=lambda name: (place.get(name, len(place)), name))
