"""Plans for captioned sets: annotations matched with picture files, cleaned, counted, divided into splits."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from gaprun.data.division import Division
from gaprun.data.folders import File, Folders, Found, Match
from gaprun.data.pictures import Picture, file_size, newest, picture_outcome
from gaprun.data.shards import safe_key
from gaprun.data.tables import Entry
from gaprun.data.tally import Tally
from gaprun.data.text import clean_caption
from gaprun.data.write import SplitPlan, digest
from gaprun.errors import UserError


def captioned_plans(
    kind: str,
    out: Path,
    entries: Sequence[Entry],
    folders: Folders,
    source: Path,
    division: Division,
    seed: int = 0,
    size: int | None = None,
    quality: int = 95,
    tally: Tally | None = None,
) -> list[SplitPlan]:
    """One plan a split, below `out`. `division` divides the entries that have no split of their own.

    White space in captions is stripped and collapsed. What is left out, cleaned or assumed (`tally.REASONS`) is counted
    for the whole set in the first plan's report, after what reading the annotations put into `tally`. `source` is the
    annotation file. Raises UserError on bad options, where nothing matches, or where one file is in two splits.
    """
    if size is not None and not 8 <= size <= 4096:
        raise UserError(f"--size {size} is outside 8..4096 pixels")
    if not 1 <= quality <= 100:
        raise UserError(f"--quality {quality} is outside 1..100")
    if not entries:
        raise UserError(f"{source} names no picture")
    tally = Tally() if tally is None else tally
    tally.join(folders.tally.counts, folders.tally.examples)
    matched = _Matching(folders, source, tally)
    matched.match(entries)
    if not matched.pictures:
        raise UserError(f"no picture of {source} with a caption is in --images ({tally})")
    if division.divides and all(split is not None for _, split in matched.pictures.values()):
        raise UserError(f"{source} has its own splits: leave --test and --split-fractions out")
    groups = divide(list(matched.pictures.values()), division, seed)
    plans: list[SplitPlan] = []
    for split, pictures in groups.items():
        content = [
            [os.path.basename(one.path), file_size(one.path), one.key, one.captions, one.id]
            for one in pictures
        ]
        settings = {"kind": kind, "captions": source.name, "size": size, "quality": quality if size else None}
        plans.append(
            SplitPlan(
                folder=out / split,
                items=pictures,
                make=partial(picture_outcome, size=size, quality=quality),
                source={**settings, "split": split, "content": digest(content)},
                image_size=size,
                newest=newest(one.path for one in pictures),
                report=dict(tally.counts) if not plans else {},
                examples=tally.examples if not plans else {},
            )
        )
    return plans


def divide(
    pictures: Sequence[tuple[Picture, str | None]], division: Division, seed: int
) -> dict[str, list[Picture]]:
    """Pictures by split. One with a split of its own keeps it; the others are ranked by sha256(seed, key).

    The first ranks go to the division's first part, and so on: where a picture goes depends on the seed and
    its own key only, so adding pictures moves few. Order within a split is the given one. Raises UserError.
    """
    free = [one for one, split in pictures if split is None]
    ranked = sorted(free, key=lambda one: hashlib.sha256(f"{seed}/{one.key}".encode()).digest())
    home: dict[str, str] = {}
    begin = 0
    for name, count in division.counts(len(free)).items():
        home.update((one.key, name) for one in ranked[begin : begin + count])
        begin += count
    groups: dict[str, list[Picture]] = {}
    for one, split in pictures:
        groups.setdefault(split or home[one.key], []).append(one)
    order = {"train": 0, "val": 1, "test": 2}
    return dict(sorted(groups.items(), key=lambda item: (order.get(item[0], 3), item[0])))


class _Matching:
    """Pictures found for the entries, with what was counted on the way."""

    def __init__(self, folders: Folders, source: Path, tally: Tally) -> None:
        self.folders, self.source, self.tally = folders, source, tally
        self.pictures: dict[str, tuple[Picture, str | None]] = {}
        self._keys: set[str] = set()

    def match(self, entries: Sequence[Entry]) -> None:
        """Find each entry's picture."""
        found = [self.folders.find(entry.file, self.source, entry.number) for entry in entries]
        certain, alike = _evidence(entries, found)
        used = set()
        for entry, match in zip(entries, found, strict=True):
            if isinstance(match, Match) and match.loosely:
                if match.file.root in certain:
                    match = None
                elif match.file.root in alike:
                    match = "ambiguous"
            if isinstance(match, Match):
                used.add(match.file.place)
                self._add(entry, match.file)
            elif not entry.captions:
                self.tally.add("no_caption", entry.file)
            else:
                reason = "caption_without_image" if match is None else "ambiguous_name"
                self.tally.add(reason, entry.file, len(entry.captions))
        for file in self.folders.files:
            if file.place not in used:
                self.tally.add("no_caption", file.relative)

    def _add(self, entry: Entry, file: File) -> None:
        captions = self._clean(entry)
        if not captions:
            self.tally.add("no_caption", entry.file)
        elif file.place in self.pictures:
            picture, split = self.pictures[file.place]
            if split != entry.split:
                splits = f"{split} and {entry.split}"
                raise UserError(f"{self.source} puts the picture {entry.file} into two splits: {splits}")
            self.tally.add("repeated_picture", entry.file)
            again = len(set(captions) & set(picture.captions))
            if again:
                self.tally.add("repeated_caption", entry.file, again)
            self.pictures[file.place] = replace(picture, captions=(*picture.captions, *captions)), split
        else:
            key = safe_key(PurePosixPath(entry.file).stem, self._keys)
            self.pictures[file.place] = Picture(file.path, key, tuple(captions), None, entry.id), entry.split

    def _clean(self, entry: Entry) -> list[str]:
        captions: list[str] = []
        for text in entry.captions:
            cleaned = clean_caption(text)
            if not cleaned:
                reason = "empty_caption" if cleaned is not None else "undecodable_caption"
                self.tally.add(reason, entry.file)
                continue
            if cleaned != text:
                self.tally.add("caption_whitespace", entry.file)
            if cleaned in captions:
                self.tally.add("repeated_caption", entry.file)
            captions.append(cleaned)
        return captions


def _evidence(entries: Sequence[Entry], found: Sequence[Found]) -> tuple[set[str], set[str]]:
    """The folders about which the names taken together tell more than each alone.

    `certain`: some name gives such a folder its right name, so that a name with another one before the file means
    another folder. `alike`: two names with different folders would mean one file, so that folders number alike and no
    name can be taken by its end only.
    """
    certain: set[str] = set()
    alike: set[str] = set()
    names: dict[str, str] = {}
    for entry, match in zip(entries, found, strict=True):
        if not isinstance(match, Match):
            continue
        if not match.loosely:
            if len(PurePosixPath(entry.file).parts) > len(PurePosixPath(match.file.relative).parts):
                certain.add(match.file.root)
        elif names.setdefault(match.file.place, entry.file) != entry.file:
            alike.add(match.file.root)
    return certain, alike
