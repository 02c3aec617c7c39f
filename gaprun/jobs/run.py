"""One job from start to end: data, towers, steps, measurements; every stage lands in the store."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gaprun.errors import Failure, GaprunError, UserError
from gaprun.evaluation.run import evaluate_run
from gaprun.files import plain_name
from gaprun.jobs.holding import beating, locked
from gaprun.jobs.kept import KeptStore
from gaprun.jobs.preflight import Prepared, facts_of, new_run, prepare_job
from gaprun.model.towers import build_towers, check_built_alike, full_vocabulary
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe.jobs import Job
from gaprun.runtime.distributed import ALONE, World
from gaprun.runtime.environment import code_version, environment, pick_device, prepare
from gaprun.runtime.events import Event, Interrupted, Report, StopRequest, quietly
from gaprun.store import Store, folders
from gaprun.store.claims import ClaimLost
from gaprun.training.checkpoint import (
    load_checkpoint,
    other_facts,
    own_checkpoint,
    own_facts,
    weights_hash,
)
from gaprun.training.head import Head
from gaprun.training.loop import job_tokens, train_steps
from gaprun.training.state import TrainState, check_shared


def run_job(job: Job, store: Store, device_name: str, report: Report, world: World = ALONE) -> None:
    """Train and measure `job`, or go on where it stopped; what is done already is not done again.

    Every process of `world` calls this; the first alone writes to the store and reports. Raises UserError before
    anything is written when the job cannot start (also: another process is at it, or its folder holds anything of
    another run), Failure when it fails on the way (status `failed` with the error), Interrupted after Ctrl-C or SIGTERM
    or when a process of `world` was lost (status `interrupted`). A run that was finished before stays finished.
    """
    device = pick_device(device_name)
    report = quietly(report)
    with StopRequest().listening() as stop, ExitStack() as held:

        def check() -> Prepared:
            prepare(job.recipe.compute, device)
            ready = prepare_job(job, store if world.first else None)
            check_shared(ready.length, world)
            return ready

        ready = world.together(check)
        here = environment(device) | {"processes": world.size}
        own = world.on_first(lambda: _claim(job, store, ready, here, report, held))
        kept = KeptStore(store, own.folder, code_version()) if world.first else store
        try:
            if isinstance(kept, KeptStore):
                held.enter_context(beating(kept, job.id))
            _train_and_measure(job, kept, device, ready, own, stop, report, world)
        except BaseException as error:
            if isinstance(kept, KeptStore):
                _record_end(kept, job, error)
                if kept.gone and isinstance(error, GaprunError):
                    raise type(error)(f"{error}; {kept.where()}") from None
            raise
        if isinstance(kept, KeptStore) and kept.gone:
            raise Failure(f"{job.id}: {kept.where()}")


@dataclass(frozen=True)
class Own:
    """The run's folder, what everything in it must say (FACTS), and what the database said of the run before.

    before: its row's checkpoint hash and code, where it has one with the same data; finished: whether it was.
    """

    folder: Path
    facts: dict[str, Any]
    code: str | None
    checkpoint_hash: str | None
    finished: bool


def _claim(
    job: Job, store: Store, ready: Prepared, here: dict[str, object], report: Report, held: ExitStack
) -> Own:
    """Take the run for this process: its folder, by a lock, and its row. Raises UserError where either is another's."""
    folder = store.artifacts / plain_name(job.id, "run")
    facts = facts_of(job, ready)
    if folders.check_mark(folder, facts, store.place):
        with locked(folder, job.id):
            report(
                Event(
                    job.id, "resume", 1, 1, f"{folder.name} was of another run: {folders.move_aside(folder)}"
                )
            )
    held.enter_context(locked(folder, job.id))
    rows = store.runs([f"id={job.id}"])
    known = bool(rows and rows[0].environment.get("data"))
    finished = bool(rows) and rows[0].status == "finished"
    store.begin_run(new_run(job, ready, store.artifacts, code_version(), here))
    folders.own(store, job.id, facts)
    code = rows[0].code_version if known else None
    return Own(folder, facts, code, rows[0].checkpoint_hash if finished else None, finished)


