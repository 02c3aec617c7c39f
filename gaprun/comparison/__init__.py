"""From stored metrics to answers: means over seeds with intervals, differences, and their tables."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gaprun.comparison.families import Family
    from gaprun.comparison.margins import Margin
    from gaprun.comparison.values import Comparison

__all__ = ["compare", "listed", "uncollected"]
HEALTH_RUNS = 200


def compare(
    metric: str | Sequence[str],
    *,
    db: str | None = None,
    by: str = "recipe",
    where: str | Sequence[str] = (),
    baseline: str | None = None,
    dataset: str | Sequence[str] = (),
    protocol: str | Sequence[str] = (),
    sort: str | None = None,
    top: int | None = None,
    all_statuses: bool = False,
    allow_mixed: bool = False,
    queries: bool = False,
    health: bool | None = None,
    family: Family = "metric",
    margin: Margin | None = None,
    at: str | None = None,
) -> Comparison:
    """Compare runs in the database `db` on one or several metrics; the command of the same name in Python.

    `by`: recipe, seed or a dotted key of the resolved recipe; `where`: conditions `key=value` or
    `key!=value`; `dataset` entries may be `dataset/split`. `.frame()` of the result is a pandas DataFrame, a
    row a cell. `queries` adds paired tests over queries where they were kept; `health` marks groups with
    flagged runs (None: if there are no more than 200 runs); `family` is what p-values are corrected over
    (`families`); `at` is the moment of training (`step=400`, `epoch=2`, `best:METRIC@DATA/SPLIT`), by default the
    last step measured; `margin`, one or by metric, asks whether differences so large are ruled out; `top` shortens
    what is shown of each set-up and changes no number. Raises UserError for unknown names, for an empty result, and
    for results that must not be averaged.
    """
    from gaprun.comparison import select, table
    from gaprun.comparison.notebook import NotebookComparison
    from gaprun.errors import UserError
    from gaprun.store import open_store

    if family not in ("metric", "table", "none"):
        raise UserError(f"family {family!r}: expected metric, table or none")
    if top is not None and top < 1:
        raise UserError(f"top {top}: expected 1 or more")
    store = open_store(db, create=False)
    names = select.metric_names(store, listed(metric))
    conditions = [
        *listed(where),
        *(f"protocol={name}" for name in listed(protocol)),
        *(f"dataset={name}" for name in listed(dataset)),
    ]
    with uncollected():
        rows, notes = select.load(store, names, by, conditions, all_statuses, allow_mixed, baseline, at=at)
        result = table.build(rows, by, baseline, names, sort, notes, family, allow_mixed, margin)
    if queries:
        from gaprun.comparison.querytests import add_query_tests

        add_query_tests(store, result, rows.rows())
    if health or (health is None and len(set(rows["id"])) <= HEALTH_RUNS):
        from gaprun.comparison.health import mark

        runs: dict[str, str] = dict(rows.entries("id", "group"))
        result.marks = mark(store, runs)
    store.close()
    if top is not None:
        parts: dict[str, list[str]] = {}
        for group in result.groups:
            parts.setdefault(result.names[group].setup, []).append(group)
        first = {group for groups in parts.values() for group in groups[:top]}
        if len(first) < len(result.groups):
            result.notes.append(f"{len(result.groups) - len(first)} more rows are not shown")
        result.groups = [group for group in result.groups if group in first]
    return NotebookComparison.of(result)


def listed(value: str | Sequence[str]) -> list[str]:
    """A text alone as a list of one: to be read letter by letter is nobody's wish."""
    return [value] if isinstance(value, str) else list(value)


@contextmanager
def uncollected() -> Iterator[None]:
    """Python's search for circles put off, also as a decorator: over 100,000 values it takes a third of the time, of
    a command's start a tenth, and there are none to speak of. What was made meanwhile counts as old afterwards, or
    the next object would start the search.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.unfreeze()
        if on:
            gc.enable()
