"""The entries that each `gaprun data` command means: which files are read, and how they combine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from gaprun.data.annotations import Entry, read_coco, read_karpathy, read_table, read_tokens
from gaprun.errors import UserError


def coco_entries(captions: Sequence[Path], karpathy: Path | None, infer_split: bool) -> list[Entry]:
    """Entries of MSCOCO: Karpathy's pictures and splits, or the official files' own.

    With both, Karpathy's file decides the splits and the official captions replace its sentences wherever
    they know the picture. `infer_split`: an official file's split is the word train, val or test in
    its name. Raises UserError.
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
            entry.captions = by_number[entry.number].captions
    return entries


def flickr_entries(captions: Path) -> list[Entry]:
    """Entries of Flickr30k: Karpathy's `dataset_flickr30k.json`, `results_20130124.token`, or a CSV table."""
    if captions.suffix == ".json":
        return read_karpathy(captions, "--captions")
    return read_tokens(captions) if captions.suffix in (".token", ".txt") else read_table(captions)


def table_entries(captions: Path, image_column: str | None, caption_column: str | None) -> list[Entry]:
    """Entries of any set: COCO captions JSON by its suffix `.json`, else a table."""
    if captions.suffix.lower() == ".json":
        return read_coco(captions)
    return read_table(captions, image_column, caption_column)


def _named_split(path: Path, entries: list[Entry], infer: bool) -> list[Entry]:
    found = re.search(r"train|val|test", path.stem) if infer else None
    for entry in entries:
        entry.split = found[0] if found else None
    return entries
