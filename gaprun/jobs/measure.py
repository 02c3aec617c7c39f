"""Measuring any model: find it, give it a run in the database, measure, and hand back the values."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from gaprun.data.parallel import usable_cores
from gaprun.errors import GaprunError, UserError
from gaprun.evaluation.choose import task_names
from gaprun.evaluation.embed import Progress
from gaprun.evaluation.run import Evaluated, evaluate_run
from gaprun.evaluation.task import Task
from gaprun.jobs.load import LoadedModel, load_model
from gaprun.runtime.environment import code_version, environment, pick_device
from gaprun.runtime.events import Interrupted
from gaprun.runtime.kernels import set_kernels
from gaprun.runtime.spec import Compute
from gaprun.store import NewRun, Store

LOADERS = 16  # loader processes at most where none are asked for


@dataclass(frozen=True)
class Measurement:
    """Values of one model on the data asked for, exactly those; `encoded` counts the images that an encoder was run on.

    `device`: what it was measured on, `cpu fp32`. `remarks`: what was assumed on the way. `failures`: (what, why) for
    each measurement that could not be made.
    """

    run_id: str
    encoded: int
    metrics: list[dict[str, Any]]
    device: str = ""
    remarks: list[str] = field(default_factory=list)
    failures: list[tuple[str, Exception]] = field(default_factory=list)

    def raise_failures(self) -> None:
        """Raise what could not be measured, if anything; the values of the others are stored."""
        Evaluated([0] * len(self.metrics[:1]), self.failures).raise_failures()


def measure_model(
    store: Store,
    *,
    ckpt: str | None,
    arch: str | None,
    pretrained: str | None,
    tasks: Sequence[Task] | None,
    names: str | None = None,
    how: Mapping[str, Any] | None = None,
    random: bool = False,
    step: int | None = None,
    failures: Sequence[tuple[str, Exception]] = (),
    device_name: str = "auto",
    workers: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    channels_last: bool = False,
    progress: Progress | None = None,
) -> Measurement:
    """Measure the model that `ckpt`, or `arch` with `pretrained`, names; `tasks` None takes its recipe's own.

    `names` (comma-separated) narrows the recipe's tasks, `how` replaces their `transforms` and `fit`; `random` allows
    an architecture without weights; `step` names a run's checkpoint; `failures` are what the caller could not choose
    already. `workers` None takes loader processes on a GPU, and none on the CPU. `precision` bf16 and `channels_last`
    change how the towers compute, which is kept with every value. Raises UserError for what is not found or does not
    fit.
    """
    if ckpt is not None and pretrained is not None:
        raise UserError("--pretrained goes with --model ARCH and without --ckpt")
    device = pick_device(device_name)
    loaded = load_model(store, ckpt, arch, pretrained, random, step)
    if ckpt is not None and arch is not None and loaded.resolved.get("model", {}).get("arch") != arch:
        loaded.remarks.append(f"--model {arch} is not used: {ckpt} says its own architecture")
    chosen = _recipe_tasks(loaded, names, how or {}) if tasks is None else list(tasks)
    loaded.towers.autocast = None if precision == "fp32" else precision
    loaded.towers.channels_last = channels_last
    if workers is None:
        workers = max(0, min(LOADERS, usable_cores() - 1)) if device.type == "cuda" else 0
    set_kernels(loaded.recipe.compute if loaded.recipe else Compute(), device)
    _ensure_run(store, loaded, device)
    done = evaluate_run(
        towers=loaded.towers,
        checkpoint_hash=loaded.checkpoint_hash,
        step=loaded.step,
        tasks=chosen,
        store=store,
        run_id=loaded.run_id,
        device=device,
        workers=workers,
        progress=progress,
        own=loaded.own,
    )
    return Measurement(
        run_id=loaded.run_id,
        encoded=done.encoded,
        metrics=store.metrics_by_evaluation(done.evaluations),
        device=done.device,
        remarks=[*loaded.remarks, *done.remarks],
        failures=[*failures, *done.failures],
    )


def measure_models(
    ckpts: Sequence[str], measure: Callable[[str], Measurement]
) -> tuple[list[Measurement], list[tuple[str, Exception]]]:
    """`measure` each of `ckpts`, one after another: what was measured, and (which, why) for what could not be.

    One that fails does not stop the others.
    """
    done: list[Measurement] = []
    failures: list[tuple[str, Exception]] = []
    for ckpt in ckpts:
        try:
            found = measure(ckpt)
        except Interrupted:
            raise
        except Exception as error:
            if os.environ.get("GAPRUN_DEBUG") and not isinstance(error, GaprunError):
                raise
            failures.append((ckpt, error))
        else:
            done.append(found)
            failures += [(f"{ckpt}: {what}", error) for what, error in found.failures]
    return done, failures


def _recipe_tasks(loaded: LoadedModel, names: str | None, how: Mapping[str, Any]) -> list[Task]:
    tasks = [task.model_copy(update=dict(how)) for task in loaded.recipe.eval] if loaded.recipe else []
    wanted = task_names(names) if names is not None else [task.task for task in tasks]
    missing = [name for name in wanted if name not in {task.task for task in tasks}]
    if missing or not tasks:
        what = f"does not measure {', '.join(missing)}" if missing else "measures nothing"
        raise UserError(f"run {loaded.run_id}: its recipe {what}; name the data to measure on with --data")
    return [task for task in tasks if task.task in wanted]


def _ensure_run(store: Store, loaded: LoadedModel, device: torch.device) -> None:
    """A model that has no run in this database gets one, so that its values stand in the same tables."""
    if loaded.own or any(run.id == loaded.run_id for run in store.runs([f"id={loaded.run_id}"])):
        return
    text = json.dumps(loaded.resolved, sort_keys=True)
    store.begin_run(
        NewRun(
            id=loaded.run_id,
            recipe=str(loaded.resolved["name"]),
            kind="external",
            seed=loaded.seed,
            recipe_hash=hashlib.sha256(text.encode()).hexdigest(),
            resolved_recipe=loaded.resolved,
            environment=environment(device) | {"source": loaded.source, "remarks": loaded.remarks},
            code_version=code_version(),
            folder=f"{store.artifacts.name}/{loaded.run_id}",
            total_steps=loaded.step,
        )
    )
    store.heartbeat(loaded.run_id, loaded.step)
    store.finish_run(
        loaded.run_id, "finished", checkpoint=loaded.source, checkpoint_hash=loaded.checkpoint_hash
    )
