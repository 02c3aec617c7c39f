"""What every receiver of runs gets: one run's facts, recipe, trajectory and final metrics as flat names and numbers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gaprun.store import Store
from gaprun.store.database import TRAJECTORY_COLUMNS
from gaprun.store.models import Run
from gaprun.store.where import dotted_keys, lookup

CURVES = tuple(name for name in TRAJECTORY_COLUMNS if name not in ("step", "samples_seen"))


@dataclass(frozen=True)
class FlatRun:
    """`parameters`: the recipe by dotted key, as text. `metrics` and `curves`: (name, step, value), no NULLs.

    Metrics are named `dataset/split/protocol/metric`, curves `trajectory/column`.
    """

    run: Run
    parameters: dict[str, str]
    metrics: list[tuple[str, int, float]]
    curves: list[tuple[str, int, float]]

    @property
    def facts(self) -> dict[str, str]:
        """What identifies the run, as text."""
        names = ("recipe", "kind", "seed", "recipe_hash", "status", "code_version", "checkpoint_hash")
        values = {name: getattr(self.run, name) for name in names}
        source = (self.run.environment or {}).get("source")
        return {
            name: str(value) for name, value in (values | {"source": source}).items() if value is not None
        }


def flat_run(store: Store, run_id: str) -> FlatRun:
    """The run `run_id` made flat; of each metric its latest value."""
    run = store.run(run_id)
    recipe = run.resolved_recipe
    metrics = [
        (f"{row['dataset']}/{row['split']}/{row['protocol']}/{row['metric']}", row["step"], row["value"])
        for row in store.metrics(run_id)
        if row["value"] is not None
    ]
    curves = [
        (f"trajectory/{name}", row["step"], row[name])
        for row in store.trajectory(run_id)
        for name in CURVES
        if row[name] is not None
    ]
    parameters = {key: _text(lookup(recipe, key)) for key in dotted_keys(recipe)}
    return FlatRun(run, parameters, metrics, curves)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
