"""Results that other programs measured, brought in as runs of kind external; see `formats` for what is read.

A value is stored under our name only where its definition is ours; what says the same thing by another rule keeps
options of its own, so that `compare` puts it in one column with ours only if asked to mix. Percent, as everywhere
here: the files hold shares of 1. Such a run's recipe is named `model@program`, and each of its evaluations names the
file's program as the code that measured it; in place of a checkpoint's hash stands that of the record in the file.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaprun.data.split import Split, open_split
from gaprun.errors import Failure, UserError
from gaprun.exchange.formats import read_file
from gaprun.exchange.openclip_log import PAIRS
from gaprun.exchange.openclip_log import PROGRAM as LOG
from gaprun.exchange.own import import_export
from gaprun.exchange.records import Record, Value
from gaprun.files import plain_name
from gaprun.protocols import FULL, Protocol
from gaprun.store import EvaluationKey, NewRun, Store
from gaprun.store.export import read_export
from gaprun.store.liveness import this_host

NO_FINGERPRINT = ""
LONGEST_NAME = 120

Place = tuple[str, str]  # data set and split


@dataclass
class Imported:
    """One run that was made or added to, from one file: how many values it got, what of the file was not taken."""

    run_id: str
    file: str
    values: int
    left_out: list[str]


@dataclass
class ImportReport:
    """What an import did.

    By file, `left_out`: names for which gaprun has no metric, `odd`: names (and texts) of what is no number. `notes`:
    what a reader of the numbers should know. `refused`: files and records that did not come in, each with its reason.
    """

    done: list[Imported] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    odd: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def import_files(
    open_target: Callable[[], Store],
    files: Sequence[Path],
    data: str | None = None,
    name: str | None = None,
    same_data: bool = False,
) -> ImportReport:
    """Bring in every record of `files` (also exports of gaprun's own) that can be read; the same twice changes nothing.

    `open_target` opens the store, and is called only when there is something to store. `data` names what was measured:
    a split that lies here, then its fingerprint and size go with the values and they stand beside our own, or just
    `dataset/split`; `same_data` says that it is what a file calls by another name. `name` replaces the recipe's name.
    Raises UserError for a `data` or `name` that cannot be, and for several data sets or splits under one `data`.
    """
    report = ImportReport()
    if name is not None:
        plain_name(name, "--name")
    split = _local(data, report) if data else None
    records: list[Record] = []
    store: Store | None = None
    done: dict[tuple[str, str], Imported] = {}
    for path in files:
        try:
            if path.is_dir() or path.suffix == ".zip":
                store = _bring_back(path, store, open_target, done)
            else:
                records += read_file(path)
        except UserError as error:
            report.refused.append(str(error))
    several = sorted({record.dataset for record in records if record.dataset is not None})
    if data and len(several) > 1:
        raise UserError(
            f"--data {data}: the files hold several data sets ({', '.join(several)}); import them apart"
        )
    parts = sorted({record.split for record in records if record.says_split and record.values})
    if data and len(parts) > 1:
        raise UserError(
            f"--data {data}: the files hold several splits ({', '.join(parts)}); import them apart"
        )
    for record in records:
        left_out = report.left_out.setdefault(record.file, [])
        for kind, texts in (
            (left_out, record.left_out),
            (report.odd.setdefault(record.file, []), record.odd),
        ):
            kind += [text for text in texts if text not in kind]
        report.notes += [f"{record.file}: {note}" for note in record.notes]
        if not record.values:
            continue
        try:
            place = _measured(record, data, split, same_data)
            store = store or open_target()
            run_id, count = _bring_in(store, record, place, split, name)
        except UserError as error:
            report.refused.append(str(error))
            continue
        one = done.setdefault((run_id, record.file), Imported(run_id, record.file, 0, left_out))
        one.values += count
    report.done = list(done.values())
    return report


def _bring_back(
    path: Path, store: Store | None, open_target: Callable[[], Store], done: dict[tuple[str, str], Imported]
) -> Store:
    """An export of gaprun's own; it says itself what was measured. Returns the store, opened once there is need."""
    rows = read_export(path)
    counts = Counter(row["run_id"] for row in rows["metrics"])
    store = store or open_target()
    import_export(store, rows, str(path))
    for row in rows["runs"]:
        done[row["id"], str(path)] = Imported(row["id"], str(path), counts[row["id"]], [])
    return store


def _local(data: str, report: ImportReport) -> Split | None:
    """The split `data` if it lies here; None, noted, if `data` is but a name."""
    try:
        return open_split(data)
    except UserError:
        dataset, sign, part = data.partition("/")
        if not sign or Path(data).exists():
            raise
        plain_name(dataset, f"--data {data}: the data set")
        plain_name(part, f"--data {data}: the split")
        report.notes.append(f"no split {data} lies here: it is taken as a name, without fingerprint and size")
        return None


def _measured(record: Record, data: str | None, split: Split | None, same_data: bool) -> Place:
    """Names of the data set and its part, for values that do not name theirs. Raises UserError where files disagree."""
    if split is not None:
        named = (split.dataset, split.split)
        if record.samples is not None and record.samples != split.samples:
            raise UserError(
                f"{record.where}: measured on {record.samples} images, {data} has {split.samples}: name another --data"
            )
    elif data is not None:
        dataset, _, part = data.partition("/")
        named = (dataset, part)
    else:
        if record.dataset is None and any(value.dataset is None for value in record.values):
            raise UserError(f"{record.where}: it does not say what was measured; add --data DATASET/SPLIT")
        return record.dataset or "", record.split
    said = record.dataset
    if said is None and record.values and all(value.dataset is not None for value in record.values):
        places = sorted({f"{value.dataset}/{value.split}" for value in record.values})
        if "/".join(named) not in places:
            others = ", ..." if len(places) > 3 else ""
            raise UserError(
                f"{record.where}: it says itself what was measured ({', '.join(places[:3])}{others}), not {data}: "
                "leave --data out"
            )
    if said is not None and said != named[0] and not same_data:
        raise UserError(
            f"{record.where}: measured on {said}, not on {named[0]}: leave --data out, or add --same-data if both are "
            "names of the same pictures and texts"
        )
    return named


def _bring_in(
    store: Store, record: Record, place: Place, split: Split | None, name: str | None
) -> tuple[str, int]:
    """Store the record; the id of its run, and how many values it has."""
    groups = _groups(record, place, split)
    run = _run(store, record, name)
    if store.runs([f"id={run.id}"], light=True):
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


def _groups(record: Record, place: Place, split: Split | None) -> list[tuple[EvaluationKey, list[Value]]]:
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


def _refuse_other_values(
    store: Store, run_id: str, record: Record, groups: list[tuple[EvaluationKey, list[Value]]]
) -> None:
    """Raise UserError where the run holds another number for the same question: one would hide the other.

    The epochs of one log are told apart by their step; there a later line of one epoch is a correction.
    """
    if record.program == LOG:
        return
    held = {
        (row["task"], row["dataset"], row["split"], row["protocol"], row["options_hash"], row["metric"]): row
        for row in store.metrics(run_id)
    }
    for key, values in groups:
        for value in values:
            question = (key.task, key.dataset, key.split, key.protocol.id, key.options_hash, value.name)
            row = held.get(question)
            new = None if math.isnan(value.value) else value.value
            if row is not None and row["checkpoint_hash"] != key.checkpoint_hash and row["value"] != new:
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
    held = [] if record.program == LOG else store.metrics(run_id)
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
