"""Which tests are corrected together. What is shown decides nothing: one contrast has one p-value.

`metric` (the default): the contrasts of one metric on one split under one protocol with one baseline are a family.
`table`: all contrasts of the comparison, one protocol of each metric and split at a time, because `full` and `pool512`
are one question asked twice; never less than within the metric. `none`: no correction.

Where the values by seed are given, a metric's family is tested by Dunnett's test beside Holm's (`dunnett`).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal, Protocol, TypeVar

from gaprun.comparison.dunnett import family_p
from gaprun.comparison.statistics import holm


class Question(Protocol):
    """What a family asks of a table's column; columns are equal where they are the same question."""

    @property
    def metric(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    def __hash__(self) -> int: ...


Family = Literal["metric", "table", "none"]
Group = TypeVar("Group", bound=Hashable)
Column = TypeVar("Column", bound=Question)


def corrected(
    p_values: Mapping[tuple[Group, Column], float | None],
    baselines: Mapping[Group, Group],
    family: Family,
    values: Mapping[tuple[Group, Column], Mapping[Any, float]] | None = None,
) -> dict[tuple[Group, Column], tuple[float | None, int]]:
    """For each contrast (group, column) its corrected p-value and the size of its family.

    values: each group's and baseline's values by unit (seed), for Dunnett's test. A contrast without a p-value has None
    and counts in no family; so do all for `none`.
    """
    keys = [key for key, p in p_values.items() if p is not None]
    found: dict[tuple[Group, Column], tuple[float | None, int]] = dict.fromkeys(p_values, (None, 0))
    if family == "none":
        return found
    by_question: dict[Hashable, list[tuple[Group, Column]]] = {}
    by_protocol: dict[str, list[tuple[Group, Column]]] = {}
    for group, column in keys:
        by_question.setdefault((column, baselines.get(group)), []).append((group, column))
        by_protocol.setdefault(column.protocol, []).append((group, column))
    for own in by_question.values():
        p_own = {key: p for key in own if (p := p_values[key]) is not None}
        reference = (values or {}).get((baselines.get(own[0][0], own[0][0]), own[0][1]), {})
        within = family_p(p_own, {key: (values or {}).get(key, {}) for key in own}, reference)
        found.update((key, (p, len(own))) for key, p in within.items())
    if family == "table":
        for protocol, own in by_protocol.items():
            whole = own + _of_others(keys, protocol)
            for key, p in zip(whole, holm([p_values[key] for key in whole]), strict=True):
                if key[1].protocol == protocol:
                    found[key] = max(p or 0.0, found[key][0] or 0.0), len(whole)
    return found


def _of_others(keys: list[tuple[Group, Column]], protocol: str) -> list[tuple[Group, Column]]:
    """The contrasts of what was not measured by `protocol`, each metric and split by the first protocol that it has."""
    taken: dict[Hashable, str] = {}
    for _, column in keys:
        place = column.metric, column.dataset, column.split
        if taken.get(place) != protocol:
            taken[place] = (
                protocol if column.protocol == protocol else min(taken.get(place, "~"), column.protocol)
            )
    return [
        (group, column)
        for group, column in keys
        if column.protocol != protocol
        and taken[column.metric, column.dataset, column.split] == column.protocol
    ]
