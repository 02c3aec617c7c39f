"""Flickr8k: the official token file and split lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from gaprun.data.reader import READERS, Captioned
from gaprun.data.tables import Entry, read_tokens
from gaprun.data.tally import Tally
from gaprun.data.text import read_text
from gaprun.errors import UserError

_LIST = "Names of the split's pictures, one a line."


@READERS.register
class Flickr8k(Captioned):
    """Flickr8k: the official token file, with the official split lists where given."""

    reader: Literal["flickr8k"] = "flickr8k"
    example: ClassVar[str] = (
        "gaprun data flickr8k --images Flicker8k_Dataset --captions Flickr8k.token.txt --train-list "
        "Flickr_8k.trainImages.txt --val-list Flickr_8k.devImages.txt --test-list Flickr_8k.testImages.txt"
    )
    captions: Path = Field(description="Flickr8k.token.txt.")
    train_list: Path | None = Field(None, description=_LIST)
    val_list: Path | None = Field(None, description=_LIST)
    test_list: Path | None = Field(None, description=_LIST)

    @property
    def source(self) -> Path:
        """The token file."""
        return self.captions

    def entries(self, tally: Tally) -> Sequence[Entry]:
        """See `flickr8k_entries`."""
        lists = {"train": self.train_list, "val": self.val_list, "test": self.test_list}
        return flickr8k_entries(self.captions, {name: path for name, path in lists.items() if path}, tally)


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
