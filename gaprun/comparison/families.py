"""Which tests are corrected together. What is shown decides nothing: one contrast has one p-value.

`metric` (the default): the contrasts of one metric on one split under one protocol with one baseline are a family.
`table`: all contrasts of the comparison, one protocol of each metric and split at a time, because `full` and `pool512`
are one question asked twice. `none`: no correction.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Literal, Protocol, TypeVar

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
    p_values: Mapping[tuple[Group, Column], float | None], baselines: Mapping[Group, Group], family: Family
) -> dict[tuple[Group, Column], tuple[float | None, int]]:
    """For each contrast (group, column) its Holm-corrected p-value and the size of its family.

    A contrast without a p-value has None and counts in no family; so do all for `none`.
    """
    keys = [key for key, p in p_values.items() if p is not None]
    found: dict[tuple[Group, Column], tuple[float | None, int]] = dict.fromkeys(p_values, (None, 0))
    if family == "none":
        return found
    members: dict[Hashable, list[tuple[Group, Column]]] = {}
    for group, column in keys:
        name: Hashable = (column, baselines.get(group)) if family == "metric" else column.protocol
        members.setdefault(name, []).append((group, column))
    for name, own in members.items():
        whole = own if family == "metric" else own + _of_others(keys, str(name))
        for key, p in zip(whole, holm([p_values[key] for key in whole]), strict=True):
            if key[1].protocol == name or family == "metric":
                found[key] = p, len(whole)
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
