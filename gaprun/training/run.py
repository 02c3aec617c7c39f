"""One job from start to end: data, towers, steps, measurements; every stage lands in the store."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from gaprun.errors import GaprunError
from gaprun.evaluation.run import evaluate_run
from gaprun.model.towers import build_towers, full_vocabulary
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe.jobs import Job
from gaprun.store import Store
from gaprun.training.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from gaprun.training.distributed import ALONE, World
from gaprun.training.environment import code_version, environment, pick_device, prepare
from gaprun.training.events import Event, Interrupted, Report, StopRequest
from gaprun.training.head import Head
from gaprun.training.loop import checkpoint_content, job_tokens, train_steps
from gaprun.training.preflight import Prepared, new_run, prepare_job
from gaprun.training.state import TrainState

BEAT_SECONDS = 60.0


def run_job(job: Job, store: Store, device_name: str, report: Report, world: World = ALONE) -> None:
    """Train and measure `job`, or go on where it stopped; what is done already is not done again.

    Every process of `world` calls this; the first alone writes to the store and reports. Raises UserError before
    anything is written when the job cannot start, Failure when it fails on the way (status `failed` with the error),
    Interrupted after Ctrl-C or SIGTERM or when a process of `world` was lost (status `interrupted`).
    """
    device = pick_device(device_name)

    def check() -> Prepared:
        prepare(job.recipe.compute, device)
        ready = prepare_job(job, store if world.first else None)
        world.rows(ready.length.batch_size)
        return ready

    ready = world.together(check)
    folder = store.artifacts / job.id
    here = environment(device) | {"processes": world.size}
    world.on_first(lambda: store.begin_run(new_run(job, ready, store.artifacts, code_version(), here)))
    with StopRequest().listening() as stop:
        try:
            _train_and_measure(job, store, device, ready, folder, stop, report, world)
        except BaseException as error:
            if world.first:
                _record_end(store, job, error)
            raise


def _record_end(store: Store, job: Job, error: BaseException) -> None:
    if isinstance(error, Interrupted | KeyboardInterrupt):
        store.finish_run(job.id, "interrupted", error=str(error) or "stopped by a second signal")
        return
    text = str(error) if isinstance(error, GaprunError) else f"{type(error).__name__}: {error}"
    store.finish_run(job.id, "failed", error=text.splitlines()[0] if text else type(error).__name__)


def _train_and_measure(
    job: Job,
    store: Store,
    device: torch.device,
    ready: Prepared,
    folder: Path,
    stop: StopRequest,
    report: Report,
    world: World,
) -> None:
    state, saved = _prepare_state(job, store, device, ready, folder, report, world)
    if state.step < ready.length.total:
        path, identity = train_steps(job, store, state, ready.splits, folder, stop, report)
    else:
        path, identity = saved or world.on_first(
            lambda: save_checkpoint(folder / "checkpoints", checkpoint_content(state, job), 1)
        )
    state.end()
    if state.damaged and world.first:
        store.annotate(job.id, {"damaged": sorted(state.damaged)})
    place = str(path.relative_to(store.artifacts.parent))
    last_beat = time.monotonic()

    def measuring(phase: str, done: int, total: int) -> None:
        nonlocal last_beat
        report(Event(job.id, phase, done, total))
        if time.monotonic() - last_beat > BEAT_SECONDS:
            last_beat = time.monotonic()
            store.heartbeat(job.id, state.step)

    evaluate_run(
        towers=state.towers,
        checkpoint_hash=identity,
        step=state.step,
        tasks=list(job.recipe.eval),
        store=store,
        run_id=job.id,
        device=device,
        workers=job.recipe.data.workers,
        progress=measuring,
        training_values={"temperature": 1.0 / state.beta_value()},
        train_name=ready.name,
        should_stop=lambda: stop.raise_if(state.step),
        world=world,
    )
    world.on_first(lambda: store.finish_run(job.id, "finished", checkpoint=place, checkpoint_hash=identity))


def _prepare_state(
    job: Job,
    store: Store,
    device: torch.device,
    ready: Prepared,
    folder: Path,
    report: Report,
    world: World,
) -> tuple[TrainState, tuple[Path, str] | None]:
    recipe = job.recipe

    def build() -> TrainState:
        vocabulary = None
        if recipe.model.vocabulary == "used":
            texts = [text for s in ready.splits for captions in s.captions for text in captions]
            tokens = job_tokens(job, store, texts, report)
            vocabulary = Vocabulary.used_in(tokens, full_vocabulary(recipe.model))
        torch.manual_seed(job.seed)
        towers = build_towers(recipe.model, vocabulary)
        head = Head.of(recipe, job.seed)
        return TrainState(recipe, job.seed, ready.length, towers, head, device, world=world)

    state = world.first_then_rest(build)
    # Only the first process looks at the disk, so that all go on from the same step.
    found = world.on_first(lambda: _newest(job, folder, report))
    if found is None:
        return state, None
    content, path, identity = found
    state.load_state_dict(content)
    return state, (path, identity)


def _newest(job: Job, folder: Path, report: Report) -> tuple[dict[str, Any], Path, str] | None:
    """Content, path and weights hash of the newest undamaged checkpoint."""
    try:
        path, damaged = newest_checkpoint(folder / "checkpoints")
    except FileNotFoundError:
        return None
    for bad in damaged:
        report(Event(job.id, "resume", 0, 1, f"{bad.name} is damaged; using {path.name}"))
    note = json.loads(path.with_suffix(".json").read_text())
    return load_checkpoint(path), path, note["weights_hash"]
