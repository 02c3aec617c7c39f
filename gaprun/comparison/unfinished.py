"""Runs that belong to a comparison and are not in it, because they are not finished: what a reader would miss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from gaprun.comparison.baselines import BASELINE
from gaprun.store.selecting import METRIC_KEYS
from gaprun.store.where import parse_conditions

if TYPE_CHECKING:
    from gaprun.store.columns import ValueColumns
    from gaprun.store.database import Store
    from gaprun.store.models import Run

MOST_NAMED = 6


def left_out(store: Store, columns: ValueColumns, where: Sequence[str], baseline: str | None) -> list[str]:
    """A line that names them: unfinished runs of these recipes whose seed no row has, and of the baseline where no
    row is called so; none for others, which nobody asked for.
    """
    of_runs = [text for c in parse_conditions(where) if c.key not in METRIC_KEYS for text in c.texts()]

    @cache
    def have() -> tuple[set[Any], set[Any], set[Any]]:  # of what is seldom asked
        return (
            set(columns["recipe_hash"]),
            set(columns["recipe"]),
            set(columns.entries("recipe_hash", "seed")),
        )

    def belongs(run: Run) -> bool:
        trained, called, seeds = have()
        known = run.recipe_hash in trained or run.recipe in {baseline or BASELINE} - called
        return known and (run.recipe_hash, run.seed) not in seeds

    missing = store.unfinished(of_runs, belongs)
    missing.sort(key=lambda run: (run.recipe, run.seed is None, run.seed or 0))
    named = [f"{run.recipe} seed {run.seed} ({run.status})" for run in missing[:MOST_NAMED]]
    more = f" and {len(missing) - MOST_NAMED} more" if len(missing) > MOST_NAMED else ""
    return [f"left out as not finished: {', '.join(named)}{more}"] if missing else []
