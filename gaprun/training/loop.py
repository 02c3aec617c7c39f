"""The training loop: batches to steps to checkpoints and trajectory rows, and what happens when something breaks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gaprun.data.loading import watched
from gaprun.data.members import Members, counts_of
from gaprun.data.plan import Plan
from gaprun.data.pool import Pool
from gaprun.data.split import Split
from gaprun.data.stream import Batch, LoadBatch, stream, untrimmed
from gaprun.errors import Failure, GaprunError
from gaprun.model.towers import tokenizer_for, trimmed
from gaprun.model.vocabulary import AnyTokens
from gaprun.recipe.jobs import Job
from gaprun.recipe.schema import Recipe
from gaprun.runtime.cards import StepFailed, explained, less_memory
from gaprun.runtime.events import Event, Interrupted, LostProcess, Report, StopRequest
from gaprun.store import Store
from gaprun.store.claims import ClaimLost
from gaprun.training.captions import caption_tokens
from gaprun.training.checkpoint import CheckpointWriter
from gaprun.training.diverged import Diverged, check_finite, check_learning
from gaprun.training.length import recorded_steps
from gaprun.training.midway import as_saved
from gaprun.training.once import FrozenFeatures
from gaprun.training.pace import Pace
from gaprun.training.resident import brought, filled, resident_stream
from gaprun.training.state import TrainState
from gaprun.training.transfer import on_device

FLUSH_SECONDS = 2.0
T = TypeVar("T")


def train_steps(
    job: Job,
    store: Store,
    state: TrainState,
    splits: list[Split],
    members: Members,
    folder: Path,
    stop: StopRequest,
    report: Report,
    measure: Callable[[str], None] = lambda weights: None,
) -> tuple[Path, str]:
    """Train on `members` of `splits` from `state.step` to the end; returns the last checkpoint's path and weights hash.

    Trajectory rows go to the store and checkpoints to `folder` on the way; `measure` is called with the weights hash at
    the steps that `state.length` says, once each is saved. Every process of `state.world` calls this; they agree before
    each step whether to go on. Raises Interrupted after a stop (saved), Diverged for a run that learns nothing,
    LostProcess, ClaimLost, Failure for what cannot go on (saved), any other error as it came (saved).
    """
    length, world, every = state.length, state.world, state.length.checkpoint_every
    captions = int(counts_of(splits, members).sum())
    frozen = FrozenFeatures(
        state,
        store.artifacts / "cache",
        lambda what, done, total: report(Event(job.id, what, done, total)),
        lambda text: report(Event(job.id, "resume", 1, 1, text)),
        lambda: stop.raise_if(state.step),
    )
    once = frozen.towers(len(members), captions)
    with world.shared_memory() as memory:
        load = world.together(lambda: _loader(job, store, state, splits, members, report, memory, once))
    allowed = max(1, math.floor(job.recipe.data.damage_budget * len(load.plan.pool)))
    load, damaged = frozen.put_into(load, once)
    _count_damage(state, damaged, allowed)
    recorded = recorded_steps(length.total)
    way_out = less_memory(job.recipe.compute, state.rows.stop - state.rows.start)
    batches = on_device(_source(load, job, state, stop, report), state.device)
    books = _Books(job, store, state, folder, report)
    trouble: Exception | None = None
    try:
        books.begin()
        while True:
            batch, ended = None, state.step == length.total
            if trouble is None and not ended:
                with books.pace.waiting():
                    batch, trouble = _tried(lambda: next(batches))
            failed, stopping, flush, damage = world.agree(
                trouble is not None, stop.requested, books.due(), bool(batch and batch.damaged)
            )
            if failed:
                world.raise_any(trouble)
            if ended:
                break
            assert batch is not None
            if damage:
                _count_damage(state, batch.damaged, allowed)
            if stopping:
                world.together(books.save_and_wait)
                stop.requested = True  # also where another process was told
                stop.raise_if(state.step)
            if state.step in length.measured:  # also where it was cut off: what was measured already is found
                saved = world.on_first(books.save_and_wait)
                assert saved is not None
                with as_saved(state):
                    measure(saved[1])
                books.pace.restart(state.step)
            with explained(f"step {state.step}", way_out, StepFailed), state.undone():
                loss, record = state.train_step(brought(batch, state), state.step in recorded)
                ended = state.step == length.total
                save = ended or (every > 0 and state.step % every == 0)
                value = loss.item() if flush or save or state.step - 1 in recorded else None
            if value is not None:
                check_finite(value, state.step, folder)
            check_learning(state, folder)
            _, trouble = _tried(partial(books.enter, record, value, flush or save, save))
        return world.on_first(books.last_checkpoint)
    except (Diverged, Interrupted, ClaimLost):
        raise
    except Exception as error:
        # A lost loader process, too much damage, no memory, a fault in the code: what was trained is kept. Nothing is
        # asked of other processes here, which may have ended otherwise.
        _, unsaved = _tried(books.save_and_wait)
        if unsaved is not None and not isinstance(error, Failure):
            said = str(error) if isinstance(error, GaprunError) else f"{type(error).__name__}: {error}"
            raise Failure(f"{said}; what came after the last checkpoint is not saved ({unsaved})") from error
        raise
    finally:
        books.close()


class _Books:
    """What the first process keeps of the steps: rows and progress in the store, checkpoints on disk.

    On other processes every method does nothing.
    """

    def __init__(self, job: Job, store: Store, state: TrainState, folder: Path, report: Report) -> None:
        self.job, self.store, self.state, self.report = job, store, state, report
        self.writer = CheckpointWriter(folder / "checkpoints", job.recipe.checkpoint.keep)
        self.rows: list[dict[str, float]] = []
        self.last_flush, self.store_away, self.pace = time.monotonic(), False, Pace(state.step)

    def begin(self) -> None:
        """Report where training starts, from which pace and time left are counted."""
        if self.state.world.first and self.state.step < self.state.length.total:
            self.report(Event(self.job.id, "train", self.state.step, self.state.length.total))

    def due(self) -> bool:
        """Whether rows have waited long enough."""
        return self.state.world.first and time.monotonic() - self.last_flush > FLUSH_SECONDS

    def enter(self, record: dict[str, float] | None, loss: float | None, flush: bool, save: bool) -> None:
        """Note one step; write what has gathered if `flush`, and a checkpoint if `save`."""
        if not self.state.world.first:
            return
        step, total = self.state.step, self.state.length.total
        if record is not None:
            self.rows.append(record)
        if flush:
            self._write(loss)
            self.report(Event(self.job.id, "train", step, total, f"loss {loss:.3f}"))
            if save:
                self.writer.save(checkpoint_content(self.state, self.job))
        elif step % 10 == 0:
            self.report(Event(self.job.id, "train", step, total))

    def _write(self, loss: float | None = None) -> None:
        self.store_away = True
        self.store.record(self.job.id, self.rows)
        step = self.state.step
        self.store.heartbeat(self.job.id, step, self.pace.note(step, loss))
        self.store_away, self.rows, self.last_flush = False, [], time.monotonic()

    def save_and_wait(self) -> tuple[Path, str] | None:
        """Write everything now; after the store stayed away, the checkpoint alone. Raises Failure within an update.

        Returns the checkpoint's path and weights hash.
        """
        if not self.state.world.first:
            return None
        if not self.state.whole:
            raise Failure("the error came within an update")
        self.writer.save(checkpoint_content(self.state, self.job))
        if not self.store_away:
            self._write()
        return self.writer.wait()

    def last_checkpoint(self) -> tuple[Path, str]:
        """Path and weights hash of what the last step saved."""
        written = self.writer.wait()
        assert written is not None
        return written

    def close(self) -> None:
        """Finish what is under way."""
        self.writer.close()


def _tried(work: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """`work()`, or the error that it ended with: all processes hear of it before any of them raises."""
    try:
        return work(), None
    except LostProcess:
        raise
    except Exception as error:
        return None, error


def _loader(
    job: Job,
    store: Store,
    state: TrainState,
    splits: list[Split],
    members: Members,
    report: Report,
    memory: int | None,
    once: Container[str],
) -> LoadBatch:
    data, world = job.recipe.data, state.world
    pool = Pool(splits, state.towers.image_size, data.crop_scale, data.margin, data.crop, members)
    tokens = job_tokens(job, store, pool.texts, report)
    if state.towers.vocabulary is not None:
        tokens = state.towers.vocabulary(tokens).astype(tokens.dtype)
    cache = "none" if "image" in once else data.cache  # there each picture is decoded once
    if cache == "disk":
        # Processes of one machine share a file; machines do not, even where they share a disk: mappings do not travel.
        own = f"from-{world.host_leader}" if world.host_leader else ""
        pool.use_cache(store.artifacts / "cache" / own)
    elif cache == "memory":
        pool.use_cache(None, memory)
    plan = plan_of(job.recipe, job.seed, pool)
    # A compiled tower is compiled for every length: then four of them do.
    step = -(-state.towers.context_length // 4) if job.recipe.compute.compile else 4
    trim = partial(trimmed, step=step) if state.towers.trimmable else untrimmed
    return LoadBatch(plan, tokens, trim, state.rows, in_place=state.device.type == "cpu")


def plan_of(recipe: Recipe, seed: int, pool: Pool) -> Plan:
    """The batches of a run of `recipe` over `pool`."""
    data, schedule = recipe.data, recipe.schedule
    return Plan(
        pool,
        seed,
        schedule.batch_size,
        data.crop_scale,
        data.mismatched,
        data.captions,
        data.crop,
        schedule.remainder,
        data.weights,
    )


def _source(
    load: LoadBatch, job: Job, state: TrainState, stop: StopRequest, report: Report
) -> Iterator[Batch]:
    """The batches from the state's step to the end, from loaders or from a cache on the device, which is filled now."""
    workers = job.recipe.data.workers
    if job.recipe.data.cache != "device" or load.features is not None:
        return _whole_stream(load, state, workers)

    def progress(done: int, total: int) -> None:
        stop.raise_if(state.step)
        report(Event(job.id, "decode", done, total))

    way_out = less_memory(job.recipe.compute, state.rows.stop - state.rows.start)
    with explained("the device cache", f"set data.cache=memory, or {way_out}"):
        held = filled(load, state, max(1, workers), progress)
    return resident_stream(held, state.step, state.length.total)


