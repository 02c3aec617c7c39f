"""The entries that each `gaprun data` command means: which files are read, and how they combine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from gaprun.data.annotations import read_coco, read_karpathy
from gaprun.data.division import split_word
from gaprun.data.tables import Entry, read_table, read_tokens
from gaprun.data.tally import Tally
from gaprun.data.text import read_text
from gaprun.errors import UserError


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
            entry.captions = by_number[entry.number].captions
    known = {entry.number for entry in entries}
    for entry in official:
        if entry.number not in known and tally is not None:
            tally.add("not_in_karpathy", entry.file)
    return entries


def flickr_entries(captions: Path, tally: Tally | None = None) -> list[Entry]:
    """Entries of Flickr30k: Karpathy's `dataset_flickr30k.json`, `results_20130124.token`, or a CSV table."""
    if captions.suffix == ".json":
        return read_karpathy(captions, "--captions")
    if captions.suffix in (".token", ".txt"):
        return read_tokens(captions)
    return read_table(captions, tally=tally)


def flickr8k_entries(captions: Path, lists: Mapping[str, Path], tally: Tally) -> list[Entry]:
    """Entries of Flickr8k: `Flickr8k.token.txt`, with the split of each picture from the official `lists`.

    `lists`: a file of picture names, one a line, by split name. With lists, pictures that none of them names are left
    out and counted, and so is the official token file's one name that no picture has
    (`2258277193_586949ec62.jpg.1`, which no list names). Raises UserError for a picture in two lists, and for a list
    that names a picture without captions.
    """
    entries = read_tokens(captions)
    if not lists:
        return entries
    home: dict[str, str] = {}
    for split, path in lists.items():
        for number, line in enumerate(read_text(path, f"--{split}-list").split("\n"), 1):
            name = line.strip()
            if name and home.setdefault(name, split) != split:
                raise UserError(
                    f"--{split}-list {path} line {number}: {name} is in the list of {home[name]} too"
                )
    known = {entry.file for entry in entries}
    absent = [name for name in home if name not in known]
    if absent:
        count = f"{len(absent)} pictures of the split lists, such as {absent[0]}"
        raise UserError(f"--captions {captions} has no caption for {count}")
    chosen = []
    for entry in entries:
        if entry.file in home:
            entry.split = home[entry.file]
            chosen.append(entry)
        else:
            tally.add("unknown_split_picture", entry.file)
    return chosen


def table_entries(
    captions: Path, image_column: str | None, caption_column: str | None, tally: Tally | None = None
) -> list[Entry]:
    """Entries of any set: COCO captions JSON by its suffix `.json`, else a table."""
    if captions.suffix.lower() == ".json":
        if image_column or caption_column:
            raise UserError("--image-column and --caption-column are for tables; --captions is a JSON file")
        return read_coco(captions)
    return read_table(captions, image_column, caption_column, tally)


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
        entry.split = next(iter(words), None)
    return entries
