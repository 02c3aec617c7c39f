"""The tables of results that open_clip publishes in its docs: one row a model, one column a data set and metric.

`openclip_results.csv` and `openclip_classification_results.csv` hold for each data set the main metric of DataComp's
evaluation (its tasklist.yml): accuracy, or recall averaged over classes. Where that is another (a worst group, F1,
Jaccard, the mean of two recalls, an average over data sets) the column is left out by name.
`openclip_retrieval_results.csv` holds recalls by name, and `openclip_multilingual_retrieval_results.csv` recalls by
name and language. The prompts are DataComp's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gaprun.exchange.clip_benchmark import RETRIEVAL, dataset_name
from gaprun.exchange.records import OURS, Record, RecordReader, Value, digest_of, text_of
from gaprun.protocols import FULL

PROGRAM = "open_clip_results"

_TOP1, _MEAN = "zeroshot_top1", "zeroshot_mean_class"
# Column: CLIP_benchmark's name of the data set, and the metric that DataComp reports of it.
_CLASSIFICATION = {
    "ImageNet 1k": ("imagenet1k", _TOP1),
    "Caltech-101": ("vtab/caltech101", _MEAN),
    "CIFAR-10": ("cifar10", _TOP1),
    "CIFAR-100": ("vtab/cifar100", _TOP1),
    "CLEVR Counts": ("vtab/clevr_count_all", _TOP1),
    "CLEVR Distance": ("vtab/clevr_closest_object_distance", _TOP1),
    "Country211": ("country211", _TOP1),
    "Describable Textures": ("vtab/dtd", _TOP1),
    "EuroSAT": ("vtab/eurosat", _TOP1),
    "FGVC Aircraft": ("fgvc_aircraft", _MEAN),
    "Food-101": ("food101", _TOP1),
    "GTSRB": ("gtsrb", _TOP1),
    "ImageNet Sketch": ("imagenet_sketch", _TOP1),
    "ImageNet v2": ("imagenetv2", _TOP1),
    "ImageNet-A": ("imagenet-a", _TOP1),
    "ImageNet-O": ("imagenet-o", _TOP1),
    "ImageNet-R": ("imagenet-r", _TOP1),
    "KITTI Vehicle Distance": ("vtab/kitti_closest_vehicle_distance", _TOP1),
    "MNIST": ("mnist", _TOP1),
    "ObjectNet": ("objectnet", _TOP1),
    "Oxford Flowers-102": ("vtab/flowers", _MEAN),
    "Oxford-IIIT Pet": ("vtab/pets", _MEAN),
    "Pascal VOC 2007": ("voc2007", _TOP1),
    "PatchCamelyon": ("vtab/pcam", _TOP1),
    "Rendered SST2": ("renderedsst2", _TOP1),
    "RESISC45": ("vtab/resisc45", _TOP1),
    "Stanford Cars": ("cars", _TOP1),
    "STL-10": ("stl10", _TOP1),
    "SUN397": ("sun397", _TOP1),
    "SVHN": ("vtab/svhn", _TOP1),
    "Camelyon17": ("wilds/camelyon17", _TOP1),
}
_RETRIEVAL = re.compile(r"(Flickr|MSCOCO) (image|text) retr\. R@([1-9]\d{0,5})")
_SETS = {"Flickr": "flickr30k", "MSCOCO": "coco"}
_LABELS = {"name", "pretrained", "model", "version", "params (M)", "FLOPs (B)"}


def is_ours(header: Sequence[str]) -> bool:
    """Whether a CSV's header is that of one of these tables."""
    columns = set(header) - _LABELS
    if {"name", "pretrained"} <= set(header):
        return any(name in _CLASSIFICATION or _RETRIEVAL.fullmatch(name) for name in columns)
    return {"model", "version"} <= set(header) and any(_multilingual(name) for name in columns)


def read_row(path: Path, line: int, row: dict[str, str]) -> Record:
    """The record of one model. Raises UserError, naming the line, for a value that cannot be."""
    where = f"{path}, line {line}"
    name = text_of(dict(row), "name" if "name" in row else "model", where)
    pretrained = text_of(dict(row), "pretrained" if "name" in row else "version", where, empty=True)
    reader = RecordReader(where)
    for column, raw in row.items():
        if column in _LABELS or not raw.strip():
            continue
        found = _column(column, where)
        if found is None:
            reader.left_out.append(column)
        elif (number := reader.number(column, raw, text=True)) is not None:
            dataset, task, metric = found
            options = OURS if task == "retrieval" else {"templates": "DataComp"}
            share = reader.share(column, number)
            reader.values.append(Value(task, metric, share, FULL, options, dataset, "test"))
    facts = {"model": name, "pretrained": pretrained}
    content = sorted((v.dataset or "", v.task, v.name, v.value) for v in reader.values)
    return Record(
        file=str(path),
        place=f"line {line}",
        program=PROGRAM,
        model=f"{name}-{pretrained}" if pretrained else name,
        identity={"model": facts},
        values=reader.values,
        left_out=reader.left_out,
        odd=reader.odd,
        digest=digest_of([facts, content]),
    )


def _column(column: str, where: str) -> tuple[str, str, str] | None:
    """Data set, task and metric of a column; None for one that gaprun has no name for."""
    if column in _CLASSIFICATION:
        dataset, metric = _CLASSIFICATION[column]
        return dataset_name(dataset, "en", where), "zeroshot", metric
    if match := _RETRIEVAL.fullmatch(column):
        return _SETS[match[1]], "retrieval", f"{match[2]}_recall@{match[3]}"
    if parts := _multilingual(column):
        dataset, metric, language = parts
        if language != "avg" and (match := RETRIEVAL.fullmatch(metric)):
            return dataset_name(dataset, language, where), "retrieval", f"{match[1]}_recall@{match[2]}"
    return None


def _multilingual(column: str) -> tuple[str, str, str] | None:
    parts = column.split(" ")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 and RETRIEVAL.fullmatch(parts[1]) else None