def _whole_stream(load: LoadBatch, state: TrainState, workers: int) -> Iterator[Batch]:
    """The batches from the state's step to the end; a loader process that dies becomes a Failure."""

    def way_out() -> str:
        return (
            f"the checkpoint of step {state.step} is kept and the same command goes on from it; fewer data.workers "
            "need less memory"
        )

    batches = stream(load, state.step, state.length.total, workers, state.device.type == "cuda")
    return watched(batches, workers, way_out)


def _count_damage(state: TrainState, damaged: list[str], allowed: int) -> None:
    for found in state.world.collect(damaged):
        state.damaged.update(found)
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
        "recipe_hash": job.recipe_hash,
        "vocabulary": vocabulary.ids if vocabulary else None,
        **state.origin,
        "architecture": state.towers.architecture,
        "preprocessing": state.towers.picture,
    }


def job_tokens(job: Job, store: Store, texts: Sequence[str], report: Report) -> AnyTokens:
    """Original token ids of `texts` by the job's tokenizer, kept beside the runs."""
    tokenizer, context_length = tokenizer_for(job.recipe.model)
    return caption_tokens(
        texts,
        tokenizer,
        context_length,
        store.artifacts / "tokens",
        lambda done, total: report(Event(job.id, "captions", done, total)),
    )
