"""What every receiver of runs gets: one run's facts, recipe, trajectory and metrics as flat names and numbers.

Each run is sent by itself: one that cannot be sent, and why, is said, and the others are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gaprun.errors import GaprunError
from gaprun.store import Store
from gaprun.store.models import Run
from gaprun.store.reading import TRAJECTORY_COLUMNS
from gaprun.store.where import dotted_keys, lookup

SAMPLES = "samples_seen"
CURVES = tuple(name for name in TRAJECTORY_COLUMNS if name not in ("step", SAMPLES))


PATIENCE = 3  # failures in a row after which the receiver is taken to be away, and the rest is not tried

Progress = Callable[[int, int], None]


@dataclass
class Sent:
    """How much was sent, by kind, and what was not, a line each beginning with the run."""

    counts: dict[str, int]
    problems: list[str] = field(default_factory=list)


def send_each(
    store: Store,
    run_ids: Sequence[str],
    sent: Sent,
    send_one: Callable[[FlatRun], None],
    progress: Progress | None,
) -> Sent:
    """`send_one` for each run, made flat; a GaprunError of it becomes one of `sent`'s problems."""
    failures = 0
    for done, run_id in enumerate(run_ids):
        try:
            send_one(flat_run(store, run_id))
            failures = 0
        except GaprunError as error:
            failures += 1
            sent.problems.append(f"{run_id}: not sent ({error})")
        if progress is not None:
            progress(done + 1, len(run_ids))
        if failures == PATIENCE and (rest := run_ids[done + 1 :]):
            sent.problems.append(f"not tried after {PATIENCE} failures in a row: {', '.join(rest)}")
            break
    return sent


@dataclass(frozen=True)
class FlatRun:
    """`parameters`: the recipe by dotted key, as text. `metrics` and `curves`: (name, step, value), no NULLs.

    Metrics are named `dataset/split/protocol/metric`, curves `trajectory/column`. `samples`: how many were
    seen, which is no curve to look at.
    """

    run: Run
    parameters: dict[str, str]
    metrics: list[tuple[str, int, float]]
    curves: list[tuple[str, int, float]]
    samples: list[tuple[str, int, float]]

    @property
    def facts(self) -> dict[str, str]:
        """What identifies the run, and what was said of it, as text."""
        names = ("recipe", "kind", "seed", "recipe_hash", "status", "code_version", "checkpoint_hash")
        values = {name: getattr(self.run, name) for name in names}
        source = (self.run.environment or {}).get("source")
        said = {"source": source, "tags": ", ".join(self.run.tag) or None, "note": self.run.note or None}
        return {name: str(value) for name, value in (values | said).items() if value is not None}


def flat_run(store: Store, run_id: str) -> FlatRun:
    """The run `run_id` made flat; of each metric its latest value at each step it was measured at."""
    run = store.run(run_id)
    recipe = run.resolved_recipe
    metrics = sorted(
        (f"{row['dataset']}/{row['split']}/{row['protocol']}/{row['metric']}", row["step"], row["value"])
        for row in store.metric_rows(None, run_ids=[run_id], every_step=True)
        if row["value"] is not None
    )
    trajectory = store.trajectory(run_id)
    curves, samples = (
        [
            (f"trajectory/{name}", row["step"], row[name])
            for row in trajectory
            for name in names
            if row[name] is not None
        ]
        for names in (CURVES, (SAMPLES,))
    )
    parameters = {key: _text(lookup(recipe, key)) for key in dotted_keys(recipe)}
    return FlatRun(run, parameters, metrics, curves, samples)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
