"""Measuring one model: every task on every split it names, each value stored once with what produced it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gaprun.errors import Failure, GaprunError, UserError
from gaprun.evaluation.catalogue import declared
from gaprun.evaluation.embed import Progress, StoredEmbedder
from gaprun.evaluation.given import Given, GivenEmbedder
from gaprun.evaluation.shared import SharedEmbedder
from gaprun.evaluation.task import Embedder, Measured, Task
from gaprun.evaluation.transformed import Transformed
from gaprun.evaluation.transforms import Map, Transform
from gaprun.files import content_hash, plain_name, what_to_do, write_atomically
from gaprun.model.towers import Towers
from gaprun.protocols import FINAL, Protocol
from gaprun.runtime.cards import explained
from gaprun.runtime.distributed import ALONE, World
from gaprun.runtime.environment import code_version
from gaprun.runtime.events import Interrupted
from gaprun.store import EvaluationKey, Store
from gaprun.store.folders import own as own_folder

MORE_ROOM = "free the card of other programs and measure again, or use `gaprun eval --ckpt RUN --device cpu`"


@dataclass
class Evaluated:
    """What `evaluate_run` did: ids of the evaluations found or made, in order; `failures` as (what, why).

    `encoded` counts the images that an encoder was run on; `device` says on what, `cpu fp32`.
    """

    evaluations: list[int] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    encoded: int = 0
    device: str = ""

    def raise_failures(self) -> None:
        """Raise what could not be measured, if anything: alone as it is, several (or beside others) as a Failure."""
        if not self.failures:
            return
        what, error = self.failures[0]
        if len(self.failures) == 1 and not self.evaluations:
            raise error if isinstance(error, GaprunError) else Failure(f"{what}: {said(error)}") from error
        reasons = "; ".join(f"{what}: {said(error)}" for what, error in self.failures)
        raise Failure(
            f"{len(self.failures)} of {len(self.failures) + len(self.evaluations)} measurements could not be made "
            f"(the others are kept): {reasons}"
        )


def said(error: Exception) -> str:
    """One line of what `error` says."""
    text = str(error) if isinstance(error, GaprunError) else f"{type(error).__name__}: {error}"
    return (text.splitlines() or [type(error).__name__])[0]


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
    own: bool = True,
    keep: bool = True,
) -> Evaluated:
    """Measure `tasks` for one checkpoint of `run_id` and store the values; what the store has is not redone.

    A task that fails does not stop the others (but where several processes measure together). `training_values` (the
    temperature) are stored as the task `training`. `own`: the towers are those that the run's recipe says, so that what
    an earlier version measured of this checkpoint, without saying of which model, counts too. `keep`: whether
    embeddings stay on the disk. Every process of `world` calls this; all encode, the first one measures and writes.
    """
    folder = store.artifacts / "embeddings" if keep else None
    done = Evaluated()
    if world.size == 1:
        embedder = StoredEmbedder(towers, checkpoint_hash, folder, device, workers=workers, progress=progress)
        measuring = _Measuring(embedder, step, store, run_id, own, done)
        measuring.all(tasks, training_values, train_name, should_stop)
    else:
        embedder = shared = SharedEmbedder(
            towers, checkpoint_hash, folder, device, workers=workers, progress=progress, world=world
        )
        if world.first:
            with shared.leading():
                measuring = _Measuring(shared, step, store, run_id, own, done)
                measuring.all(tasks, training_values, train_name, should_stop, keep_going=False)
        else:
            shared.serve()
    done.encoded, done.device = embedder.encoded, embedder.identity.ran_on
    done.remarks += embedder.remarks
    return done


def evaluate_given(given: Given, tasks: Sequence[Task], store: Store, run_id: str) -> Evaluated:
    """Measure `tasks` on embeddings that another program made; what the store has is not redone.

    A task that fails does not stop the others.
    """
    done = Evaluated(device="elsewhere")
    measuring = _Measuring(GivenEmbedder(given), 0, store, run_id, True, done)
    for task in tasks:
        try:
            measuring.source(task, given)
        except Exception as error:
            if os.environ.get("GAPRUN_DEBUG") and not isinstance(error, GaprunError):
                raise
            done.failures.append((f"{task.task} on {given.path}", error))
    return done


@dataclass
class _Measuring:
    """One checkpoint being measured into the store."""

    embedder: StoredEmbedder | GivenEmbedder
    step: int
    store: Store
    run_id: str
    own: bool
    done: Evaluated
    fitted: dict[tuple[Transform, str], Map] = field(default_factory=dict)
    code: str = field(default_factory=lambda: code_version())
    unrecorded: bool = False

    def all(
        self,
        tasks: Sequence[Task],
        training_values: dict[str, float] | None,
        train_name: str,
        should_stop: Callable[[], None],
        keep_going: bool = True,
    ) -> None:
        """Every task on every split by every protocol, after the training's own values."""
        # An evaluation that does not say its device was made where the run was trained.
        self.unrecorded = self.own and self._trained_on() == self.embedder.identity.device
        if training_values:
            dataset, _, split_name = train_name.rpartition("/")
            key = EvaluationKey(
                self.embedder.checkpoint_hash, self.step, "training", dataset, split_name, "", FINAL
            )
            if not self.store.has_evaluation(self.run_id, key):
                self.store.add_evaluation(self.run_id, key, training_values, 1, 1, code_version=self.code)
        for task in tasks:
            for ref in task.data:
                should_stop()
                try:
                    with explained("measuring", MORE_ROOM):
                        self.one(task, ref, should_stop)
                except Interrupted:
                    raise
                except Exception as error:
                    if not keep_going or (
                        os.environ.get("GAPRUN_DEBUG") and not isinstance(error, GaprunError)
                    ):
                        raise
                    self.done.failures.append((f"{task.task} on {ref}", error))

    def _trained_on(self) -> str | None:
        try:
            device: str | None = self.store.run(self.run_id).environment.get("device")
        except GaprunError:  # a training goes on where its database is gone
            return None
        return device

    def one(self, task: Task, ref: str, should_stop: Callable[[], None]) -> None:
        """`task` on the data `ref`."""
        self.source(task, task.open(ref), should_stop)

    def source(self, task: Task, split: Any, should_stop: Callable[[], None] = lambda: None) -> None:
        """`task` on data that are open, by each of its protocols."""
        identity = self.embedder.identity
        for protocol in task.all_protocols(split):
            should_stop()
            key = task.key(split, protocol, self.embedder.checkpoint_hash, self.step)
            key = replace(key, model_hash=identity.model_hash, device=identity.ran_on)
            found = self.store.find_evaluation(self.run_id, key, unrecorded=self.unrecorded)
            if found is not None:
                self.done.evaluations.append(found.id)
                continue
            self.store.check_may_store()
            measured = task.measure(self._seen_through(task, split, protocol), split, protocol)
            check_declared(task, measured)
            details = keep_details(own_folder(self.store, self.run_id) / "details", key, measured)
            place = str(details.relative_to(self.store.artifacts.parent)) if details else None
            number = self.store.add_evaluation(
                self.run_id, key, measured.values, measured.n, measured.d, place, code_version=self.code
            )
            self.done.evaluations.append(number)

    def _seen_through(self, task: Task, split: Any, protocol: Protocol) -> Embedder:
        """The embedder, after the protocol's transform (fitted once a checkpoint and training split)."""
        if not protocol.transform:
            return self.embedder
        train, transform = task.fitted_on(split), task.transform(protocol)
        key = transform, train.fingerprint
        if key not in self.fitted:
            found = transform.fit(self.embedder.embeddings(train))
            if not isinstance(found, Map):
                raise UserError(
                    f"the transform {transform.name} ({type(transform).__name__}.fit) gives {type(found).__name__}, "
                    "not Map(image_steps, text_steps)"
                )
            self.fitted[key] = found
        return Transformed(self.embedder, self.fitted[key])


