"""Readers for SugarCrepe, Winoground and MMVP-VLM as their authors publish them; no data is shipped.

docs/composition.md says where each is to be had and which layout is expected here.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaprun.errors import UserError

SUGARCREPE = ("add_att", "add_obj", "replace_att", "replace_obj", "replace_rel", "swap_att", "swap_obj")
NAMES = ("sugarcrepe", "winoground", "mmvp")


@dataclass(frozen=True)
class Item:
    """One question: `images` and `texts` index the set's lists; images[i] belongs to texts[i], and a text
    beyond the images is a foil."""

    category: str
    images: tuple[int, ...]
    texts: tuple[int, ...]


@dataclass
class CompositionSet:
    """A benchmark ready to embed: every image file and text once, and the questions over them."""

    name: str
    images: list[Path] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    _seen: dict[Path, int] = field(default_factory=dict, repr=False)

    def add(self, category: str, images: list[Path], texts: list[str]) -> None:
        """Add a question; an image file that several questions share is listed once."""
        for path in images:
            if path not in self._seen:
                self._seen[path] = len(self.images)
                self.images.append(path)
        first = len(self.texts)
        self.texts += texts
        index = tuple(range(first, first + len(texts)))
        self.items.append(Item(category, tuple(self._seen[path] for path in images), index))


def read_composition(name: str, folder: Path, images: Path | None = None) -> CompositionSet:
    """Read benchmark `name` from `folder`; `images` is SugarCrepe's folder of COCO val2017 pictures where
    it is not `folder/val2017`.

    Raises UserError for an unknown name, a file that is missing or not in the published format, and
    pictures that are not there (the first is named, all are counted).
    """
    readers = {"sugarcrepe": _sugarcrepe, "winoground": _winoground, "mmvp": _mmvp}
    if name not in readers:
        raise UserError(f"unknown composition benchmark {name!r}: choose one of {', '.join(NAMES)}")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; docs/composition.md says where to get {name}")
    found = readers[name](folder, images)
    if not found.items:
        raise UserError(f"{folder}: no {name} questions found")
    missing = [path for path in found.images if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: picture is missing ({len(missing)} of {len(found.images)} are)")
    return found


def _sugarcrepe(folder: Path, images: Path | None) -> CompositionSet:
    """`<category>.json`: {"0": {"filename", "caption", "negative_caption"}, ...}, a file for each
    category."""
    found = CompositionSet("sugarcrepe")
    base = folder / "data" if (folder / "data").is_dir() else folder
    pictures = images or folder / "val2017"
    files = [base / f"{category}.json" for category in SUGARCREPE]
    present = [path for path in files if path.is_file()]
    if not present:
        raise UserError(
            f"{base}: none of SugarCrepe's files is here ({', '.join(path.name for path in files)})"
        )
    for path in present:
        for key, entry in _json(path).items():
            with _Line(path, f"entry {key}", "filename, caption and negative_caption"):
                texts = [str(entry["caption"]), str(entry["negative_caption"])]
                found.add(path.stem, [pictures / entry["filename"]], texts)
    return found


def _winoground(folder: Path, images: Path | None) -> CompositionSet:
    """`examples.jsonl` with id, image_0, image_1, caption_0, caption_1, collapsed_tag; pictures
    `images/<name>.png`."""
    found = CompositionSet("winoground")
    base = folder / "data" if (folder / "data" / "examples.jsonl").is_file() else folder
    path = base / "examples.jsonl"
    pictures = images or base / "images"
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        with _Line(path, f"line {number}", "image_0, image_1, caption_0 and caption_1"):
            entry = json.loads(line)
            files = [_with_suffix(pictures, entry[f"image_{side}"]) for side in (0, 1)]
            texts = [str(entry[f"caption_{side}"]) for side in (0, 1)]
            found.add(str(entry.get("collapsed_tag", "")), files, texts)
    return found


def _mmvp(folder: Path, images: Path | None) -> CompositionSet:
    """`Questions.csv` (Question ID, Type, Statement), two rows a pair; `MLLM_VLM Images/<Type>/<Question
    ID>.jpg`."""
    found = CompositionSet("mmvp")
    path = folder / "Questions.csv"
    pictures = images or folder / "MLLM_VLM Images"
    rows = [row for row in csv.reader(_lines(path)[1:]) if row]
    if len(rows) % 2:
        raise UserError(f"{path}: {len(rows)} questions, but MMVP-VLM's come in pairs")
    for number in range(0, len(rows), 2):
        with _Line(path, f"pair {number // 2 + 1}", "Question ID, Type, Statement"):
            (first, pattern, one), (second, other_pattern, other) = rows[number], rows[number + 1]
            if pattern != other_pattern:
                raise ValueError("two types in one pair")
            files = [pictures / pattern / f"{int(question)}.jpg" for question in (first, second)]
            # The published evaluation puts these words before every statement.
            found.add(pattern, files, [f"a photo of {statement}" for statement in (one, other)])
    return found


def _with_suffix(folder: Path, name: str) -> Path:
    """Winoground's table leaves the `.png` of its picture names out."""
    return folder / (name if Path(name).suffix else f"{name}.png")


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; docs/composition.md shows the expected layout") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads("\n".join(_lines(path)))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from None
    if not isinstance(table, dict):
        raise UserError(f"{path}: expected an object of numbered entries")
    return table


class _Line:
    """Turns whatever is wrong with one entry into an error that names file, place and expected fields."""

    def __init__(self, path: Path, place: str, fields: str) -> None:
        self.path, self.place, self.fields = path, place, fields

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError | TypeError | ValueError):
            raise UserError(f"{self.path}: {self.place} is not in the format {self.fields}") from None
