"""The comparison as a value: groups of runs in rows, one metric on one split under one protocol in columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from gaprun.comparison.families import Family
from gaprun.comparison.margins import ALIKE, verdict
from gaprun.comparison.recipes import RowName
from gaprun.comparison.statistics import Difference, Summary
from gaprun.evaluation.catalogue import metric
from gaprun.metrics import Direction, Metric

if TYPE_CHECKING:
    import pandas as pd

    from gaprun.comparison.perquery import QueryTest

T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    """One metric on one split under one protocol.

    `pool` and `transform` are the protocol's, `items` is how many items were measured, if all agree.
    """

    metric: str
    dataset: str
    split: str
    protocol: str
    pool: int | None = field(default=None, compare=False)
    transform: str = field(default="", compare=False)
    items: int | None = field(default=None, compare=False)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Column:
        """The column that a metric row stands in."""
        return cls(*(row[name] for name in ("metric", "dataset", "split", "protocol", "pool", "transform")))

    @cached_property
    def about(self) -> Metric:
        """What is known of the metric."""
        return metric(self.metric)

    @property
    def direction(self) -> Direction:
        """Which way is better."""
        return self.about.direction

    @cached_property
    def _hash(self) -> int:
        return hash((self.metric, self.dataset, self.split, self.protocol))

    def __hash__(self) -> int:  # of what is compared, once: columns are looked up by the hundred thousand
        return self._hash


class Reached(NamedTuple):
    """What a group reached in a column. `best` marks the best mean of the column, several on a tie; `steps`: where in
    training each of `units` was measured.

    `p_corrected` is corrected over `family` tests (None without correction); `mixed` says what differs among the values
    that were averaged here on request; `p_equivalent` (corrected likewise) is against a difference of the margin;
    `by_unit` has the value of each unit that has a name (its mean, should it have several).
    """

    summary: Summary
    difference: Difference | None
    p_corrected: float | None
    family: int
    best: bool
    units: tuple[Any, ...]
    steps: tuple[int, ...]
    recipes: tuple[str, ...]
    mixed: str = ""
    p_equivalent: float | None = None
    by_unit: Mapping[Any, float] = MappingProxyType({})

    @property
    def verdict(self) -> str | None:
        """What is shown at 5 % within the family, where a margin was stated (`margins`)."""
        return verdict(self.p_shown, self.p_equivalent)

    @property
    def equivalent(self) -> bool:
        """Whether a difference as large as the stated margin is ruled out."""
        return self.verdict == ALIKE

    @property
    def p_shown(self) -> float | None:
        """The p-value that a table prints: corrected, or as it is where nothing is corrected."""
        return self.difference.p_value if self.difference and not self.family else self.p_corrected


@dataclass
class Comparison:
    """Groups by columns. `family` names what is corrected together (`families`).

    `baselines`: the group that each group is compared with, itself where it is one; missing where there is none.
    `undefined`: how many values of a cell are not defined (NaN); where none is, there is no cell.
    `queries` and `query_p` (corrected): tests over queries, where they were asked for; `marks`: what is flagged about
    a group's runs; `names`: what each group is called, also of those that are not shown.
    """

    by: str
    groups: list[str]
    columns: list[Column]
    cells: dict[tuple[str, Column], Reached]
    baselines: dict[str, str]
    unit: str
    notes: list[str]
    family: Family = "metric"
    margins: dict[str, float] = field(default_factory=dict)
    undefined: dict[tuple[str, Column], int] = field(default_factory=dict)
    queries: dict[tuple[str, Column], QueryTest] = field(default_factory=dict)
    query_p: dict[tuple[str, Column], float | None] = field(default_factory=dict)
    marks: dict[str, str] = field(default_factory=dict)
    names: dict[str, RowName] = field(default_factory=dict)

    def parts(self) -> dict[str, Comparison]:
        """The comparison of each set-up by its words, with rows under their short names, in the order of the groups.

        Rows of different set-ups are one part ("") where they are compared with each other on request.
        """
        setup = {group: name.setup for group, name in self.names.items()}
        crossed = any(setup[group] != setup[one] for group, one in self.baselines.items())
        if crossed or len(set(setup.values())) < 2:
            return {"": self}
        return {words: self._part(words) for words in dict.fromkeys(setup[group] for group in self.groups)}

    def _part(self, setup: str) -> Comparison:
        short = {group: name.short for group, name in self.names.items() if name.setup == setup}

        def own(found: Mapping[tuple[str, Column], T]) -> dict[tuple[str, Column], T]:
            return {(short[g], column): value for (g, column), value in found.items() if g in short}

        cells, undefined = own(self.cells), own(self.undefined)
        measured = {column for _, column in (*cells, *undefined)}
        return replace(
            self,
            groups=[short[group] for group in self.groups if group in short],
            columns=[column for column in self.columns if column in measured],
            cells=cells,
            baselines={short[g]: short[one] for g, one in self.baselines.items() if g in short},
            undefined=undefined,
            queries=own(self.queries),
            query_p=own(self.query_p),
            marks={short[g]: text for g, text in self.marks.items() if g in short},
            names={one: RowName(self.names[g].called, one) for g, one in short.items()},
        )

    def unpaired(self, group: str, column: Column) -> bool:
        """Whether the cell's difference is of pairs, and it or its baseline has units that are in none."""
        cell, other = (self.cells.get((one, column)) for one in (group, self.baselines.get(group, group)))
        pairs = cell.difference.pairs if cell and cell.difference else 0
        return pairs > 0 and any(one is not None and len(one.by_unit) > pairs for one in (cell, other))

    @cached_property
    def one_value(self) -> str:
        """What a value of a cell is: one unit, or a run where a cell pools several runs of one unit."""
        pooled = any(cell.summary.n > len(cell.units) for cell in self.cells.values())
        return "run" if pooled else self.unit

    @property
    def sizes(self) -> list[int]:
        """The sizes of the families, ascending."""
        return sorted({cell.family for cell in self.cells.values() if cell.family})

    def each_record(self) -> Iterator[dict[str, Any]]:
        """One flat dictionary a cell, as `--format json` prints them; what is not defined is None."""
        for group in self.groups:
            for column in self.columns:
                cell = self.cells.get((group, column))
                if cell is not None or (group, column) in self.undefined:
                    yield _record(self, group, column, cell)

    def records(self) -> list[dict[str, Any]]:
        """`each_record` at once."""
        return list(self.each_record())

    def frame(self) -> pd.DataFrame:
        """The records as a pandas DataFrame, a row a cell."""
        import pandas as pd

        return pd.DataFrame(self.records())


