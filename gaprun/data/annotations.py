"""Reading caption files: COCO captions JSON, Karpathy's split JSON, CSV tables and Flickr30k's token file.

Each reader gives entries in the file's order: one picture with its captions, and its split where known.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaprun.data.division import check_split_name
from gaprun.errors import UserError

_IMAGE_COLUMNS = ("image", "image_name", "file_name", "filename", "filepath", "image_path", "file")
_CAPTION_COLUMNS = ("caption", "comment", "text", "title", "sentence")


@dataclass
class Entry:
    """One picture as its annotation file knows it; `number` is its COCO id where it has one."""

    file: str
    captions: list[str] = field(default_factory=list)
    id: int | str | None = None
    number: int | None = None
    split: str | None = None


def read_json(path: Path, option: str) -> Any:
    """The parsed JSON file; UserError naming `option` where it is absent or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{option} {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{option} {path} is not JSON: {error}") from None


def read_coco(path: Path, option: str = "--captions") -> list[Entry]:
    """Entries of a COCO captions file (`images` and `annotations`); captions in the order of annotation ids.

    Raises UserError where the file is something else, such as COCO's instances, or contradicts itself.
    """
    content = read_json(path, option)
    if not isinstance(content, dict) or not {"images", "annotations"} <= content.keys():
        hint = " (a Karpathy split file is given as --karpathy)" if _is_karpathy(content) else ""
        raise UserError(f"{option} {path} is no COCO captions file: no 'images' and 'annotations'{hint}")
    entries: dict[int | str, Entry] = {}
    for image in _dicts(content["images"], path, "images"):
        number = _id(image.get("id"), path, "images")
        if number in entries:
            raise UserError(f"{option} {path} has image id {number} twice")
        name = _text(image.get("file_name"), path, "images", "file_name")
        entries[number] = Entry(name, id=number, number=number if isinstance(number, int) else None)
    annotations = _dicts(content["annotations"], path, "annotations")
    for note in sorted(annotations, key=lambda note: _order(note, path)):
        if "caption" not in note:
            raise UserError(f"{option} {path} has annotations without 'caption': give a captions_*.json file")
        owner = _id(note.get("image_id"), path, "annotations")
        if owner not in entries:
            raise UserError(f"{option} {path}: a caption names the image {owner}, which 'images' lacks")
        entries[owner].captions.append(_text(note["caption"], path, "annotations", "caption"))
    return list(entries.values())


def read_karpathy(path: Path, option: str = "--karpathy") -> list[Entry]:
    """Entries of a Karpathy split file (`dataset_coco.json` and its like); restval joins train."""
    content = read_json(path, option)
    if not _is_karpathy(content):
        raise UserError(f"{option} {path} is no Karpathy split file: it has no images with 'sentences'")
    entries = []
    for image in _dicts(content["images"], path, "images"):
        name = _text(image.get("filename"), path, "images", "filename")
        folder = image.get("filepath")
        split = _text(image.get("split"), path, "images", "split")
        check_split_name(split)
        sentences = _dicts(image.get("sentences", []), path, "sentences")
        number = image.get("cocoid")
        entries.append(
            Entry(
                file=f"{folder}/{name}" if folder else name,
                captions=[_text(one.get("raw"), path, "sentences", "raw") for one in sentences],
                id=number if number is not None else image.get("imgid"),
                number=number if isinstance(number, int) else None,
                split="train" if split == "restval" else split,
            )
        )
    return entries


def read_table(path: Path, image_column: str | None = None, caption_column: str | None = None) -> list[Entry]:
    """Entries of a table with a header, one (image, caption) pair a row; rows of one image are joined.

    The delimiter (comma, tab, bar or semicolon) is the one that the header uses most. Raises UserError where
    a column is missing or the file is no readable UTF-8 table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            file.seek(0)
            rows = csv.DictReader(file, delimiter=max(",\t|;", key=header.count), skipinitialspace=True)
            names = [name.strip() for name in rows.fieldnames or []]
            rows.fieldnames = names
            image = _column(names, image_column, _IMAGE_COLUMNS, path, "image")
            caption = _column(names, caption_column, _CAPTION_COLUMNS, path, "caption")
            return _joined((row[image] or "", row[caption] or "") for row in rows)
    except OSError as error:
        raise UserError(f"--captions {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--captions {path} is no UTF-8 table: {error}") from None


def read_tokens(path: Path) -> list[Entry]:
    """Entries of Flickr's token file: lines of `1000092795.jpg#0<tab>caption`."""
    pairs = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            name, tab, caption = line.partition("\t")
            if not tab and line.strip():
                raise UserError(f"--captions {path} line {number} has no tab: not a Flickr token file")
            if tab:
                pairs.append((name.rpartition("#")[0] or name, caption))
    except OSError as error:
        raise UserError(f"--captions {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"--captions {path} is no UTF-8 text: {error}") from None
    return _joined(pairs)


def _joined(pairs: Iterable[tuple[str, str]]) -> list[Entry]:
    entries: dict[str, Entry] = {}
    for name, caption in pairs:
        name = name.strip()
        if name:
            entries.setdefault(name, Entry(name, id=name)).captions.append(caption)
    return list(entries.values())


def _column(names: list[str], wanted: str | None, usual: tuple[str, ...], path: Path, kind: str) -> str:
    for name in (wanted,) if wanted else usual:
        if name in names:
            return name
    looked = wanted or " or ".join(usual[:2])
    raise UserError(
        f"--captions {path} has no column '{looked}' (it has: {', '.join(names) or 'none'}): "
        f"name it with --{kind}-column"
    )


def _is_karpathy(content: Any) -> bool:
    images = content.get("images") if isinstance(content, dict) else None
    first = images[0] if isinstance(images, list) and images else None
    return isinstance(first, dict) and "sentences" in first


def _dicts(value: Any, path: Path, name: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UserError(f"{path}: '{name}' is not a list of objects")
    return value


def _text(value: Any, path: Path, where: str, name: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{path}: an entry of '{where}' has no text '{name}' (it is {value!r})")
    return value


def _id(value: Any, path: Path, where: str) -> int | str:
    if isinstance(value, int | str):
        return value
    raise UserError(f"{path}: an entry of '{where}' has no image id (it is {value!r})")


def _order(note: dict[str, Any], path: Path) -> int:
    if not isinstance(note.get("id", 0), int):
        raise UserError(f"{path}: annotation id {note['id']!r} is not a whole number")
    return note.get("id", 0)
