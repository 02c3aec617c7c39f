"""Class names and prompt templates that lie beside labelled shards: CLIP_benchmark's two text files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaprun.data.tally import Tally
from gaprun.data.text import clean_caption, read_text
from gaprun.errors import UserError

CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"


@dataclass(frozen=True)
class ClassNames:
    """Names by label and templates with one `{}`, where there are any; `source` is the file of the names."""

    names: list[str] | None = None
    templates: list[str] | None = None
    source: Path | None = None


def read_class_names(folder: Path, tars: Sequence[Path]) -> ClassNames:
    """From `classnames.txt` and `zeroshot_classification_templates.txt`, a line each, in `folder` or beside the shards.

    "Beside" is a shard's own folder or the one above it, where CLIP_benchmark keeps them for all splits; what lies in
    `folder` or above it goes first. Raises UserError for files that differ between the shards' folders, and for a line
    that is no name or template.
    """
    homes = list(dict.fromkeys(tar.resolve().parent for tar in tars))
    names, source = _lines(CLASS_NAMES, folder.resolve(), homes)
    templates, where = _lines(TEMPLATES, folder.resolve(), homes)
    if templates is not None:
        templates = [line.replace("{c}", "{}") for line in templates]
        for number, line in enumerate(templates, 1):
            if line.count("{}") != 1:
                raise UserError(
                    f"{where} line {number}: a template holds {{c}} or {{}} once, for the class name"
                )
    return ClassNames(names, templates, source)


def _lines(name: str, folder: Path, homes: Sequence[Path]) -> tuple[list[str] | None, Path | None]:
    """The lines of the file `name` for `folder`, else of the one that all `homes` agree on, with its path."""
    nearest = [
        next((path for path in (home / name, home.parent / name) if path.is_file()), None) for home in homes
    ]
    own = next((path for path in (folder / name, folder.parent / name) if path.is_file()), None)
    paths = [path for path in dict.fromkeys([own] if own else nearest) if path is not None]
    if not paths:
        return None, None
    found = [_read(path) for path in paths]
    for path, lines in zip(paths, found, strict=True):
        if lines != found[0]:
            raise UserError(f"{paths[0]} and {path} differ: index the shards of each folder apart")
    return found[0], paths[0]


def _read(path: Path) -> list[str]:
    lines = read_text(path, "").rstrip("\n").split("\n")
    cleaned = [clean_caption(line) for line in lines]
    for number, line in enumerate(cleaned, 1):
        if not line:
            raise UserError(f"{path} line {number} is empty or no text")
    return [line for line in cleaned if line]


def check_labels(words: ClassNames, lines: Sequence[dict[str, Any]], tally: Tally) -> list[str] | None:
    """The class names where samples have labels, else None. Raises UserError for a label beyond the names."""
    labelled = [line for line in lines if line["label"] is not None]
    if not labelled:
        return None
    if words.names is None:
        tally.add("label_without_name", labelled[0]["key"], len(labelled))
        return None
    worst = max(labelled, key=lambda line: line["label"])
    if worst["label"] >= len(words.names):
        count = f"{len(words.names)} names and the sample {worst['key']} has label {worst['label']}"
        raise UserError(f"{words.source} has {count} (counted from 0): these names belong to another set")
    count_classes(words.names, (line["label"] for line in labelled), tally)
    return words.names


def count_classes(classes: Sequence[str], labels: Iterable[int], tally: Tally) -> None:
    """Count what zero-shot would answer in a way that nobody expects: names twice, classes without any picture."""
    for name, count in Counter(classes).items():
        if count > 1:
            tally.add("repeated_class_name", name, count)
    used = set(labels)
    for number in range(len(classes)):
        if number not in used:
            tally.add("class_without_picture", classes[number])