def _record(comparison: Comparison, group: str, column: Column, cell: Reached | None) -> dict[str, Any]:
    found, summary = (cell.difference, cell.summary) if cell else (None, None)
    units = [unit for unit in cell.units if unit is not None] if cell else []  # what has no unit stands last
    return {
        "recipe": group if comparison.by == "recipe" else ", ".join(cell.recipes if cell else ()),
        "by": comparison.by,
        "group": group,
        "setup": comparison.names[group].setup or None,
        "metric": column.metric,
        "dataset": column.dataset,
        "split": column.split,
        "protocol": column.protocol,
        "items": column.items,
        "direction": column.direction,
        "n": summary.n if summary else 0,
        "mean": summary.mean if summary else None,
        "std": summary.std if summary else None,
        "ci95": list(summary.ci95) if summary and summary.ci95 else None,
        "undefined": comparison.undefined.get((group, column), 0),
        "best": bool(cell and cell.best),
        comparison.unit + "s": units,
        "steps": list(cell.steps[: len(units)]) if cell else [],
        "baseline": comparison.baselines.get(group),
        "delta": found.delta if found else None,
        "delta_ci95": list(found.ci95) if found and found.ci95 else None,
        "p_value": found.p_value if found else None,
        "p_corrected": cell.p_corrected if cell else None,
        "family": comparison.family,
        "family_size": cell.family if cell else 0,
        "margin": comparison.margins.get(column.metric),
        "p_equivalent": cell.p_equivalent if cell else None,
        "equivalent": cell.equivalent if cell and cell.p_equivalent is not None else None,
        "verdict": cell.verdict if cell and cell.p_equivalent is not None else None,
        "test": found.test if found else None,
        "pairs": found.pairs if found else None,
        **(_query_record(comparison, group, column) if comparison.queries else {}),
        "flags": comparison.marks.get(group),
        "mixed": (cell.mixed if cell else "") or None,
    }


def _query_record(comparison: Comparison, group: str, column: Column) -> dict[str, Any]:
    found = comparison.queries.get((group, column))
    return {
        "query_delta": found.delta if found else None,
        "query_ci95": list(found.ci95) if found and found.ci95 else None,
        "query_p": found.p_value if found else None,
        "query_p_corrected": comparison.query_p.get((group, column)),
        "query_test": found.test if found else None,
        "queries": found.queries if found else None,
        "query_units": found.pairs if found else None,
    }
