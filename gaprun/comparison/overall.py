"""A comparison of many metrics as one table of a row a recipe (`compare --aggregate`): `aggregate` of its values.

What is pooled is said: each metric and split is one task, measured by one protocol, in units of its own spread of runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gaprun.comparison.aggregate import THRESHOLDS, OverTasks, over_tasks
from gaprun.comparison.shown import usual
from gaprun.comparison.statistics import FEWEST_PAIRS, Interval, settled
from gaprun.comparison.table import natural
from gaprun.comparison.values import Column, Comparison
from gaprun.comparison.views import mixed_in, view_of
from gaprun.errors import UserError
from gaprun.metrics import NONE, UP
from gaprun.tables import Heading, Table
from gaprun.tables.numbers import bracketed, counted, fixed, signed

ABOUT = (
    "A score is a run's difference from the baseline (of its own seed where three are shared, else from the mean), "
    "better being positive, in standard deviations of one run of that metric, pooled over the rows of the set-up.",
    "IQM: mean of the middle half of a row's scores. Better: percent chance that a run of the row beats one of the "
    "baseline, mean over metrics. > 1: percent of scores above 1. [95 %: Student's t, stratified bootstrap of seeds "
    "with all their metrics]; none where all draws agree.",
    "Metrics that measure almost the same count as often as they are named.",
)


def aggregated(comparison: Comparison, top: int | None = None) -> Table:
    """Interquartile mean, probability of improvement and performance profile of each row that has a baseline.

    Over the columns with a better side and a spread between runs, one protocol a metric and split (`shown.usual`); rows
    need all of them. Raises UserError where there is no baseline, or nothing to pool.
    """
    columns = [c for c in usual(comparison).columns if c.direction != NONE]
    baselines = {g: b for g in comparison.groups if (b := comparison.baselines.get(g, g)) != g}
    if not baselines:
        raise UserError("--aggregate: no row has a baseline to be better than; name one with --baseline")
    scales = {b: _scales(comparison, columns, b) for b in dict.fromkeys(baselines.values())}
    tasks = [c for c in columns if all(c in scale for scale in scales.values())]
    if not tasks:
        raise UserError(
            "--aggregate: no metric has a better side and rows of two seeds, whose spread is its unit"
        )
    rows, records, missing = [], [], 0
    for group, baseline in baselines.items():
        sides = [_values(comparison, one, tasks, scales[baseline]) for one in (group, baseline)]
        if not all(sides):
            missing += 1
            continue
        shared = [unit for unit in sides[0] if unit in sides[1]]
        paired = len(shared) >= FEWEST_PAIRS
        ours, theirs = (np.array([side[unit] for unit in (shared if paired else side)]) for side in sides)
        found = over_tasks(ours, theirs, paired)
        rows.append(_row(group, found))
        mixed = mixed_in(comparison, tasks, [group, baseline])
        records.append(_record(group, baseline, found, paired, tasks) | {"mixed": mixed})
    if not rows:
        raise UserError("--aggregate: no row has all the metrics; ask for fewer")
    order = sorted(range(len(rows)), key=lambda i: (-records[i]["iqm"], natural(records[i]["group"])))
    legend = [f"{counted(len(tasks), 'metric')} as one: {', '.join(map(_place, tasks))}.", *ABOUT]
    if len(tasks) < len(columns):
        left = ", ".join(_place(c) for c in columns if c not in tasks)
        legend.append(f"Left out, without a spread between runs: {left}.")
    if missing:
        legend.append(f"{counted(missing, 'row')} without all metrics left out.")
    heads = [
        Heading(comparison.by, wrap=True),
        Heading(f"{comparison.unit}s", right=True),
        Heading("IQM", right=True),
        Heading("better, %", right=True),
        *(Heading(f"> {fixed(threshold, 0)}", right=True) for threshold in THRESHOLDS),
    ]
    return view_of(
        "over metrics", comparison, heads, [rows[i] for i in order], legend, [records[i] for i in order], top
    )


def _scales(comparison: Comparison, columns: Sequence[Column], baseline: str) -> dict[Column, float]:
    """The standard deviation of one run in each column, pooled over the baseline's rows; without one no entry."""
    found = {}
    rows = [g for g in comparison.groups if comparison.baselines.get(g) == baseline]
    for column in columns:
        cells = [comparison.cells[g, column] for g in rows if (g, column) in comparison.cells]
        df = sum(cell.summary.n - 1 for cell in cells)
        squares = math.fsum((cell.summary.std or 0.0) ** 2 * (cell.summary.n - 1) for cell in cells)
        largest = max((abs(cell.summary.mean) for cell in cells), default=0.0)
        if df and math.sqrt(squares / df) > 1e-12 * largest:
            found[column] = math.sqrt(squares / df)
    return found


def _values(
    comparison: Comparison, group: str, tasks: Sequence[Column], scales: Mapping[Column, float]
) -> dict[Any, list[float]]:
    """By unit, if it has all tasks, the values in units of their spread, higher being better."""
    cells = [comparison.cells.get((group, column)) for column in tasks]
    if None in cells:
        return {}
    signs = [(1 if c.direction == UP else -1) / scales[c] for c in tasks]
    own = [cell.by_unit for cell in cells if cell]
    units = [unit for unit in own[0] if all(unit in values for values in own)]
    return {u: [settled(sign * values[u]) for sign, values in zip(signs, own, strict=True)] for u in units}


def _row(group: str, found: OverTasks) -> tuple[str, ...]:
    share = found.improvement_ci95
    percent = None if share is None else (100 * share[0], 100 * share[1])
    return (
        group,
        str(found.seeds),
        f"{signed(found.iqm, 2)} {bracketed(found.iqm_ci95, 2, sign=True)}".rstrip(),
        f"{fixed(100 * found.improvement, 0)} {bracketed(percent, 0)}".rstrip(),
        *(fixed(100 * share, 0) for share in found.profile),
    )


def _record(
    group: str, baseline: str, found: OverTasks, paired: bool, tasks: Sequence[Column]
) -> dict[str, Any]:
    profile = {
        f"above_{threshold:g}": share for threshold, share in zip(THRESHOLDS, found.profile, strict=True)
    }
    intervals = {
        f"above_{threshold:g}_ci95": _listed(interval)
        for threshold, interval in zip(THRESHOLDS, found.profile_ci95, strict=True)
    }
    return {
        "group": group,
        "baseline": baseline,
        "n": found.seeds,
        "paired": paired,
        "tasks": [_place(column) for column in tasks],
        "iqm": found.iqm,
        "iqm_ci95": _listed(found.iqm_ci95),
        "improvement": found.improvement,
        "improvement_ci95": _listed(found.improvement_ci95),
        **profile,
        **intervals,
    }


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def _place(column: Column) -> str:
    return f"{column.metric} ({column.dataset}/{column.split}, {column.protocol})"
