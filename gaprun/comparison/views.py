"""Two other views of a comparison: correlations over its rows, and who is on the Pareto front of its columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gaprun.comparison.correlation import Correlation, correlate
from gaprun.comparison.legend import sentences
from gaprun.comparison.shown import mean_text, places_of
from gaprun.comparison.statistics import settled
from gaprun.comparison.values import Column, Comparison
from gaprun.errors import UserError
from gaprun.metrics import NONE, UP
from gaprun.tables import Heading, Table
from gaprun.tables.numbers import bracketed, counted, fixed, p_value


def correlations(comparison: Comparison, predictors: Sequence[str], top: int | None = None) -> Table:
    """Spearman's and Pearson's correlation of every other column with each predictor, over the groups' means of both.

    A predictor is taken from the column's own data and protocol if it was measured there, else from the pool
    protocol, else from where it was measured, always of embeddings that were transformed in the same way; a column
    without such a predictor is left out. `top` rows are shown of all. Raises UserError when a predictor is not among
    the columns.
    """
    rows, records = [], []
    for column in comparison.columns:
        if column.metric in predictors:
            continue
        for name in predictors:
            source = _predictor(comparison, name, column)
            if source is None:
                continue
            found = (mean_point(comparison, group, source, column) for group in comparison.groups)
            pairs = [pair for pair in found if pair is not None]
            x, y = [settled(a) for a, _ in pairs], [settled(b) for _, b in pairs]
            spearman, pearson = correlate(x, y, "spearman"), correlate(x, y, "pearson")
            rows.append(
                (
                    column.metric,
                    f"{column.dataset}/{column.split} {column.protocol}",
                    f"{name} ({_where(source, column)})",
                    str(len(pairs)),
                    _r(spearman),
                    _r(pearson),
                )
            )
            mixed = mixed_in(comparison, [source, column])
            records.append(_correlation_record(column, source, len(pairs), spearman, pearson, mixed))
    legend = (
        f"Correlations over {len(comparison.groups)} rows of the comparison (means over the {comparison.unit}s that "
        "have both), with 95 % intervals (Bonett and Wright for Spearman, Fisher's z for Pearson) and p.",
        "A row is one point, whatever its seeds; rows that differ in one knob are not independent of each other.",
    )
    heads: list[Heading | str] = [
        "metric",
        "on",
        "against",
        *(Heading(name, right=True) for name in ("rows", "Spearman", "Pearson")),
    ]
    return view_of("correlations", comparison, heads, rows, legend, records, top)


def mean_point(comparison: Comparison, group: str, x: Column, y: Column) -> tuple[float, float] | None:
    """A row's means of two columns over the units (seeds) that have both, of values without a unit over all; None where
    it has no such point.

    Where a value is missing (NaN, not measured) the means over all would be of other models along x than along y.
    """
    cells = comparison.cells.get((group, x)), comparison.cells.get((group, y))
    if cells[0] is None or cells[1] is None:
        return None
    own, other = cells[0].by_unit, cells[1].by_unit
    if own.keys() == other.keys() or not (own and other):
        return cells[0].summary.mean, cells[1].summary.mean
    shared = [unit for unit in own if unit in other]
    if not shared:
        return None
    means = [math.fsum(values[unit] for unit in shared) / len(shared) for values in (own, other)]
    return means[0], means[1]


def pareto(comparison: Comparison, top: int | None = None) -> Table:
    """Which groups no other group beats in every column at once (by means); one protocol a metric and split counts.

    That is the pool's, which gap and retrieval share, else the first, and a transformed one only where nothing else
    was measured. `top` rows are shown of all. Raises UserError for fewer than two columns with a better side.
    """
    several: dict[tuple[str, str, str], list[Column]] = {}
    for c in comparison.columns:
        if c.direction != NONE:
            several.setdefault((c.metric, c.dataset, c.split), []).append(c)
    columns = [min(own, key=lambda c: (c.transform != "", c.pool is None)) for own in several.values()]
    if len(columns) < 2:
        raise UserError(
            "--pareto: needs at least two columns with a better side, e.g. --metric gap --metric recall@1"
        )
    points = {
        g: [settled(comparison.cells[g, c].summary.mean) * (1 if c.direction == UP else -1) for c in columns]
        for g in comparison.groups
        if all((g, c) in comparison.cells for c in columns)
    }
    rows, records = [], []
    places = {c: places_of(comparison, c) for c in columns}
    for group, point in sorted(points.items(), key=lambda item: item[1], reverse=True):
        beaten = [g for g, other in points.items() if _dominates(other, point)]
        cells = [comparison.cells[group, c] for c in columns]
        texts = [mean_text(cell, places[c]) for c, cell in zip(columns, cells, strict=True)]
        rows.append((group, *texts, "no" if beaten else "yes", ", ".join(beaten)))
        means = {
            f"{c.metric} {c.dataset}/{c.split} {c.protocol}": cell.summary.mean
            for c, cell in zip(columns, cells, strict=True)
        }
        found = {"group": group, "means": means, "front": not beaten, "dominated_by": beaten}
        records.append(found | {"mixed": mixed_in(comparison, columns, [group])})
    measured = [
        Heading(f"{c.metric}{c.about.arrow}\n{c.dataset}/{c.split}\n{c.protocol}", right=True)
        for c in columns
    ]
    missing = len(comparison.groups) - len(points)
    legend = [
        "On the front: no other row is at least as good in every column and better in one (means only)."
    ]
    if missing:
        legend.append(f"Left out: {counted(missing, 'row')} without all columns.")
    heads: list[Heading | str] = [comparison.by, *measured, "front", Heading("beaten by", wrap=True)]
    return view_of("pareto front", comparison, heads, rows, legend, records, top)


def view_of(
    name: str,
    comparison: Comparison,
    heads: Sequence[Heading | str],
    rows: Sequence[tuple[str, ...]],
    legend: Sequence[str],
    records: Sequence[dict[str, Any]],
    top: int | None,
) -> Table:
    """The view of `top` rows, with a column that says what was mixed, where something was, and the notes below."""
    if any(record["mixed"] for record in records):
        heads = (*heads, "mixed")
        rows = [(*row, record["mixed"] or "") for row, record in zip(rows, records, strict=True)]
    notes = sentences(comparison.notes)
    if top is not None and top < len(rows):
        notes.append(f"{len(rows) - top} more rows are not shown; they count in every number.")
    return Table.of(name, heads, rows[:top], records[:top], legend=(*legend, *notes))


def mixed_in(
    comparison: Comparison, columns: Sequence[Column], groups: Sequence[str] | None = None
) -> str | None:
    """What differs among the values averaged in these columns, None for nothing."""
    cells = [
        comparison.cells[g, c]
        for g in groups or comparison.groups
        for c in columns
        if (g, c) in comparison.cells
    ]
    found = dict.fromkeys(reason for cell in cells if cell.mixed for reason in cell.mixed.split(", "))
    return ", ".join(found) or None


def _dominates(other: Sequence[float], point: Sequence[float]) -> bool:
    pairs = list(zip(other, point, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def _predictor(comparison: Comparison, name: str, column: Column) -> Column | None:
    measured = [c for c in comparison.columns if c.metric == name]
    if not measured:
        raise UserError(f"--correlate {name}: not among the columns; no run has it with these conditions")
    candidates = [c for c in measured if c.transform == column.transform]
    if not candidates:
        return None
    place = column.dataset, column.split, column.protocol

    def rank(c: Column) -> tuple[bool, bool]:
        return (c.dataset, c.split, c.protocol) != place, c.pool is None

    return min(candidates, key=rank)


def _where(source: Column, column: Column) -> str:
    """The predictor's protocol, with its data where they are not the column's."""
    place = f"{source.dataset}/{source.split}"
    same = place == f"{column.dataset}/{column.split}"
    return source.protocol if same else f"{place} {source.protocol}"


def _r(found: Correlation | None) -> str:
    if found is None:
        return "-"
    return " ".join(filter(None, (fixed(found.r, 2), bracketed(found.ci95, 2), p_value(found.p_value))))


def _correlation_record(
    column: Column,
    source: Column,
    n: int,
    spearman: Correlation | None,
    pearson: Correlation | None,
    mixed: str | None,
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "metric": column.metric,
        "dataset": column.dataset,
        "split": column.split,
        "protocol": column.protocol,
        "against": source.metric,
        "against_dataset": source.dataset,
        "against_split": source.split,
        "against_protocol": source.protocol,
        "n": n,
        "mixed": mixed,
    }
    for kind, found in (("spearman", spearman), ("pearson", pearson)):
        record[kind] = found.r if found else None
        record[f"{kind}_ci95"] = list(found.ci95) if found and found.ci95 else None
        record[f"{kind}_p"] = found.p_value if found else None
    return record
