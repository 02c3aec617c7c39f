"""mteb's result files: results/ORGANISATION__MODEL/REVISION/TASK.json, with the model's model_meta.json beside them.

A task's name tells what was asked: `FlickrT2IRetrieval` finds images by text, `...I2TRetrieval` texts by image. Its hit
rate (`cv_recall_at_k` before version 2) is the share of queries with any right answer among k, our recall; its
`recall_at_k` is a share of the right answers, which is the same only where a query has one. Prompts, solver and shots
of classification are mteb's own, so they keep options of their own; only its image tasks are known, by name.
mteb's copies of data sets differ from those in use elsewhere (its MSCOCO merges equal captions), so that they are
called `mteb-flickr30k` here, and `mteb-flickr30k-de` in a subset. Its numbers have five digits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaprun.errors import UserError
from gaprun.exchange.records import OURS, Record, RecordReader, Value, digest_of, text_of
from gaprun.files import plain_name
from gaprun.protocols import FULL
from gaprun.store.texts import check_texts

PROGRAM = "mteb"
META = "model_meta.json"

# `I` before T2I may as well be that of IT2I, whose queries are pictures with texts.
_RETRIEVAL = re.compile(r"(.+)((?<!I)T2I|I2T)Retrieval(\.v\d+)?")
_HITS = re.compile(r"(hit_rate|cv_recall)_at_([1-9]\d{0,5})")
_IMAGES = (
    "Birdsnap|Caltech101|CIFAR10|CIFAR100|CLEVR|CLEVRCount|Country211|DTD|EuroSAT|FER2013|FGVCAircraft|Food101|GTSRB|"
    "Imagenet1k|MNIST|OxfordFlowers|OxfordPets|PatchCamelyon|RESISC45|RenderedSST2|STL10|StanfordCars|SUN397|UCF101"
)
_CLASSIFICATION = re.compile(rf"({_IMAGES})(ZeroShot|Classification)?")
_SHOTS = {5: 16, 10: 8}  # a class, by how often they are drawn: of mteb's image tasks, and its default
_LABELS = {"hf_subset", "languages", "mteb_version", "main_score", "scores_per_experiment"}


def is_mteb(document: Any) -> bool:
    """Whether a JSON is a result of mteb, of this or an earlier version."""
    return isinstance(document, dict) and (
        {"task_name", "scores"} <= document.keys() or "mteb_dataset_name" in document
    )


def read(path: Path, document: dict[str, Any], meta: Any) -> list[Record]:
    """The records of one file, one a split and subset; `meta`: what model_meta.json says, None where there is none.

    Raises UserError for what mteb does not write, and for what says the same twice.
    """
    if "mteb_dataset_name" in document:
        raise UserError(f"{path}: written by mteb before 1.11, whose form is not read: measure again")
    task = text_of(document, "task_name", str(path))
    facts = _model(path, meta)
    splits = document["scores"]
    if not isinstance(splits, dict) or not all(isinstance(found, list) for found in splits.values()):
        raise UserError(f"{path}: damaged: its scores are no lists by split")
    records: dict[tuple[str, str], Record] = {}
    for split, found in splits.items():
        for scores in found:
            if not isinstance(scores, dict):
                raise UserError(f"{path}: damaged: its scores of {split!r} are no mappings")
            subset = text_of(scores, "hf_subset", f"{path}, {split}")
            place = (plain_name(split, f"{path}: its split"), subset)
            if place in records:
                raise UserError(f"{path}: it says subset {subset!r} of {split} twice")
            records[place] = _record(path, task, facts, *place, scores)
    return list(records.values())


def _model(path: Path, meta: Any) -> dict[str, Any]:
    """Name, revision and settings of the model, by model_meta.json or by the folders that mteb makes."""
    if meta is not None:
        if not isinstance(meta, dict):
            raise UserError(f"{path.parent / META}: damaged, or not of mteb")
        facts = {"name": text_of(meta, "name", str(path.parent / META))}
        facts["revision"] = text_of(meta, "revision", str(path.parent / META), empty=True)
        if settings := meta.get("experiment_kwargs"):
            check_texts(settings, f"{path.parent / META}: its experiment_kwargs")
            facts["experiment"] = settings
        return facts
    revision = path.resolve().parent
    organisation, sign, model = revision.parent.name.partition("__")
    if not sign:
        raise UserError(
            f"{path}: it does not say which model it is of: leave it in mteb's folder, beside {META}"
        )
    check_texts(str(revision), f"{path}: its folder")
    return {"name": f"{organisation}/{model}", "revision": revision.name}


def _record(
    path: Path, task: str, facts: dict[str, Any], split: str, subset: str, scores: dict[str, Any]
) -> Record:
    place = split if subset == "default" else f"{split}, subset {subset}"
    where = f"{path}, {place}"
    reader = RecordReader(where)
    dataset = task
    if retrieval := _RETRIEVAL.fullmatch(task):
        dataset = retrieval[1] + (retrieval[3] or "")
        _take_retrieval(reader, "image" if retrieval[2] == "T2I" else "text", scores)
    elif classes := _CLASSIFICATION.fullmatch(task):
        dataset = classes[1]
        zero_shot = classes[2] == "ZeroShot" or classes[1] == "RenderedSST2"
        _take_accuracy(reader, zero_shot, scores)
    else:
        reader.left_out += [f"all of {task}"]
    name = f"mteb-{dataset.lower()}" + ("" if subset == "default" else f"-{subset}")
    return Record(
        file=str(path),
        place=place,
        program=PROGRAM,
        model=facts["name"],
        identity={"model": facts},
        values=reader.values,
        left_out=reader.left_out,
        odd=reader.odd,
        digest=digest_of([facts, name, split, sorted((v.task, v.name, v.value) for v in reader.values)]),
        dataset=plain_name(name, f"{where}: its data set") if reader.values else None,
        split=split,
        says_split=True,
    )


def _take_retrieval(reader: RecordReader, side: str, scores: Mapping[str, Any]) -> None:
    kind = "hit_rate" if any(name.startswith("hit_rate_at_") for name in scores) else "cv_recall"
    for name, raw in scores.items():
        found = _HITS.fullmatch(name)
        if found is None or found[1] != kind:
            if name not in _LABELS:
                _leave_out(reader, name)
            continue
        number = reader.number(name, raw)
        if number is None:
            continue
        share = reader.share(name, number)
        if side == "image" and scores.get(f"recall_at_{found[2]}") != raw:
            # Some texts have several images: what finds one of them has not found "its" image.
            _leave_out(reader, name)
            continue
        reader.values.append(Value("retrieval", f"{side}_recall@{found[2]}", share, FULL, OURS))


def _take_accuracy(reader: RecordReader, zero_shot: bool, scores: Mapping[str, Any]) -> None:
    drawn = scores.get("scores_per_experiment")
    for name, raw in scores.items():
        if name != "accuracy" or zero_shot != (drawn is None):
            if name not in _LABELS:
                _leave_out(reader, name)
        elif (number := reader.number(name, raw)) is not None:
            share = reader.share(name, number)
            if drawn is None:
                reader.values.append(Value("zeroshot", "zeroshot_top1", share, FULL, {"templates": PROGRAM}))
                continue
            if not isinstance(drawn, list):
                raise UserError(f"{reader.where}: damaged: its scores_per_experiment are no list")
            solver = {"solver": PROGRAM, "experiments": len(drawn), "shots": _SHOTS.get(len(drawn))}
            reader.values.append(Value("probe", "probe_top1", share, FULL, solver))


def _leave_out(reader: RecordReader, name: str) -> None:
    """Name the family and not each of the hundred names that one task has."""
    family = "nauc_*" if name.startswith("nauc_") else re.sub(r"_at_\d+$", "_at_k", name)
    if family not in reader.left_out:
        reader.left_out.append(family)
