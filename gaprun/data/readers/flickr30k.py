"""Flickr30k: Karpathy's JSON, the original token file, or a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from gaprun.data.annotations import read_karpathy
from gaprun.data.reader import READERS, Captioned
from gaprun.data.tables import Entry, read_table, read_tokens
from gaprun.data.tally import Tally


@READERS.register
class Flickr30k(Captioned):
    """Flickr30k: Karpathy's JSON with its splits, or the original token file."""

    reader: Literal["flickr30k"] = "flickr30k"
    example: ClassVar[str] = (
        "gaprun data flickr30k --images flickr30k-images --captions dataset_flickr30k.json"
    )
    captions: Path = Field(description="dataset_flickr30k.json, results_20130124.token or CSV.")

    @property
    def source(self) -> Path:
        """The captions' file."""
        return self.captions

    def entries(self, tally: Tally) -> Sequence[Entry]:
        """See `flickr_entries`."""
        return flickr_entries(self.captions, tally)


def flickr_entries(captions: Path, tally: Tally | None = None) -> list[Entry]:
    """Entries of Flickr30k: Karpathy's `dataset_flickr30k.json`, `results_20130124.token`, or a CSV table."""
    if captions.suffix == ".json":
        return read_karpathy(captions, "--captions")
    if captions.suffix in (".token", ".txt"):
        return read_tokens(captions)
    return read_table(captions, tally=tally)
