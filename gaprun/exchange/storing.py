"""A foreign record into the store: its run, its evaluations, and what must not stand over another."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

from gaprun.data.split import Split
from gaprun.errors import Failure, UserError
from gaprun.exchange.openclip_log import PAIRS
from gaprun.exchange.openclip_log import PROGRAM as LOG
from gaprun.exchange.records import Record, Value
from gaprun.protocols import FULL, Protocol
from gaprun.store import EvaluationKey, NewRun, Store
from gaprun.store.liveness import this_host

NO_FINGERPRINT = ""
LONGEST_NAME = 120


def bring_in(
    store: Store, record: Record, place: tuple[str, str], split: Split | None, name: str | None
) -> tuple[str, int]:
    """Store the record, measured on `place` (data set and split); the id of its run, and how many values it has.

    Raises UserError where the run holds another number for the same question already.
    """
    groups = _groups(record, place, split)
    run = _run(store, record, name)
    if store.runs([f"id={run.id}"], light=True):
        _refuse_other_place(store, run.id, record, groups)
        _refuse_other_values(store, run.id, record, groups)
    else:
        store.begin_run(run)
        store.finish_run(run.id, "finished")
    return run.id, _store(store, run.id, record, groups, split)


def _run(store: Store, record: Record, name: str | None) -> NewRun:
    """The run of a record. What identifies it is its recipe: program, model and, where known, the training."""
    wanted = re.sub(r"[^A-Za-z0-9._+=,@-]", "-", name or f"{record.model}@{record.program}")[-LONGEST_NAME:]
    recipe = wanted.lstrip("._+=,@-") or "model"
    resolved = {"name": recipe, **record.identity, "source": record.program}
    text = json.dumps(resolved, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return NewRun(
        id=f"{recipe}-{digest[:8]}",
        recipe=recipe,
        kind="external",
        seed=None,
        recipe_hash=digest,
        resolved_recipe=resolved,
        environment={"source": f"{record.program}: {record.file}", "imported_on": this_host()},
        code_version=record.program,
        folder=f"{store.artifacts.name}/{recipe}-{digest[:8]}",
        total_steps=0,
    )


def _groups(
    record: Record, place: tuple[str, str], split: Split | None
) -> list[tuple[EvaluationKey, list[Value]]]:
    """The record's values by the evaluation that they belong to."""
    groups: dict[tuple[str, str, str, Protocol, str], list[Value]] = {}
    for value in record.values:
        where = (value.dataset, value.split) if value.dataset is not None else place
        protocol = FULL if value.protocol == PAIRS and _one_caption_each(split) else value.protocol
        options = json.dumps(value.options, sort_keys=True)
        groups.setdefault((value.task, *where, protocol, options), []).append(value)
    if len({question[:-1] for question in groups}) < len(groups):
        raise Failure(f"{record.where}: two rules under one protocol, of which one would hide the other")
    found = []
    for (task, dataset, part, protocol, options), values in groups.items():
        here = split is not None and (dataset, part) == (split.dataset, split.split)
        # Evaluations are told apart by checkpoint and data; of data that is but a name the record has to tell.
        own = values[0].dataset is not None
        key = EvaluationKey(
            checkpoint_hash=f"{record.digest}/{dataset}/{part}" if own else record.digest,
            step=record.step,
            task=task,
            dataset=dataset,
            split=part,
            data_fingerprint=split.fingerprint if split is not None and here else NO_FINGERPRINT,
            protocol=protocol,
            options=json.loads(options),
        )
        found.append((key, values))
    return found


def _refuse_other_place(
    store: Store, run_id: str, record: Record, groups: list[tuple[EvaluationKey, list[Value]]]
) -> None:
    """Raise UserError where the record is here already under another name of what was measured."""
    for key, _ in groups:
        known = store.find_evaluation(run_id, key)
        if known is not None and (known.dataset, known.split) != (key.dataset, key.split):
            raise UserError(
                f"{record.where}: it is in {run_id} already, as measured on {known.dataset}/{known.split} and not on "
                f"{key.dataset}/{key.split}: `gaprun runs rm {run_id}` first, or leave it as it is"
            )


def _refuse_other_values(
    store: Store, run_id: str, record: Record, groups: list[tuple[EvaluationKey, list[Value]]]
) -> None:
    """Raise UserError where the run holds another number for the same question: one would hide the other.

    The epochs of one log are told apart by their step; there a later line of one epoch is a correction.
    """
    if record.program == LOG:
        return
    held = {
        (
            row["step"],
            *(row[name] for name in ("task", "dataset", "split", "protocol", "options_hash", "metric")),
        ): row
        for row in store.metric_rows(None, run_ids=[run_id], every_step=True)
    }
    for key, values in groups:
        for value in values:
            question = (
                key.step, key.task, key.dataset, key.split, key.protocol.id, key.options_hash, value.name,
            )  # fmt: skip
            row = held.get(question)
            new = None if math.isnan(value.value) else value.value
            if row is not None and row["measured_checkpoint"] != key.checkpoint_hash and row["value"] != new:
                raise UserError(
                    f"{record.where}: {run_id} holds another {value.name} on {key.dataset}/{key.split} already "
                    f"({row['value']}, not {new}): if both count, import this one with a --name of its own"
                )


def _store(
    store: Store,
    run_id: str,
    record: Record,
    groups: list[tuple[EvaluationKey, list[Value]]],
    split: Split | None,
) -> int:
    held = [] if record.program == LOG else store.metric_rows(None, run_ids=[run_id], every_step=True)
    stored = 0
    for key, values in groups:
        known = _beside(held, key) | {value.name: value.value for value in values}
        size = split.samples if split is not None and key.data_fingerprint else values[0].n
        if store.find_evaluation(run_id, key) is None:
            store.add_evaluation(run_id, key, known, size, None, code_version=record.program)
        stored += len(values)
    return stored


def _beside(held: list[dict[str, Any]], key: EvaluationKey) -> dict[str, float]:
    """What another record has said of the same question by other metrics (mteb has a file for each direction): it
    goes on with the new evaluation, since only the latest counts."""
    asked = {name: key.columns()[name] for name in ("task", "data_fingerprint", "protocol", "options_hash")}
    asked |= {"dataset": key.dataset, "split": key.split, "step": key.step}
    return {
        row["metric"]: math.nan if row["value"] is None else row["value"]
        for row in held
        if all(row[name] == value for name, value in asked.items())
    }


def _one_caption_each(split: Split | None) -> bool:
    """Whether open_clip's one-caption pairs are all there is, so that its measure is our `full`."""
    return split is not None and all(len(captions) == 1 for captions in split.captions)
