"""One job from start to end: data, towers, steps, checkpoints, measurements; every stage lands in the store."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from gaprun.data.split import Split
from gaprun.data.stream import LoadBatch, Plan, Pool, stream
from gaprun.errors import Failure, GaprunError
from gaprun.evaluation.run import evaluate_run
from gaprun.model.towers import build_towers, full_vocabulary, tokenizer_for, trimmed
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe.jobs import Job
from gaprun.store import NewRun, Store
from gaprun.training.captions import caption_tokens
from gaprun.training.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from gaprun.training.environment import code_version, environment, pick_device, prepare
from gaprun.training.length import recorded_steps
from gaprun.training.preflight import Prepared, prepare_job
from gaprun.training.state import Head, TrainState

FLUSH_SECONDS = 2.0
BEAT_SECONDS = 60.0


@dataclass(frozen=True)
class Event:
    """Progress of one job: `done` of `total` in a phase (`captions`, `decode`, `train`, or an embedded split)."""

    job: str
    phase: str
    done: int
    total: int
    note: str = ""


Report = Callable[[Event], None]


class Interrupted(GaprunError):
    """Stopped by Ctrl-C or SIGTERM after saving; calling `gaprun train` again goes on."""

    exit_code = 130


class StopRequest:
    """Set by SIGINT or SIGTERM; the loop looks at it between steps. A second signal stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Catch both signals inside the block (main thread only)."""
        kinds = [k for k in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(k) is not signal.SIG_IGN]
        before = [signal.signal(kind, self._handle) for kind in kinds]
        try:
            yield self
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)


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
        path, identity = _train(job, store, state, ready.splits, folder, stop, report)
    else:
        path, identity = saved or save_checkpoint(folder / "checkpoints", _content(state, job), 1)
    notes = {"damaged": sorted(state.damaged)} if state.damaged else None
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
        should_stop=lambda: _raise_if(stop, state.step),
    )
    store.finish_run(job.id, "finished", checkpoint=place, checkpoint_hash=identity, notes=notes)


def _raise_if(stop: StopRequest, step: int) -> None:
    if stop.requested:
        raise Interrupted(f"stopped at step {step}; the same command goes on from there")


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
        tokens = _tokens(
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


def _tokens(job: Job, store: Store, texts: list[str], report: Report) -> np.ndarray:
    tokenizer, context_length = tokenizer_for(job.recipe.model)
    return caption_tokens(
        texts,
        tokenizer,
        context_length,
        store.artifacts / "tokens",
        lambda done, total: report(Event(job.id, "captions", done, total)),
    )


def _train(
    job: Job,
    store: Store,
    state: TrainState,
    splits: list[Split],
    folder: Path,
    stop: StopRequest,
    report: Report,
) -> tuple[Path, str]:
    recipe, length = job.recipe, state.length
    pool = Pool(splits, math.ceil(state.towers.image_size * recipe.data.margin))
    tokens = _tokens(job, store, pool.texts, report)
    if state.towers.vocabulary is not None:
        tokens = state.towers.vocabulary(tokens)
    if recipe.data.cache == "memory":
        for done in pool.fill_cache(torch.get_num_threads()):
            if done % 256 == 0 or done == len(pool):
                report(Event(job.id, "decode", done, len(pool)))
                _raise_if(stop, state.step)
    plan = Plan(pool, job.seed, length.batch_size, recipe.data.crop_scale, recipe.data.mismatched)
    load = LoadBatch(plan, tokens, trimmed) if state.towers.trimmable else LoadBatch(plan, tokens)
    allowed = max(1, math.floor(recipe.data.damage_budget * len(pool)))
    recorded, rows, last_flush = recorded_steps(length.total), [], time.monotonic()
    pin = state.device.type == "cuda"
    for batch in stream(load, state.step, length.total, recipe.data.workers, pin):
        _count_damage(state, batch.damaged, allowed, store, job.id)
        loss, record = state.train_step(batch, state.step in recorded)
        if record is not None:
            rows.append(record)
            _check_finite(record["loss"], state.step, folder)
        now = time.monotonic()
        if now - last_flush > FLUSH_SECONDS or state.step == length.total:
            value = loss.item()
            _check_finite(value, state.step, folder)
            store.record(job.id, rows)
            store.heartbeat(job.id, state.step)
            rows, last_flush = [], now
            report(Event(job.id, "train", state.step, length.total, f"loss {value:.3f}"))
        elif state.step % 10 == 0:
            report(Event(job.id, "train", state.step, length.total))
        due = length.checkpoint_every and state.step % length.checkpoint_every == 0
        if state.step < length.total and (due or stop.requested):
            _check_finite(loss.item(), state.step, folder)
            store.record(job.id, rows)
            rows = []
            save_checkpoint(folder / "checkpoints", _content(state, job), recipe.checkpoint.keep)
            _raise_if(stop, state.step)
    return save_checkpoint(folder / "checkpoints", _content(state, job), recipe.checkpoint.keep)


def _check_finite(loss: float, step: int, folder: Path) -> None:
    if not math.isfinite(loss):
        raise Failure(
            f"the loss became {loss} at step {step}; checkpoints before it are kept in {folder / 'checkpoints'}; "
            "try a lower optimizer.lr or optimizer.grad_clip"
        )


def _count_damage(state: TrainState, damaged: list[str], allowed: int, store: Store, run_id: str) -> None:
    if not damaged:
        return
    state.damaged.update(damaged)
    if len(state.damaged) > allowed:
        first = "; ".join(sorted(state.damaged)[:3])
        raise Failure(
            f"{len(state.damaged)} damaged pictures, more than data.damage_budget allows ({allowed}): {first}"
        )


def _content(state: TrainState, job: Job) -> dict[str, Any]:
    vocabulary = state.towers.vocabulary
    return state.state_dict() | {
        "recipe": json.dumps(job.recipe.model_dump(mode="json")),
        "seed": job.seed,
        "run": job.id,
        "vocabulary": vocabulary.ids if vocabulary else None,
    }
