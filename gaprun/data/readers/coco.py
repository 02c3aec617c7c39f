"""MSCOCO: the official caption files, Karpathy's splits, or both."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from gaprun.data.annotations import read_coco, read_karpathy
from gaprun.data.division import split_word
from gaprun.data.reader import READERS, Captioned
from gaprun.data.tables import Entry
from gaprun.data.tally import Tally
from gaprun.errors import UserError


@READERS.register
class Coco(Captioned):
    """MSCOCO: official pictures and captions (2014 or 2017 names), with Karpathy's splits where given."""

    reader: Literal["coco"] = "coco"
    example: ClassVar[str] = (
        "gaprun data coco --images train2014 --images val2014 --karpathy dataset_coco.json"
    )
    captions: list[Path] = Field([], description="captions_*.json; repeatable.")
    karpathy: Path | None = Field(None, description="Karpathy's dataset_coco.json: its splits.")

    @property
    def source(self) -> Path:
        """Karpathy's file, else the first of the official ones."""
        return self.karpathy or self.captions[0]

    def entries(self, tally: Tally) -> Sequence[Entry]:
        """See `coco_entries`; a file's name says its split unless the command divides."""
        return coco_entries(self.captions, self.karpathy, not self.division.divides, tally)


def coco_entries(
    captions: Sequence[Path], karpathy: Path | None, infer_split: bool, tally: Tally | None = None
) -> list[Entry]:
    """Entries of MSCOCO: Karpathy's pictures and splits, or the official files' own.

    With both, Karpathy's file decides the splits and the official captions replace its sentences wherever
    they know the picture; official pictures that it lacks are counted as `not_in_karpathy`. `infer_split`: an
    official file's split is the word train, val, validation or test in its name. Raises UserError.
    """
    official = [entry for path in captions for entry in _named_split(path, read_coco(path), infer_split)]
    if karpathy is None:
        if not captions:
            raise UserError("give --captions (the official JSON), --karpathy (dataset_coco.json), or both")
        return official
    entries = read_karpathy(karpathy)
    by_number = {entry.number: entry for entry in official if entry.number is not None}
    for entry in entries:
        if entry.number in by_number:
            own = by_number[entry.number]
            entry.captions, entry.languages = own.captions, own.languages
    known = {entry.number for entry in entries}
    for entry in official:
        if entry.number not in known and tally is not None:
            tally.add("not_in_karpathy", entry.file)
    return entries


def _named_split(path: Path, entries: list[Entry], infer: bool) -> list[Entry]:
    """The entries with the split that the file's name says in a word of its own: `restrain` says nothing."""
    words = (
        {split_word(word) for word in re.findall(r"[a-z]+", path.stem.lower())} - {None} if infer else set()
    )
    if len(words) > 1:
        named = " and ".join(sorted(map(str, words)))
        raise UserError(
            f"--captions {path}: its name says {named}: rename it, or divide with --split-fractions"
        )
    for entry in entries:
        entry.split = entry.split or next(iter(words), None)
    return entries
