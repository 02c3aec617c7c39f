"""The comparison is made of metric rows: groups, columns, what each reached, in the order in which they stand."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any

from gaprun.comparison.baselines import about_baselines, baselines_of
from gaprun.comparison.families import Family, corrected
from gaprun.comparison.gathered import Gathered, gathered
from gaprun.comparison.margins import Margin, margins_of
from gaprun.comparison.places import PLACE
from gaprun.comparison.recipes import RowName
from gaprun.comparison.statistics import difference, equivalence, settled, summarise
from gaprun.comparison.values import Column, Comparison, Reached
from gaprun.errors import UserError
from gaprun.evaluation.catalogue import expand_metric
from gaprun.metrics import DOWN, UP
from gaprun.store.columns import Entries, ValueColumns
from gaprun.tables.numbers import counted


def build(
    rows: ValueColumns,
    by: str = "recipe",
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    sort: str | None = None,
    notes: Sequence[str] = (),
    family: Family = "metric",
    across: bool = False,
    margin: Margin | None = None,
) -> Comparison:
    """The comparison of values that carry their `group`, `name`, `unit`, `setup` and `mixed` (see `select.load`).

    Differences pair groups by seed, or by recipe when the groups are seeds, and are from the baseline of the same
    set-up; `across`: a baseline that is named is that of all rows. `margin` (in the metrics' units) is tested for:
    is a difference so large ruled out? `metrics` gives the columns' order, `sort` the
    metric whose first column orders the rows, best first; else a baseline comes first, then its groups by name.
    Set-ups stay together, those with a baseline and with most rows first; the best mean is that of a set-up.
    Raises UserError for a baseline or a sort metric that is not there.
    """
    setups: dict[str, str] = dict(rows.each_together("group", "setup"))
    names: dict[str, RowName] = dict(rows.each_together("group", "name"))
    known = _columns(rows)
    rank = {name: index for index, name in enumerate(metrics)}
    columns = sorted(
        known.values(),
        key=lambda c: (rank.get(c.metric, len(rank)), natural(c.metric), c.dataset, c.split, c.protocol),
    )
    found = gathered(rows, known)
    undefined = {key: cell.undefined for key, cell in found.items() if cell.undefined}
    baselines = baselines_of(baseline, setups, names, by, across)
    margins = margins_of(margin, [column.metric for column in columns])
    cells = _cells(found, names, columns, baselines, family, margins)
    unit = "recipe" if by == "seed" else "seed"
    result = Comparison(
        by,
        list(setups),
        columns,
        cells,
        baselines,
        unit,
        list(notes),
        family,
        margins,
        undefined,
        names=names,
    )
    result.notes += about_baselines(baseline, baselines, setups, names, by)
    if undefined:
        result.notes.append(
            f"left out as not defined (NaN or infinite): {counted(sum(undefined.values()), 'value')}"
        )
    result.groups = _sorted(result, sort)
    return result


def _columns(rows: ValueColumns) -> dict[Entries, Column]:
    """By metric, data set, split and protocol: the column, with the number of items where all agree."""
    found: dict[Entries, Column] = {}
    sizes: dict[Entries, set[int | None]] = {}
    for *told, items in rows.distinct(*PLACE, "pool", "transform", "n"):
        key = tuple(told[: len(PLACE)])
        found.setdefault(key, Column(*told))
        sizes.setdefault(key, set()).add(items)
    alone = {key: next(iter(own)) for key, own in sizes.items() if len(own) == 1}
    return {key: replace(column, items=alone.get(key)) for key, column in found.items()}


def _cells(
    found: Mapping[tuple[str, Column], Gathered],
    names: Mapping[str, RowName],
    columns: Sequence[Column],
    baselines: dict[str, str],
    family: Family,
    margins: dict[str, float],
) -> dict[tuple[str, Column], Reached]:
    values = {
        key: cell.values
        for group in names
        for column in columns
        if (cell := found.get(key := (group, column))) is not None and cell.values
    }
    differences = {
        (group, column): difference(own, reference)
        for (group, column), own in values.items()
        if (baseline := baselines.get(group, group)) != group
        and (reference := values.get((baseline, column))) is not None
    }
    by_unit = {
        key: {unit: math.fsum(part) / len(part) for unit, part in own.items() if unit is not None}
        for key, own in values.items()
    }
    p_values = {key: one.p_value for key, one in differences.items()}
    tested = corrected(p_values, baselines, family, by_unit)
    alike: dict[tuple[str, Column], float | None] = {}
    if margins:
        alike = {
            key: equivalence(one, margins[key[1].metric])
            for key, one in differences.items()
            if key[1].metric in margins
        }
        if family != "none":
            alike = {key: p for key, (p, _) in corrected(alike, baselines, family).items()}
    summaries = [summarise([*chain.from_iterable(own.values())]) for own in values.values()]
    means = [settled(summary.mean) for summary in summaries]
    places = [(names[group].setup, column) for group, column in values]
    best = _best(places, means)
    cells = {}
    for key, place, summary, mean in zip(values, places, summaries, means, strict=True):
        cell = found[key]
        units = _in_order(tuple(cell.values))
        cells[key] = Reached(
            summary,
            differences.get(key),
            *tested.get(key, (None, 0)),
            mean == best.get(place),
            units,
            tuple(map(cell.steps.__getitem__, units)),
            tuple(cell.recipes),
            cell.mixed,
            alike.get(key),
            by_unit[key],
        )
    return cells


def _best(places: Sequence[tuple[str, Column]], means: Sequence[float]) -> dict[tuple[str, Column], float]:
    """The best of the means in each place (a column of a set-up), where there are several and a direction is better."""
    by_place: dict[tuple[str, Column], list[float]] = {}
    for place, mean in zip(places, means, strict=True):
        by_place.setdefault(place, []).append(mean)
    return {
        place: max(own) if place[1].direction == UP else min(own)
        for place, own in by_place.items()
        if len(own) > 1 and place[1].direction in (UP, DOWN)
    }


@lru_cache
def _in_order(units: tuple[Any, ...]) -> tuple[Any, ...]:
    """Numbers, then names, then what has none; thousands of cells have the same few seeds."""
    return tuple(sorted(units, key=lambda unit: (unit is None, isinstance(unit, str), unit or 0)))


def _sorted(comparison: Comparison, sort: str | None) -> list[str]:
    names, baselines = comparison.names, comparison.baselines
    sizes = Counter(name.setup for name in names.values())
    own = {names[baseline].setup for baseline in baselines.values()}
    of_setup = {words: (words not in own, -size, natural(words)) for words, size in sizes.items()}

    if sort is None:

        def place(group: str) -> tuple[Any, ...]:
            baseline = baselines.get(group)
            inside = (baseline is None, natural(baseline or ""), group != baseline, natural(group))
            return (*of_setup[names[group].setup], *inside)

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
            *of_setup[names[group].setup],
            cell is None,
            sign * settled(cell.summary.mean) if cell else 0.0,
            natural(group),
        )

    return sorted(comparison.groups, key=key)


_NUMBER = re.compile(r"(\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?)")


@lru_cache(maxsize=1 << 16)
def natural(text: str) -> tuple[Any, ...]:
    """A sort key that puts `s2` before `s10`, 0.04 before 0.1 and 600 before 6,000."""
    parts: list[Any] = _NUMBER.split(text)  # text and numbers in turn
    parts[1::2] = [float(part.replace(",", "")) for part in parts[1::2]]
    return tuple(parts)
