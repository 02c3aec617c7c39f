"""The rows of one group and one column of a comparison, gathered in one pass over what may be 100,000 of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Gathered:
    """What the rows of one group say of one column.

    values, steps: by unit; recipes: their names in order; sizes: how many items were measured; undefined: how many
    values are not defined (NaN).
    """

    values: dict[Any, list[float]] = field(default_factory=dict)
    steps: dict[Any, int] = field(default_factory=dict)
    recipes: dict[str, None] = field(default_factory=dict)
    sizes: set[int | None] = field(default_factory=set)
    mixed: str = ""
    undefined: int = 0

    def enter(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        self.sizes.add(row["n"])
        self.recipes[row["recipe"]] = None
        if row["mixed"]:
            self.mixed = row["mixed"]
        value, unit = row["value"], row["unit"]
        if value is None:
            self.undefined += 1
            return
        self.values.setdefault(unit, []).append(value)
        self.steps[unit] = row["step"]
