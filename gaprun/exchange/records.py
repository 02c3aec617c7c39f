"""What a foreign result file says, in gaprun's terms: values under our names, and checks that they can be true.

A value is taken only where it can be what its name says: a share lies between 0 and 1, a rank is at least 1. One that
cannot be refuses its file, because the others of the file may be of another unit too (percent for shares). NaN is
kept as "no value", so that an older one does not stand in its place. Names for which gaprun has no metric are
counted by name.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

from gaprun.errors import UserError
from gaprun.protocols import FULL, Protocol
from gaprun.store.texts import check_texts

# The options under which `Retrieval` stores its values when the recipe says nothing else.
OURS = {"ties": "pessimistic", "draws": 10}
# A name that CLIP_benchmark has for a set, and gaprun's.
DATASETS = {"mscoco_captions": "coco", "wds/mscoco_captions": "coco"}
LARGEST = 1e100  # squares of it can still be added up
ROUNDING = 1e-6  # a share that was added up in float32 may lie so far above 1


@dataclass(frozen=True)
class Value:
    """One number under our name, NaN where the file says so; `dataset` None means the record's own."""

    task: str
    name: str
    value: float
    protocol: Protocol = FULL
    options: dict[str, Any] = field(default_factory=dict)
    dataset: str | None = None
    split: str = ""
    n: int | None = None


@dataclass
class Record:
    """One evaluation in a file. `place` says where in the file; `digest` identifies the evaluation's content.

    `left_out` are the names that mean nothing here, `odd` the names and texts of what is no number. `says_split`: the
    file names the split, and may hold several; else `split` is what its program measures by habit.
    """

    file: str
    place: str
    program: str
    model: str
    identity: dict[str, Any]
    values: list[Value]
    left_out: list[str]
    odd: list[str]
    digest: str
    step: int = 0
    dataset: str | None = None
    split: str = "test"
    says_split: bool = False
    samples: int | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def where(self) -> str:
        """The file, and the place in it where it has several."""
        return f"{self.file}, {self.place}" if self.place else self.file


class RecordReader:
    """Collects the values of one record; `where` begins each message about it."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.values: list[Value] = []
        self.left_out: list[str] = []
        self.odd: list[str] = []

    def number(self, name: str, raw: Any, text: bool = False) -> float | None:
        """`raw` as a float (NaN allowed); None, noted by name, for what is none. `text`: numbers come as text."""
        if isinstance(raw, str) and text:
            try:
                return float(raw)
            except ValueError:
                pass
        elif isinstance(raw, int | float) and not isinstance(raw, bool):
            try:
                return float(raw)
            except OverflowError:
                raise UserError(f"{self.where}: {name} is absurdly large") from None
        self.odd.append(f"{name} ({_short(raw)})")
        return None

    def share(self, name: str, number: float) -> float:
        """Percent of a share of 1. Raises UserError for what is none."""
        if math.isnan(number):
            self.odd.append(f"{name} (NaN)")
            return number
        if not 0 <= number <= 1 + ROUNDING:
            percent = ", or percent" if 1 < number <= 100 else ""
            raise UserError(
                f"{self.where}: {name} is {number:g}, which is no share between 0 and 1: is the file damaged{percent}?"
            )
        return 100 * min(number, 1.0)

    def at_least(self, name: str, number: float, least: float) -> float:
        """A number of any size from `least` on. Raises UserError for what is none."""
        if math.isnan(number):
            self.odd.append(f"{name} (NaN)")
            return number
        if not least <= number <= LARGEST:
            raise UserError(f"{self.where}: {name} is {number:g}, which cannot be: is the file damaged?")
        return number


def text_of(row: dict[str, Any], key: str, where: str, empty: bool = False) -> str:
    """The text at `key` of a record. Raises UserError for another kind of value and, unless `empty`, for none."""
    value = row.get(key)
    if value is None and empty:
        return ""
    if not isinstance(value, str) or (not value.strip() and not empty):
        raise UserError(f"{where}: its {key} is {_short(value)} and not a name")
    check_texts(value, f"{where}: its {key}")
    return value.strip()


def whole_number(row: dict[str, Any], key: str, where: str, default: int | None) -> int | None:
    """The count at `key`, `default` where there is none. Raises UserError for what cannot be a count."""
    value = row.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e15 or value % 1:
        raise UserError(f"{where}: its {key} is {_short(value)}, which cannot be")
    return int(value)


def digest_of(document: Any) -> str:
    """The identity of a record's content, in place of a checkpoint's hash."""
    return "record:" + hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _short(value: Any) -> str:
    """A value for a message: begun, if it is long; nothing of what it holds, if it is a list or mapping."""
    if isinstance(value, dict | list):
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:36]} ..."
