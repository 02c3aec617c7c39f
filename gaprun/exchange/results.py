"""Results that open_clip's training loop and CLIP_benchmark wrote, brought in as runs of kind external.

A value is stored under our name only where its definition is ours; what says the same thing by another rule keeps
options of its own, so that `compare` puts it in one column with ours only if asked to mix. Percent, as everywhere
here: the files hold shares of 1. Such a run's recipe is named `model@program`, and each of its evaluations names the
file's program as the code that measured it; in place of a checkpoint's hash stands that of the record in the file.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gaprun.data.split import Split, open_split
from gaprun.errors import UserError
from gaprun.exchange.records import Record, Value, read_file
from gaprun.store import EvaluationKey, NewRun, Store
from gaprun.store.liveness import this_host

NO_FINGERPRINT = ""


@dataclass
class Imported:
    """One run that was made or added to: how many values it got, and which names of the file were not taken."""

    run_id: str
    file: str
    values: int = 0
    left_out: list[str] = field(default_factory=list)


def import_files(
    store: Store, files: Sequence[Path], data: str | None = None, name: str | None = None
) -> list[Imported]:
    """Bring in every record of `files` (results.jsonl, CLIP_benchmark's JSON or CSV); the same twice changes nothing.

    `data` names what was measured: a split that lies here, then its fingerprint and size go with the values and
    they stand beside our own, or just `dataset/split`. `name` replaces the recipe's name. Raises UserError, before
    anything is stored, for a file that is neither and for data that the file does not name.
    """
    records = [record for path in files for record in read_file(path)]
    split = _local(data) if data else None
    several = sorted({record.dataset for record in records if record.dataset is not None})
    if data and len(several) > 1:
        raise UserError(
            f"--data {data}: the files hold several data sets ({', '.join(several)}); import them apart"
        )
    placed = [(record, *_measured(record, data, split)) for record in records]
    done: dict[tuple[str, str], Imported] = {}
    for record, dataset, part in placed:
        run_id = _ensure_run(store, record, name)
        one = done.setdefault((run_id, record.file), Imported(run_id, record.file))
        one.left_out = sorted({*one.left_out, *record.left_out})
        one.values += _store(store, run_id, record, dataset, part, split)
    return list(done.values())


def _local(data: str) -> Split | None:
    """The split `data` if it lies here; None if `data` is but a name."""
    try:
        return open_split(data)
    except UserError:
        if re.fullmatch(r"[\w.+-]+/[\w.+-]+", data) and not Path(data).exists():
            return None
        raise


def _measured(record: Record, data: str | None, split: Split | None) -> tuple[str, str]:
    """Names of the data set and its part."""
    if split is not None:
        if record.samples is not None and record.samples != split.samples:
            raise UserError(
                f"{record.file}: measured on {record.samples} images, {data} has {split.samples}: name another --data"
            )
        return split.dataset, split.split
    if data is not None:
        dataset, _, part = data.partition("/")
        return dataset, part
    if record.dataset is None and any(value.dataset is None for value in record.values):
        raise UserError(f"{record.file}: the file does not say what was measured; add --data DATASET/SPLIT")
    return record.dataset or "", record.split


def _ensure_run(store: Store, record: Record, name: str | None) -> str:
    recipe = name or f"{record.model}@{record.program}"
    clean = re.sub(r"[^A-Za-z0-9._+=,@-]", "-", recipe)
    resolved = {"name": clean, "model": record.model_facts, "source": record.program}
    text = json.dumps(resolved, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    run_id = f"{clean}-{digest[:8]}"
    if store.runs([f"id={run_id}"], light=True):
        return run_id
    run = NewRun(
        id=run_id,
        recipe=clean,
        kind="external",
        seed=None,
        recipe_hash=digest,
        resolved_recipe=resolved,
        environment={"source": f"{record.program}: {record.file}", "imported_on": this_host()},
        code_version=record.program,
        folder=f"{store.artifacts.name}/{run_id}",
        total_steps=0,
    )
    store.begin_run(run)
    store.finish_run(run_id, "finished")
    return run_id


def _store(store: Store, run_id: str, record: Record, dataset: str, part: str, split: Split | None) -> int:
    groups: dict[tuple[str, str, str, str, str], list[Value]] = {}
    for value in record.values:
        place = (value.dataset, value.split) if value.dataset is not None else (dataset, part)
        protocol = "full" if value.protocol == "pairs" and _one_caption_each(split) else value.protocol
        options = json.dumps(value.options, sort_keys=True)
        groups.setdefault((value.task, *place, protocol, options), []).append(value)
    stored = 0
    for (task, one, other, protocol, options), values in groups.items():
        here = split is not None and (one, other) == (split.dataset, split.split)
        key = EvaluationKey(
            checkpoint_hash=record.digest,
            step=record.step,
            task=task,
            dataset=one,
            split=other,
            data_fingerprint=split.fingerprint if split is not None and here else NO_FINGERPRINT,
            protocol=protocol,
            options=json.loads(options),
        )
        known = {value.name: value.value for value in values}
        size = split.samples if split is not None and here else values[0].n
        found = store.find_evaluation(run_id, key)
        if found is None:
            store.add_evaluation(run_id, key, known, size, None, code_version=record.program)
        stored += len(known)
    return stored


def _one_caption_each(split: Split | None) -> bool:
    """Whether open_clip's one-caption pairs are all there is, so that its measure is our `full`."""
    return split is not None and all(len(captions) == 1 for captions in split.captions)
