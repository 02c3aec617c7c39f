"""Reading caption files in JSON: COCO's captions and Karpathy's splits.

Each reader gives entries in the file's order: one picture with its captions, and its split where known.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gaprun.data.division import check_split_name, own_split
from gaprun.data.languages import language_of
from gaprun.data.tables import Entry
from gaprun.data.text import listed, read_text
from gaprun.errors import UserError


def read_json(path: Path, option: str) -> Any:
    """The parsed JSON file; UserError naming `option` where it is absent or no JSON."""
    text = read_text(path, option)
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{option} {path} is not JSON: {error}") from None
    except RecursionError:
        raise UserError(f"{option} {path} is not JSON that anybody wrote: it is nested too deeply") from None


def read_coco(path: Path, option: str = "--captions") -> list[Entry]:
    """Entries of a COCO captions file (`images` and `annotations`); captions in the order of annotation ids.

    A `split` of an image is its split.

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
        split = own_split(str(image.get("split") or ""), f"{option} {path}, image {number}")
        own = number if isinstance(number, int) else None
        entries[number] = Entry(name, id=number, number=own, split=split)
    annotations = _dicts(content["annotations"], path, "annotations")
    for note in sorted(annotations, key=lambda note: _order(note, path)):
        if "caption" not in note:
            raise UserError(f"{option} {path} has annotations without 'caption': give a captions_*.json file")
        owner = _id(note.get("image_id"), path, "annotations")
        if owner not in entries:
            raise UserError(f"{option} {path}: a caption names the image {owner}, which 'images' lacks")
        entries[owner].add(_captions(note["caption"], path, "annotations", "caption"), language_of(note))
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
        entry = Entry(
            file=f"{folder}/{name}" if folder else name,
            id=number if number is not None else image.get("imgid"),
            number=number if isinstance(number, int) else None,
            split="train" if split == "restval" else split,
        )
        for one in sentences:
            entry.add(_captions(one.get("raw"), path, "sentences", "raw"), language_of(one))
        entries.append(entry)
    return entries


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


def _captions(value: Any, path: Path, where: str, name: str) -> list[str]:
    """The caption, or several where the text is a list of them."""
    text = _text(value, path, where, name)
    several = listed(text)
    return [text] if several is None else several


def _id(value: Any, path: Path, where: str) -> int | str:
    if isinstance(value, int | str):
        return value
    raise UserError(f"{path}: an entry of '{where}' has no image id (it is {value!r})")


def _order(note: dict[str, Any], path: Path) -> int:
    if not isinstance(note.get("id", 0), int):
        raise UserError(f"{path}: annotation id {note['id']!r} is not a whole number")
    return note.get("id", 0)
