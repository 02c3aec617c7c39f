"""A job's training state: built anew, or taken up from the newest checkpoint that is the run's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from gaprun.data.members import MemberCaptions
from gaprun.errors import UserError
from gaprun.jobs.attempt import Attempt, Own
from gaprun.model.saved import load_checkpoint, weights_hash
from gaprun.model.towers import build_towers, check_built_alike, full_vocabulary
from gaprun.model.vocabulary import Vocabulary
from gaprun.recipe.jobs import Job
from gaprun.runtime.events import Event, Report
from gaprun.store import folders
from gaprun.training.checkpoint import other_facts, own_checkpoint, own_facts
from gaprun.training.head import Head
from gaprun.training.loop import job_tokens
from gaprun.training.state import TrainState


def build_or_take_up(attempt: Attempt) -> tuple[TrainState, tuple[Path, str] | None]:
    """The state to go on from, and the path and weights hash of the checkpoint that it came from, if one is there.

    Every process of the attempt's world calls this. Raises UserError for a checkpoint that is not the run's own.
    """
    job, ready, own, world = attempt.job, attempt.ready, attempt.own, attempt.world
    state = world.first_then_rest(lambda: _build(attempt))
    # Only the first process looks at the disk, so that all go on from the same step.
    found = world.on_first(lambda: _newest(job, own, ready.length.total, attempt.report))
    code = [] if found is None else found[0].get("code") or [own.code or "?"]
    state.origin = {"data": ready.fingerprints, "code": [*dict.fromkeys([*code, attempt.code])]}
    if found is None:
        return state, None
    content, path, identity = found
    check_built_alike(content.get("architecture"), state.towers, job.recipe.model)
    state.load_state_dict(content)
    if attempt.kept is not None:
        if not own.finished:
            trained = state.origin["code"] if state.step < ready.length.total else code
            attempt.kept.set_code(job.id, trained)
        attempt.kept.bring_in(job.id, state.step, identity)
        attempt.kept.heartbeat(job.id, state.step)
    return state, (path, identity)


def _build(attempt: Attempt) -> TrainState:
    job, ready, recipe = attempt.job, attempt.ready, attempt.job.recipe
    vocabulary = None
    if recipe.model.vocabulary == "used":
        texts = MemberCaptions(ready.splits, ready.members)
        tokens = job_tokens(job, attempt.store, texts, attempt.report)
        vocabulary = Vocabulary.used_in(tokens, full_vocabulary(recipe.model))
    torch.manual_seed(job.seed)
    towers = build_towers(recipe.model, vocabulary, recipe.data.normalisation)
    for remark in towers.remarks:
        attempt.report(Event(job.id, "resume", 1, 1, remark))
    head = Head.of(recipe, job.seed)
    return TrainState(recipe, job.seed, ready.length, towers, head, attempt.device, world=attempt.world)


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
        if own.step > 0:
            note = (
                f"no checkpoint of it lies in {own.folder}, though the database knows {own.step} steps: it starts from "
                "the beginning"
            )
            report(Event(job.id, "resume", 1, 1, note))
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