def _record_end(store: KeptStore, job: Job, error: BaseException) -> None:
    """Write how the run ended; a store that does not take it leaves that to who reads the row next."""
    if isinstance(error, ClaimLost):
        return
    with suppress(GaprunError):
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
    own: Own,
    stop: StopRequest,
    report: Report,
    world: World,
) -> None:
    state, saved = _prepare_state(job, store, device, ready, own, report, world)
    if state.step < ready.length.total:
        path, identity = train_steps(job, store, state, ready.splits, ready.members, own.folder, stop, report)
    else:
        assert saved is not None
        path, identity = saved
    state.end()
    if state.damaged and world.first:
        store.annotate(job.id, {"damaged": sorted(state.damaged)})
    place = str(path.relative_to(store.artifacts.parent))
    done = evaluate_run(
        towers=state.towers,
        checkpoint_hash=identity,
        step=state.step,
        tasks=list(job.recipe.eval),
        store=store,
        run_id=job.id,
        device=device,
        workers=job.recipe.data.workers,
        progress=lambda phase, done, total: report(Event(job.id, phase, done, total)),
        training_values={"temperature": 1.0 / state.beta_value()},
        train_name=ready.name,
        should_stop=lambda: stop.raise_if(state.step),
        world=world,
    )
    for remark in done.remarks:
        report(Event(job.id, "measure", 1, 1, remark))
    done.raise_failures()
    world.on_first(lambda: store.finish_run(job.id, "finished", checkpoint=place, checkpoint_hash=identity))


def _prepare_state(
    job: Job,
    store: Store,
    device: torch.device,
    ready: Prepared,
    own: Own,
    report: Report,
    world: World,
) -> tuple[TrainState, tuple[Path, str] | None]:
    recipe = job.recipe

    def build() -> TrainState:
        vocabulary = None
        if recipe.model.vocabulary == "used":
            texts = [text for s, i in ready.members for text in ready.splits[s].captions[i]]
            tokens = job_tokens(job, store, texts, report)
            vocabulary = Vocabulary.used_in(tokens, full_vocabulary(recipe.model))
        torch.manual_seed(job.seed)
        towers = build_towers(recipe.model, vocabulary, recipe.data.normalisation)
        head = Head.of(recipe, job.seed)
        return TrainState(recipe, job.seed, ready.length, towers, head, device, world=world)

    state = world.first_then_rest(build)
    # Only the first process looks at the disk, so that all go on from the same step.
    found = world.on_first(lambda: _newest(job, own, ready.length.total, report))
    code = [] if found is None else found[0].get("code") or [own.code or "?"]
    state.origin = {"data": ready.fingerprints, "code": [*dict.fromkeys([*code, code_version()])]}
    if found is None:
        return state, None
    content, path, identity = found
    check_built_alike(content.get("architecture"), state.towers, recipe.model)
    state.load_state_dict(content)
    if isinstance(store, KeptStore):
        if not own.finished:
            trained = state.origin["code"] if state.step < ready.length.total else code
            store.set_code(job.id, trained)
        store.bring_in(job.id, state.step, identity)
        store.heartbeat(job.id, state.step)
    return state, (path, identity)


def _newest(job: Job, own: Own, total: int, report: Report) -> tuple[dict[str, Any], Path, str] | None:
    """Content, path and weights hash of the newest undamaged checkpoint, which is this run's in everything.

    Raises UserError where it is not, and where a finished run's last checkpoint is not there any more.
    """
    path, passed = own_checkpoint(own.folder / "checkpoints", own.facts)
    for line in passed:
        report(Event(job.id, "resume", 1, 1, line))
    if path is None:
        if own.finished:
            raise UserError(_lost(job, own.folder))
        return None
    content = load_checkpoint(path)
    said = own_facts(content)
    if other := other_facts(said, own.facts):
        raise UserError(
            f"{path}: its note says otherwise, but it is of another {other}: {folders.way_out(own.folder)}"
        )
    identity = weights_hash(content["clip"], content["head"])
    if own.finished and (identity != own.checkpoint_hash or content["step"] != total):
        raise UserError(_lost(job, own.folder))
    if "data" not in said:
        if own.code is None:
            raise UserError(
                f"{path} is of an earlier gaprun and does not say on what data it was trained, nor does this database: "
                f"{folders.way_out(own.folder)}"
            )
        note = f"{path.name} is of an earlier gaprun: taken to be trained on the data that the database names"
        report(Event(job.id, "resume", 1, 1, note))
    return content, path, identity


def _lost(job: Job, folder: Path) -> str:
    return (
        f"run {job.id} is finished, but its last checkpoint is not in {folder / 'checkpoints'} any more: what was "
        "added cannot be measured; train it again under another name (--set name=NAME), or remove it with "
        "`gaprun runs rm`"
    )
