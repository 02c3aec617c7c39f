"""Any captioned set: COCO captions format, or a table of pictures and captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from gaprun.data.annotations import read_coco
from gaprun.data.reader import READERS, Captioned
from gaprun.data.tables import Entry, read_table
from gaprun.data.tally import Tally
from gaprun.errors import UserError


@READERS.register
class Captions(Captioned):
    """Any captioned set: COCO captions format, or a table of (image, caption) rows."""

    reader: Literal["captions"] = "captions"
    example: ClassVar[str] = (
        "gaprun data captions --images pictures --captions a.csv --out data/mine --test 500"
    )
    out: Path = Field(description="Folder of the data set.")
    captions: Path = Field(description="COCO captions JSON, or CSV/TSV with a header.")
    image_column: str | None = Field(None, description="Column of file names in a table.")
    caption_column: str | None = Field(None, description="Column of captions in a table.")

    @property
    def source(self) -> Path:
        """The captions' file."""
        return self.captions

    def entries(self, tally: Tally) -> Sequence[Entry]:
        """See `table_entries`."""
        return table_entries(self.captions, self.image_column, self.caption_column, tally)


def table_entries(
    captions: Path, image_column: str | None, caption_column: str | None, tally: Tally | None = None
) -> list[Entry]:
    """Entries of any set: COCO captions JSON by its suffix `.json`, else a table."""
    if captions.suffix.lower() == ".json":
        if image_column or caption_column:
            raise UserError("--image-column and --caption-column are for tables; --captions is a JSON file")
        return read_coco(captions)
    return read_table(captions, image_column, caption_column, tally)
