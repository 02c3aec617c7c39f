"""Plans for captioned sets: annotations matched with picture files, cleaned, counted, divided into splits."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from gaprun.data.annotations import Entry
from gaprun.data.division import Division
from gaprun.data.pictures import Folders, Picture, file_size, picture_outcome
from gaprun.data.shards import safe_key
from gaprun.data.write import Plan, digest
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
) -> list[Plan]:
    """One plan a split, below `out`. `division` divides the entries that have no split of their own.

    White space in captions is stripped and collapsed. Counted for the whole set in the first plan's report:
    `no_caption` (picture files and entries), `caption_without_image` (captions), `caption_whitespace`
    (captions cleaned), `empty_caption` (captions dropped), `repeated_picture` (entries of the same file,
    joined). `source` is the annotation file. Raises UserError on bad options, where nothing matches, or where
    one file is in two splits.
    """
    if size is not None and not 8 <= size <= 4096:
        raise UserError(f"--size {size} is outside 8..4096 pixels")
    if not 1 <= quality <= 100:
        raise UserError(f"--quality {quality} is outside 1..100")
    if not entries:
        raise UserError(f"{source} names no picture")
    matched = _Matching(folders, source)
    for entry in entries:
        matched.add(entry)
    matched.count_files_without_entry()
    if not matched.pictures:
        counts = ", ".join(f"{name} {n}" for name, n in sorted(matched.report.items()))
        raise UserError(f"no picture of {source} with a caption is in --images ({counts})")
    if division.divides and all(split is not None for _, split in matched.pictures.values()):
        raise UserError(f"{source} has its own splits: leave --test and --split-fractions out")
    groups = divide(list(matched.pictures.values()), division, seed)
    plans: list[Plan] = []
    for split, pictures in groups.items():
        content = [
            [os.path.basename(one.path), file_size(one.path), one.key, one.captions, one.id]
            for one in pictures
        ]
        settings = {"kind": kind, "captions": source.name, "size": size, "quality": quality if size else None}
        plans.append(
            Plan(
                folder=out / split,
                items=pictures,
                make=partial(picture_outcome, size=size, quality=quality),
                source={**settings, "split": split, "content": digest(content)},
                image_size=size,
                report=dict(matched.report) if not plans else {},
                examples=matched.examples if not plans else {},
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
    """Pictures found so far, with what was counted on the way."""

    def __init__(self, folders: Folders, source: Path) -> None:
        self.folders, self.source = folders, source
        self.pictures: dict[str, tuple[Picture, str | None]] = {}
        self.report: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self._keys: set[str] = set()
        self._used: set[str] = set()

    def add(self, entry: Entry) -> None:
        relative = self.folders.find(entry.file, self.source, entry.number)
        if relative is None:
            reason = "caption_without_image" if entry.captions else "no_caption"
            self._count(reason, entry.file, len(entry.captions) or 1)
            return
        self._used.add(relative)
        captions = self._clean(entry)
        if not captions:
            self._count("no_caption", entry.file)
        elif relative in self.pictures:
            picture, split = self.pictures[relative]
            if split != entry.split:
                splits = f"{split} and {entry.split}"
                raise UserError(f"{self.source} puts the picture {entry.file} into two splits: {splits}")
            self._count("repeated_picture", entry.file)
            self.pictures[relative] = replace(picture, captions=(*picture.captions, *captions)), split
        else:
            key = safe_key(PurePosixPath(entry.file).stem, self._keys)
            path = self.folders.files[relative]
            self.pictures[relative] = Picture(path, key, tuple(captions), None, entry.id), entry.split

    def count_files_without_entry(self) -> None:
        for relative in self.folders.files:
            if relative not in self._used:
                self._count("no_caption", relative)

    def _clean(self, entry: Entry) -> list[str]:
        captions = []
        for text in entry.captions:
            cleaned = " ".join(text.split())
            if not cleaned:
                self._count("empty_caption", entry.file)
                continue
            if cleaned != text:
                self._count("caption_whitespace", entry.file)
            captions.append(cleaned)
        return captions

    def _count(self, reason: str, name: str, count: int = 1) -> None:
        self.report[reason] += count
        names = self.examples.setdefault(reason, [])
        if len(names) < 20:
            names.append(name)
