"""CLIP_benchmark's results: a JSON for each evaluation, or the CSV that its `build` makes of many.

Its retrieval is any-hit over all captions, our protocol `full`; it breaks ties by position and we against the model,
which real embeddings do not notice. Its zero-shot prompts and its probe are its own, so they keep options of their own.
A language other than English is other captions or other prompts: it becomes part of the data set's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gaprun.errors import UserError
from gaprun.exchange.records import DATASETS, OURS, Record, RecordReader, Value, digest_of, text_of
from gaprun.files import plain_name
from gaprun.protocols import FULL

PROGRAM = "CLIP_benchmark"
NEEDED = {"dataset", "model", "pretrained", "task"}
RETRIEVAL = re.compile(r"(image|text)_retrieval_recall@([1-9]\d{0,5})")

_CLASSIFICATION = {"acc1": "top1", "acc5": "top5", "mean_per_class_recall": "mean_class"}
_LABELS = NEEDED | {"metrics", "language", "model_fullname", "classnames", "templates"}
_PROBE_SETTINGS = {"weight_decay", "epochs", "seed", "fewshot_k", "normalized"}  # among its probe's metrics


def read_json(path: Path, document: dict[str, Any]) -> Record:
    """The record of one JSON. Raises UserError for what is none."""
    both = document.keys() & document["metrics"].keys()
    if both:
        raise UserError(f"{path}: it says {min(both)!r} twice, among its metrics and beside them")
    row = {**document["metrics"], **document}
    if missing := NEEDED - row.keys():
        raise UserError(f"{path}: not a result of CLIP_benchmark (it has no {', '.join(sorted(missing))})")
    return _record(path, "", row, row.keys(), text=False)


def read_row(path: Path, line: int, row: dict[str, str]) -> Record:
    """The record of one row of a CSV; its empty cells belong to other rows' tasks."""
    return _record(path, f"line {line}", row, [name for name in row if row[name].strip()], text=True)


def dataset_name(dataset: str, language: str, where: str) -> str:
    """gaprun's name of a data set of CLIP_benchmark in a language: `flickr30k`, `flickr30k-de`, `vtab-cifar100`."""
    plain = DATASETS.get(dataset, dataset.removeprefix("wds/").replace("/", "-"))
    if language.lower() != "en":
        plain += f"-{plain_name(language, f'{where}: its language')}"
    return plain_name(plain, f"{where}: its dataset")


def _record(path: Path, place: str, row: dict[str, Any], names: Iterable[str], text: bool) -> Record:
    where = f"{path}, {place}" if place else str(path)
    task = text_of(row, "task", where)
    language = text_of(row, "language", where, empty=True) or "en"
    dataset = dataset_name(text_of(row, "dataset", where), language, where)
    raw_model, pretrained = text_of(row, "model", where), text_of(row, "pretrained", where, empty=True)
    reader = RecordReader(where)
    settings = _PROBE_SETTINGS if task == "linear_probe" else set()
    for name in names:
        if name not in _LABELS and name not in settings:
            _take(reader, task, name, row, text)
    model = Path(raw_model.removeprefix("local-dir:")).name or raw_model
    facts = {"model": raw_model, "pretrained": pretrained}
    return Record(
        file=str(path),
        place=place,
        program=PROGRAM,
        model=f"{model}-{Path(pretrained).stem}" if pretrained else model,
        identity={"model": facts},
        values=reader.values,
        left_out=reader.left_out,
        odd=reader.odd,
        # Over the values and not the file, so that its JSON and its CSV (columns in any order) are one evaluation.
        digest=digest_of([facts, dataset, sorted((v.task, v.name, v.value) for v in reader.values)]),
        dataset=dataset,
    )


def _take(reader: RecordReader, task: str, name: str, row: dict[str, Any], text: bool) -> None:
    """Add the value called `name` under our name, or its name to what is left out."""
    made: tuple[str, str, dict[str, Any]] | None = None
    if task == "zeroshot_retrieval" and (match := RETRIEVAL.fullmatch(name)):
        made = "retrieval", f"{match[1]}_recall@{match[2]}", OURS
    elif task == "zeroshot_classification" and name in _CLASSIFICATION:
        made = "zeroshot", f"zeroshot_{_CLASSIFICATION[name]}", {"templates": PROGRAM}
    elif task == "linear_probe" and name == "lp_acc1":
        given = row.get("fewshot_k")
        shots = None if given in (None, "") else reader.number("fewshot_k", given, text)
        made = "probe", "probe_top1", {"solver": PROGRAM, "fewshot_k": shots}
    if made is None:
        reader.left_out.append(name)
        return
    number = reader.number(name, row[name], text)
    if number is not None:
        task_name, ours, options = made
        reader.values.append(Value(task_name, ours, reader.share(name, number), FULL, options))
