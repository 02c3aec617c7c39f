"""One job from start to end: data, towers, steps, measurements; every stage lands in the store."""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from gaprun.errors import GaprunError
from gaprun.evaluation.run import evaluate_run
from gaprun.model.towers import build_towers, full_vocabulary
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe.jobs import Job
from gaprun.store import NewRun, Store
from gaprun.training.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from gaprun.training.environment import code_version, environment, pick_device, prepare
from gaprun.training.events import Event, Interrupted, Report, StopRequest
from gaprun.training.loop import checkpoint_content, job_tokens, train_steps
from gaprun.training.preflight import Prepared, prepare_job
from gaprun.training.state import Head, TrainState

BEAT_SECONDS = 60.0


def run_job(job: Job, store: Store, device_name: str, report: Report) -> None:
    """Train and measure `job`, or go on where it stopped; what is done already is not done again.

    Raises UserError before anything is written when the job cannot start, Failure when it fails on the way
    (status `failed` with the error), Interrupted after Ctrl-C or SIGTERM (status `interrupted`).
    """
    device = pick_device(device_name)
    prepare(job.recipe.compute, device)
    ready = prepare_job(job, store)
    folder = store.artifacts / job.id
    store.begin_run(
        NewRun(
            id=job.id,
            recipe=job.recipe.name,
            kind="train",
            seed=job.seed,
            recipe_hash=job.recipe_hash,
            resolved_recipe=job.recipe.model_dump(mode="json"),
            environment=environment(device) | {"data": ready.fingerprints},
            code_version=code_version(),
            folder=f"{store.artifacts.name}/{job.id}",
            total_steps=ready.length.total,
        )
    )
    with StopRequest().listening() as stop:
        try:
            _train_and_measure(job, store, device, ready, folder, stop, report)
        except (Interrupted, KeyboardInterrupt) as error:
            store.finish_run(job.id, "interrupted", error=str(error) or "stopped by a second signal")
            raise
        except BaseException as error:
            text = str(error) if isinstance(error, GaprunError) else f"{type(error).__name__}: {error}"
            store.finish_run(job.id, "failed", error=text.splitlines()[0] if text else type(error).__name__)
            raise


def _train_and_measure(
    job: Job,
    store: Store,
    device: torch.device,
    ready: Prepared,
    folder: Path,
    stop: StopRequest,
    report: Report,
) -> None:
    state, saved = _prepare_state(job, store, device, ready, folder, report)
    if state.step < ready.length.total:
        path, identity = train_steps(job, store, state, ready.splits, folder, stop, report)
    else:
        path, identity = saved or save_checkpoint(folder / "checkpoints", checkpoint_content(state, job), 1)
    if state.damaged:
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
    )
    store.finish_run(job.id, "finished", checkpoint=place, checkpoint_hash=identity)


def _prepare_state(
    job: Job,
    store: Store,
    device: torch.device,
    ready: Prepared,
    folder: Path,
    report: Report,
) -> tuple[TrainState, tuple[Path, str] | None]:
    recipe = job.recipe
    vocabulary = None
    if recipe.model.vocabulary == "used":
        tokens = job_tokens(
            job, store, [text for s in ready.splits for texts in s.captions for text in texts], report
        )
        vocabulary = Vocabulary.used_in(tokens, full_vocabulary(recipe.model))
    torch.manual_seed(job.seed)
    towers = build_towers(recipe.model, vocabulary)
    state = TrainState(recipe, job.seed, ready.length, towers, Head(recipe.temperature, recipe.loss), device)
    try:
        path, damaged = newest_checkpoint(folder / "checkpoints")
    except FileNotFoundError:
        return state, None
    for bad in damaged:
        report(Event(job.id, "resume", 0, 1, f"{bad.name} is damaged; using {path.name}"))
    state.load_state_dict(load_checkpoint(path))
    note = json.loads(path.with_suffix(".json").read_text())
    return state, (path, note["weights_hash"])
