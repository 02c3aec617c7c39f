"""The values of one group in one column of a comparison, gathered from what may be 100,000 rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gaprun.comparison.places import PLACE
from gaprun.store.columns import Entries, ValueColumns

if TYPE_CHECKING:
    from gaprun.comparison.values import Column


@dataclass(slots=True)
class Gathered:
    """What the rows of one group say of one column.

    values, steps: by unit; recipes: their names in order; undefined: how many values are not defined (NaN).
    """

    values: dict[Any, list[float]] = field(default_factory=dict)
    steps: dict[Any, int] = field(default_factory=dict)
    recipes: dict[str, None] = field(default_factory=dict)
    mixed: str = ""
    undefined: int = 0


def gathered(rows: ValueColumns, columns: Mapping[Entries, Column]) -> dict[tuple[str, Column], Gathered]:
    """By group and column; `columns` by metric, data set, split and protocol."""
    codes, found = rows.kinds("group", *PLACE)
    cells = [Gathered() for _ in found]
    for code, value, unit, step in rows.entries(codes, "value", "unit", "step"):
        cell = cells[code]
        if value is None:
            cell.undefined += 1
            continue
        if unit in cell.values:
            cell.values[unit].append(value)
        else:
            cell.values[unit] = [value]
        cell.steps[unit] = step
    keys = [(entries[0], columns[entries[1:]]) for entries in found]
    cell_of = dict(zip(found, cells, strict=True))
    for *place, recipe, mixed in rows.distinct("group", *PLACE, "recipe", "mixed"):
        cell = cell_of[tuple(place)]
        cell.recipes[recipe] = None
        cell.mixed = mixed or cell.mixed
    return dict(zip(keys, cells, strict=True))
