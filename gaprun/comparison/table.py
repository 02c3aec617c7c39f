"""The comparison itself: groups of runs in rows, one metric on one split under one protocol in columns."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from gaprun.comparison.baselines import about_baselines, baselines_of
from gaprun.comparison.families import Family, corrected
from gaprun.comparison.gathered import Gathered
from gaprun.comparison.margins import ALIKE, Margin, margins_of, verdict
from gaprun.comparison.recipes import RowName
from gaprun.comparison.statistics import Difference, Summary, difference, equivalence, settled, summarise
from gaprun.errors import UserError
from gaprun.evaluation.catalogue import expand_metric, metric
from gaprun.metrics import DOWN, UP, Direction, Metric
from gaprun.tables.numbers import counted

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


@dataclass(frozen=True)
class Reached:
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
    by_unit: Mapping[Any, float] = field(default_factory=dict)

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

    @property
    def sizes(self) -> list[int]:
        """The sizes of the families, ascending."""
        return sorted({cell.family for cell in self.cells.values() if cell.family})

    def records(self) -> list[dict[str, Any]]:
        """One flat dictionary a cell, as `--format json` prints them; what is not defined is None."""
        return [
            _record(self, group, column, self.cells.get((group, column)))
            for group in self.groups
            for column in self.columns
            if (group, column) in self.cells or (group, column) in self.undefined
        ]

    def frame(self) -> pd.DataFrame:
        """The records as a pandas DataFrame, a row a cell."""
        import pandas as pd

        return pd.DataFrame(self.records())


def build(
    rows: Sequence[dict[str, Any]],
    by: str = "recipe",
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    sort: str | None = None,
    notes: Sequence[str] = (),
    family: Family = "metric",
    across: bool = False,
    margin: Margin | None = None,
) -> Comparison:
    """The comparison of metric rows that carry their `group`, `name`, `unit`, `setup` and `mixed` (see `select.load`).

    Differences pair groups by seed, or by recipe when the groups are seeds, and are from the baseline of the same
    set-up; `across`: a baseline that is named is that of all rows. `margin` (in the metrics' units) is tested for:
    is a difference so large ruled out? `metrics` gives the columns' order, `sort` the
    metric whose first column orders the rows, best first; else a baseline comes first, then its groups by name.
    Set-ups stay together, those with a baseline and with most rows first; the best mean is that of a set-up.
    Raises UserError for a baseline or a sort metric that is not there.
    """
    gathered: dict[tuple[str, ...], Gathered] = {}  # by group, metric, data set, split, protocol
    known: dict[tuple[str, ...], Column] = {}
    key: tuple[str, ...]
    for row in rows:
        key = row["group"], row["metric"], row["dataset"], row["split"], row["protocol"]
        if (cell := gathered.get(key)) is None:
            cell = gathered[key] = Gathered()
            if key[1:] not in known:
                known[key[1:]] = Column.of(row)
        cell.enter(row)
    setups = {row["group"]: row["setup"] for row in rows}
    names: dict[str, RowName] = {row["group"]: row["name"] for row in rows}
    groups = sorted(setups, key=natural)
    rank = {name: index for index, name in enumerate(metrics)}
    sizes: dict[tuple[str, ...], set[int | None]] = {}
    for key, cell in gathered.items():
        sizes.setdefault(key[1:], set()).update(cell.sizes)
    for place, several in sizes.items():
        known[place] = replace(known[place], items=next(iter(several)) if len(several) == 1 else None)
    columns = sorted(
        known.values(),
        key=lambda c: (rank.get(c.metric, len(rank)), natural(c.metric), c.dataset, c.split, c.protocol),
    )
    found = {(key[0], known[key[1:]]): cell for key, cell in gathered.items()}
    undefined = {key: cell.undefined for key, cell in found.items() if cell.undefined}
    baselines = baselines_of(baseline, setups, names, by, across)
    margins = margins_of(margin, [column.metric for column in columns])
    cells = _cells(found, names, columns, baselines, family, margins)
    unit = "recipe" if by == "seed" else "seed"
    result = Comparison(
        by, groups, columns, cells, baselines, unit, list(notes), family, margins, undefined, names=names
    )
    result.notes += about_baselines(baselines, setups, names)
    if undefined:
        result.notes.append(f"left out as not defined (NaN): {counted(sum(undefined.values()), 'value')}")
    result.groups = _sorted(result, sort)
    return result


def _cells(
    gathered: Mapping[tuple[str, Column], Gathered],
    names: Mapping[str, RowName],
    columns: Sequence[Column],
    baselines: dict[str, str],
    family: Family,
    margins: dict[str, float],
) -> dict[tuple[str, Column], Reached]:
    values = {
        (group, column): cell.values
        for group in names
        for column in columns
        if (cell := gathered.get((group, column))) is not None and cell.values
    }
    keys = list(values)
    summaries = {key: summarise([v for part in values[key].values() for v in part]) for key in keys}
    differences: dict[tuple[str, Column], Difference | None] = {}
    for group, column in keys:
        baseline = baselines.get(group, group)
        reference = values.get((baseline, column)) if group != baseline else None
        differences[group, column] = (
            None if reference is None else difference(values[group, column], reference)
        )
    p_values = {key: None if (found := differences[key]) is None else found.p_value for key in keys}
    by_unit = {
        key: {unit: math.fsum(part) / len(part) for unit, part in values[key].items() if unit is not None}
        for key in keys
    }
    tested = corrected(p_values, baselines, family, by_unit)
    alike: dict[tuple[str, Column], float | None] = {}
    if margins:
        alike = {
            key: equivalence(found, margins[key[1].metric])
            for key, found in differences.items()
            if found and key[1].metric in margins
        }
        if family != "none":
            alike = {key: p for key, (p, _) in corrected(alike, baselines, family).items()}
    means: dict[tuple[str, Column], list[float]] = {}
    for group, column in keys:
        means.setdefault((names[group].setup, column), []).append(settled(summaries[group, column].mean))
    best = {
        place: max(own) if place[1].direction == UP else min(own)
        for place, own in means.items()
        if len(own) > 1 and place[1].direction in (UP, DOWN)
    }
    cells = {}
    for key in keys:
        cell = gathered[key]
        units = sorted(cell.values, key=_unit_order)
        cells[key] = Reached(
            summaries[key],
            differences[key],
            *tested[key],
            settled(summaries[key].mean) == best.get((names[key[0]].setup, key[1])),
            tuple(units),
            tuple(cell.steps[unit] for unit in units),
            tuple(cell.recipes),
            cell.mixed,
            alike.get(key),
            by_unit[key],
        )
    return cells


def _unit_order(unit: Any) -> tuple[bool, bool, Any]:
    return (unit is None, isinstance(unit, str), unit or 0)


def _sorted(comparison: Comparison, sort: str | None) -> list[str]:
    names, baselines = comparison.names, comparison.baselines
    sizes = Counter(name.setup for name in names.values())
    own = {names[baseline].setup for baseline in baselines.values()}

    def setup(group: str) -> tuple[Any, ...]:
        words = names[group].setup
        return words not in own, -sizes[words], natural(words)

    if sort is None:

        def place(group: str) -> tuple[Any, ...]:
            baseline = baselines.get(group)
            inside = (baseline is None, natural(baseline or ""), group != baseline, natural(group))
            return (*setup(group), *inside)

        return sorted(comparison.groups, key=place)
    metrics = [sort] if any(c.metric == sort for c in comparison.columns) else expand_metric(sort)
    columns = [c for c in comparison.columns if c.metric in metrics]
    if not columns:
        raise UserError(f"--sort {sort}: not among the metrics compared; add --metric {sort}")
    first = {}  # by set-up: the column that it was measured in
    for column in reversed(columns):
        first.update({name.setup: column for g, name in names.items() if (g, column) in comparison.cells})

    def key(group: str) -> tuple[Any, ...]:
        column = first.get(names[group].setup)
        cell = comparison.cells.get((group, column)) if column else None
        sign = -1 if column and column.direction == UP else 1
        return (
            *setup(group),
            cell is None,
            sign * settled(cell.summary.mean) if cell else 0.0,
            natural(group),
        )

    return sorted(comparison.groups, key=key)


@lru_cache(maxsize=1 << 16)
def natural(text: str) -> tuple[Any, ...]:
    """A sort key that puts `s2` before `s10`, 0.04 before 0.1 and 600 before 6,000."""
    parts = re.split(r"(\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?)", text)
    return tuple(
        (0, float(part.replace(",", "")), "") if index % 2 else (1, 0.0, part)
        for index, part in enumerate(parts)
    )


def _record(comparison: Comparison, group: str, column: Column, cell: Reached | None) -> dict[str, Any]:
    found, summary = (cell.difference, cell.summary) if cell else (None, None)
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
        comparison.unit + "s": [unit for unit in (cell.units if cell else ()) if unit is not None],
        "steps": [
            step
            for unit, step in zip(cell.units if cell else (), cell.steps if cell else (), strict=True)
            if unit is not None
        ],
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
        "verdict": cell.verdict if cell else None,
        "test": found.test if found else None,
        "pairs": found.pairs if found else None,
        **_query_record(comparison, group, column),
        "flags": comparison.marks.get(group),
        "mixed": (cell.mixed if cell else "") or None,
    }


def _query_record(comparison: Comparison, group: str, column: Column) -> dict[str, Any]:
    if not comparison.queries:
        return {}
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
