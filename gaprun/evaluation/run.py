"""Measuring one model: every task on every split it names, each value stored once with what produced it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from gaprun.evaluation.embed import Progress, StoredEmbedder
from gaprun.evaluation.shared import SharedEmbedder
from gaprun.evaluation.task import Measured, Task
from gaprun.model.towers import Towers
from gaprun.store import EvaluationKey, Store
from gaprun.store.folders import own
from gaprun.training.distributed import ALONE, World


def evaluate_run(
    *,
    towers: Towers,
    checkpoint_hash: str,
    step: int,
    tasks: Sequence[Task],
    store: Store,
    run_id: str,
    device: torch.device,
    workers: int = 0,
    progress: Progress | None = None,
    training_values: dict[str, float] | None = None,
    train_name: str = "",
    should_stop: Callable[[], None] = lambda: None,
    world: World = ALONE,
) -> StoredEmbedder:
    """Measure `tasks` for one checkpoint of `run_id` and store the values; what the store has is not redone.

    `training_values` (the final temperature) are stored as the task `training`. Returns the embedder, whose
    `encoded` counts the images that an encoder was run on. Every process of `world` calls this; all encode, the first
    one measures and writes.
    """
    folder = store.artifacts / "embeddings"
    if world.size == 1:
        embedder = StoredEmbedder(towers, checkpoint_hash, folder, device, workers=workers, progress=progress)
        _measure_all(embedder, step, tasks, store, run_id, training_values, train_name, should_stop)
        return embedder
    shared = SharedEmbedder(
        towers, checkpoint_hash, folder, device, workers=workers, progress=progress, world=world
    )
    if world.first:
        with shared.leading():
            _measure_all(shared, step, tasks, store, run_id, training_values, train_name, should_stop)
    else:
        shared.serve()
    return shared


def _measure_all(
    embedder: StoredEmbedder,
    step: int,
    tasks: Sequence[Task],
    store: Store,
    run_id: str,
    training_values: dict[str, float] | None,
    train_name: str,
    should_stop: Callable[[], None],
) -> None:
    checkpoint_hash = embedder.checkpoint_hash
    if training_values:
        dataset, _, split_name = train_name.rpartition("/")
        key = EvaluationKey(checkpoint_hash, step, "training", dataset, split_name, "", "final")
        if store.find_evaluation(run_id, key) is None:
            store.add_evaluation(run_id, key, training_values, 1, 1)
    for task in tasks:
        for ref in task.data:
            split = task.open(ref)
            for protocol in task.protocols(split):
                should_stop()
                key = task.key(split, protocol, checkpoint_hash, step)
                if store.find_evaluation(run_id, key) is None:
                    measured = task.measure(embedder, split, protocol)
                    details = _keep(own(store, run_id) / "details", key, measured)
                    place = str(details.relative_to(store.artifacts.parent)) if details else None
                    store.add_evaluation(run_id, key, measured.values, measured.n, measured.d, place)


def _keep(folder: Path, key: EvaluationKey, measured: Measured) -> Path | None:
    """Per-query and per-image results in one compressed file, for paired comparisons later."""
    if not measured.details:
        return None
    name = f"{key.task}-{key.data_fingerprint[:12]}-{key.protocol}-{key.options_hash[:8]}-{key.step}.npz"
    folder.mkdir(parents=True, exist_ok=True)
    path, temporary = folder / name, folder / f".{name}"
    with temporary.open("wb") as file:
        np.savez_compressed(file, **measured.details)
    temporary.replace(path)
    return path
