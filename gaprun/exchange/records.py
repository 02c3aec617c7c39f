"""Reading the result files of open_clip_train (results.jsonl) and CLIP_benchmark (JSON, CSV) into named values.

open_clip_train measures matched pairs, one caption an image: `image_to_text_R@5` is the share of images whose own
caption is among their five best, our text_recall@5 under protocol `pairs`. CLIP_benchmark's retrieval is any-hit over
all captions, our protocol `full`; it breaks ties by position and we against the model, which real embeddings do not
notice. Its zero-shot prompts and its probe are its own.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaprun.errors import UserError

OPEN_CLIP, CLIP_BENCHMARK = "open_clip_train", "CLIP_benchmark"
# The options under which `Retrieval` stores its values when the recipe says nothing else.
OURS = {"ties": "pessimistic", "draws": 10}
# CLIP_benchmark's names of sets that gaprun knows by another.
DATASETS = {"mscoco_captions": "coco", "wds/mscoco_captions": "coco"}

_RETRIEVAL = re.compile(r"(image|text)_retrieval_recall@(\d+)")
_PAIRS = re.compile(r"(image_to_text|text_to_image)_(R@\d+|mean_rank|median_rank)")
_ZERO_SHOT = re.compile(r"(.+?)-zeroshot-(.+)-top(1|5)")
_CLASSIFICATION = {"acc1": "top1", "acc5": "top5", "mean_per_class_recall": "mean_class"}
_LABELS = {"dataset", "model", "pretrained", "task", "language", "model_fullname", "classnames", "templates"}
_SETTINGS = {"weight_decay", "epochs", "seed", "fewshot_k", "normalized"}  # of its probe, among its metrics


@dataclass(frozen=True)
class Value:
    """One number under our name; `dataset` None means the record's own."""

    task: str
    name: str
    value: float
    protocol: str = "full"
    options: dict[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    split: str = ""
    n: int | None = None


@dataclass
class Record:
    """One evaluation in a file. `digest` identifies its content; `left_out` are its names that mean nothing here."""

    file: str
    program: str
    model: str
    model_facts: dict[str, Any]
    values: list[Value]
    left_out: list[str]
    digest: str
    step: int = 0
    dataset: str | None = None
    split: str = "test"
    samples: int | None = None


def read_file(path: Path) -> list[Record]:
    """The records of one file, told by its ending and content. Raises UserError naming the file and line."""
    try:
        if path.suffix == ".jsonl":
            records = list(_jsonl(path))
        elif path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                records = [_benchmark(path, row) for row in csv.DictReader(file)]
        else:
            document = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(document, dict) or not isinstance(document.get("metrics"), dict):
                raise UserError(f"{path}: not a result of CLIP_benchmark (it has no metrics)")
            records = [_benchmark(path, {**document["metrics"], **document})]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged, or not a result file ({error})") from None
    if not any(record.values for record in records):
        names = sorted({name for record in records for name in record.left_out})
        raise UserError(
            f"{path}: no value in it that gaprun has a name for ({', '.join(names) or 'it is empty'})"
        )
    return records


def _jsonl(path: Path) -> Iterator[Record]:
    parameters = _parameters(path)
    model = parameters.get("name") or parameters.get("model") or path.resolve().parent.name
    facts = {key: parameters[key] for key in ("name", "model", "pretrained") if parameters.get(key)}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise UserError(f"{path}, line {number}: not JSON; is the file cut off?") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {number}: not a result of open_clip_train")
        samples = row.get("num_samples")
        values, left_out = [], []
        for name, value in row.items():
            if name in ("epoch", "num_samples"):
                continue
            made = _open_clip_value(name, _number(value), samples)
            values.extend([made] if made else [])
            left_out.extend([] if made else [name])
        yield Record(
            file=str(path),
            program=OPEN_CLIP,
            model=str(model),
            model_facts=facts or {"name": str(model)},
            values=values,
            left_out=left_out,
            digest=_digest(row),
            step=int(row.get("epoch", number)),
            samples=samples,
        )


def _open_clip_value(name: str, value: float | None, samples: int | None) -> Value | None:
    if value is None:
        return None
    if match := _PAIRS.fullmatch(name):
        # A text query finds its image: that is our image_recall.
        side = "text" if match[1] == "image_to_text" else "image"
        if match[2].startswith("R@"):
            return Value("retrieval", f"{side}_recall@{match[2][2:]}", 100 * value, "pairs", OURS, n=samples)
        # Its median of an even number of ranks is rounded down.
        rule = {"median": "floor"} if match[2] == "median_rank" else OURS
        return Value("retrieval", f"{side}_{match[2]}", value, "pairs", rule, n=samples)
    if match := _ZERO_SHOT.fullmatch(name):
        prompts = {"templates": "open_clip"}
        return Value("zeroshot", f"zeroshot_top{match[3]}", 100 * value, "full", prompts, match[1], match[2])
    if name == "clip_val_loss":
        return Value("validation", "val_loss", value, "pairs", n=samples)
    return None


def _parameters(path: Path) -> dict[str, str]:
    """The `key: value` lines of params.txt that open_clip_train writes one folder up."""
    for folder in (path.parent, path.parent.parent):
        try:
            text = (folder / "params.txt").read_text(encoding="utf-8")
        except OSError:
            continue
        pairs = (line.partition(": ") for line in text.splitlines())
        return {key: value for key, sign, value in pairs if sign and value not in ("", "None")}
    return {}


def _benchmark(path: Path, row: Mapping[str, Any]) -> Record:
    missing = {"dataset", "model", "pretrained", "task"} - row.keys()
    if missing:
        raise UserError(f"{path}: not a result of CLIP_benchmark (it has no {', '.join(sorted(missing))})")
    task, language = str(row["task"]), str(row.get("language") or "en")
    pretrained = str(row["pretrained"] or "")
    values, left_out = [], []
    for name, raw in row.items():
        number = None if name in _LABELS else _number(raw)
        if number is None:  # also the columns of other rows' tasks in a CSV
            continue
        if name in _SETTINGS:
            continue
        made = _benchmark_value(task, name, number, language, row)
        values.extend([made] if made else [])
        left_out.extend([] if made else [name])
    model = Path(str(row["model"]).removeprefix("local-dir:")).name
    dataset = DATASETS.get(str(row["dataset"]), str(row["dataset"]).removeprefix("wds/").replace("/", "-"))
    facts = {"model": str(row["model"]), "pretrained": pretrained}
    return Record(
        file=str(path),
        program=CLIP_BENCHMARK,
        model=f"{model}-{Path(pretrained).stem}" if pretrained else model,
        model_facts=facts,
        values=values,
        left_out=left_out,
        # Over the values and not the file, so that its JSON and its CSV (columns in any order) are one evaluation.
        digest=_digest([facts, dataset, sorted((value.task, value.name, value.value) for value in values)]),
        dataset=dataset,
    )


def _benchmark_value(
    task: str, name: str, value: float, language: str, row: Mapping[str, Any]
) -> Value | None:
    other = {} if language == "en" else {"language": language}
    if task == "zeroshot_retrieval" and (match := _RETRIEVAL.fullmatch(name)):
        return Value("retrieval", f"{match[1]}_recall@{match[2]}", 100 * value, "full", OURS | other)
    if task == "zeroshot_classification" and name in _CLASSIFICATION:
        prompts = {"templates": CLIP_BENCHMARK} | other
        return Value("zeroshot", f"zeroshot_{_CLASSIFICATION[name]}", 100 * value, "full", prompts)
    if task == "linear_probe" and name == "lp_acc1":
        solver = {"solver": CLIP_BENCHMARK, "fewshot_k": _number(row.get("fewshot_k"))}
        return Value("probe", "probe_top1", 100 * value, "full", solver)
    return None


def _number(value: Any) -> float | None:
    """A finite number, also as a CSV's text; None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None


def _digest(document: Any) -> str:
    return "record:" + hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
