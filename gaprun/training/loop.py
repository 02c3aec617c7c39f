"""The training loop: batches to steps to checkpoints and trajectory rows, and what happens when something breaks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from gaprun.data.split import Split
from gaprun.data.stream import Batch, LoadBatch, Plan, Pool, stream
from gaprun.errors import Failure, GaprunError
from gaprun.model.towers import tokenizer_for, trimmed
from gaprun.model.vocabulary import Tokens
from gaprun.recipe.jobs import Job
from gaprun.store import Store
from gaprun.training.captions import caption_tokens
from gaprun.training.checkpoint import CheckpointWriter
from gaprun.training.events import Event, Interrupted, Report, StopRequest
from gaprun.training.length import recorded_steps
from gaprun.training.state import TrainState

FLUSH_SECONDS = 2.0


def train_steps(
    job: Job,
    store: Store,
    state: TrainState,
    splits: list[Split],
    folder: Path,
    stop: StopRequest,
    report: Report,
) -> tuple[Path, str]:
    """Train from `state.step` to the end; returns the last checkpoint's path and weights hash.

    Trajectory rows go to the store and checkpoints to `folder` on the way. Raises Interrupted after a stop (saved),
    Diverged for a loss that is not finite, Failure for what cannot go on (saved).
    """
    recipe, length = job.recipe, state.length
    pool = Pool(splits, math.ceil(state.towers.image_size * recipe.data.margin))
    tokens = job_tokens(job, store, pool.texts, report)
    if state.towers.vocabulary is not None:
        tokens = state.towers.vocabulary(tokens)
    if recipe.data.cache != "none":
        pool.use_cache(store.artifacts / "cache" if recipe.data.cache == "disk" else None)
    plan = Plan(pool, job.seed, length.batch_size, recipe.data.crop_scale, recipe.data.mismatched)
    load = LoadBatch(plan, tokens, trimmed) if state.towers.trimmable else LoadBatch(plan, tokens)
    allowed = max(1, math.floor(recipe.data.damage_budget * len(pool)))
    recorded, rows, last_flush = recorded_steps(length.total), [], time.monotonic()
    writer = CheckpointWriter(folder / "checkpoints", recipe.checkpoint.keep)
    try:
        for batch in _whole_stream(load, state, recipe.data.workers):
            _count_damage(state, batch.damaged, allowed)
            loss, record = state.train_step(batch, state.step in recorded)
            if record is not None:
                rows.append(record)
                _check_finite(record["loss"], state.step, folder)
            last = state.step == length.total
            due = length.checkpoint_every > 0 and state.step % length.checkpoint_every == 0
            now = time.monotonic()
            if now - last_flush > FLUSH_SECONDS or last or due or stop.requested:
                value = loss.item()
                _check_finite(value, state.step, folder)
                store.record(job.id, rows)
                store.heartbeat(job.id, state.step)
                rows, last_flush = [], now
                report(Event(job.id, "train", state.step, length.total, f"loss {value:.3f}"))
                if last or due or stop.requested:
                    writer.save(checkpoint_content(state, job))
            elif state.step % 10 == 0:
                report(Event(job.id, "train", state.step, length.total))
            if stop.requested and not last:
                writer.wait()
                stop.raise_if(state.step)
        written = writer.wait()
        assert written is not None  # the last step always saves
        return written
    except (Diverged, Interrupted):
        raise
    except GaprunError:
        # A lost loader process, too much damage, a database that stays away: what was trained is kept.
        writer.save(checkpoint_content(state, job))
        writer.wait()
        raise
    finally:
        writer.close()


class Diverged(Failure):
    """The loss is no longer a number; the weights are not worth saving."""


def _whole_stream(load: LoadBatch, state: TrainState, workers: int) -> Iterator[Batch]:
    """The batches from the state's step to the end; a loader process that dies becomes a Failure."""
    try:
        yield from stream(load, state.step, state.length.total, workers, state.device.type == "cuda")
    except (RuntimeError, OSError, EOFError, UnpicklingError) as error:
        # A dead loader shows as torch's RuntimeError, or as a broken connection to what it was about to hand over.
        if not workers or (isinstance(error, RuntimeError) and "DataLoader worker" not in str(error)):
            raise
        raise Failure(
            f"a loader process was killed at step {state.step} (out of memory?); the checkpoint of that step is kept "
            "and the same command goes on from it; fewer data.workers need less memory"
        ) from None


def _check_finite(loss: float, step: int, folder: Path) -> None:
    if not math.isfinite(loss):
        raise Diverged(
            f"the loss became {loss} at step {step}; checkpoints before it are kept in {folder / 'checkpoints'}; "
            "try a lower optimizer.lr or optimizer.grad_clip"
        )


def _count_damage(state: TrainState, damaged: list[str], allowed: int) -> None:
    if not damaged:
        return
    state.damaged.update(damaged)
    if len(state.damaged) > allowed:
        first = "; ".join(sorted(state.damaged)[:3])
        raise Failure(
            f"{len(state.damaged)} damaged pictures, more than data.damage_budget allows ({allowed}): {first}"
        )


def checkpoint_content(state: TrainState, job: Job) -> dict[str, Any]:
    """Everything that a checkpoint holds: the state, and what is needed to build its towers again."""
    vocabulary = state.towers.vocabulary
    return state.state_dict() | {
        "recipe": json.dumps(job.recipe.model_dump(mode="json")),
        "seed": job.seed,
        "run": job.id,
        "vocabulary": vocabulary.ids if vocabulary else None,
    }


def job_tokens(job: Job, store: Store, texts: list[str], report: Report) -> Tokens:
    """Original token ids of `texts` by the job's tokenizer, kept beside the runs."""
    tokenizer, context_length = tokenizer_for(job.recipe.model)
    return caption_tokens(
        texts,
        tokenizer,
        context_length,
        store.artifacts / "tokens",
        lambda done, total: report(Event(job.id, "captions", done, total)),
    )