def check_declared(task: Task, measured: Measured) -> None:
    """Raise UserError for an answer that is no `Measured` of numbers, and for a value whose metric no task declares:
    what is it, and which way is better?"""
    name = f"the task {task.task} ({type(task).__name__}.measure)"
    if not isinstance(measured, Measured):
        raise UserError(f"{name} gives {type(measured).__name__}, not Measured(values, n, d)")
    odd = [key for key, value in measured.values.items() if np.ndim(value) or not _is_number(value)]
    if odd or not measured.values:
        what = f"no number as {', '.join(odd)}" if odd else "no value at all"
        raise UserError(f"{name} gives {what}: a value is a float, NaN where it is not defined")
    if not all(isinstance(size, (int, np.integer)) for size in (measured.n, measured.d)):
        raise UserError(
            f"{name} gives n={measured.n}, d={measured.d}: whole numbers, of items and of dimensions"
        )
    unknown = sorted(set(measured.values) - set(declared()))
    if unknown:
        raise UserError(
            f"the task {task.task} gives {', '.join(unknown)}, which no task declares: add a Metric of that name to "
            f"{type(task).__name__}.metrics"
        )


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str)


def keep_details(folder: Path, key: EvaluationKey, measured: Measured) -> Path | None:
    """Per-query and per-image results in one compressed file, for paired comparisons later.

    Its name says the task, protocol and step, and holds a hash of all that identifies the evaluation, so that two
    checkpoints, models or data sets never write the same file.
    """
    if not measured.details:
        return None
    identity = [
        key.checkpoint_hash, key.model_hash, key.task, key.data_fingerprint, key.protocol.id, key.options_hash,
        key.definition,
    ]  # fmt: skip
    protocol = re.sub(r"[^A-Za-z0-9._+=,-]+", "_", key.protocol.id)[:80]
    name = f"{key.task}-{protocol}-{key.step}-{content_hash(identity)[:16]}.npz"
    path = folder / plain_name(name, "details file")

    def write(target: Path) -> None:
        with target.open("wb") as file:
            np.savez_compressed(file, **measured.details)

    try:
        write_atomically(path, write)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror or error}; {what_to_do(error)}") from None
    return path
