"""What a reader of a data set is: options that the command line takes, and the splits that it writes.

A reader is one class with `READERS.register`, in a file of `gaprun/data/readers` or in a module that GAPRUN_PLUGINS
names; it appears as a command, `gaprun data NAME`, made from its fields. Those of pictures with captions derive from
`Captioned` and share its options. No torch here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from gaprun.data.captioned import captioned_plans
from gaprun.data.division import Division
from gaprun.data.folders import Folders
from gaprun.data.languages import HELP
from gaprun.data.split import data_root
from gaprun.data.tables import Entry, in_languages
from gaprun.data.tally import Tally
from gaprun.data.write import SplitPlan
from gaprun.errors import UserError
from gaprun.registry import Registry
from gaprun.section import Section


class Reader(Section):
    """Options of its own (fields with a description), and `plans`. The docstring's first paragraph is the help text.

    example: shown below it. argument: the field that stands without `--` on the command line.
    """

    example: ClassVar[str] = ""
    argument: ClassVar[str | None] = None
    reader: str
    out: Path | None = Field(
        None,
        description="Folder of the data set; default: its name in GAPRUN_DATA, or in `data` where that is unset.",
    )

    @property
    def folder(self) -> Path:
        """Where the splits go, a folder each."""
        return self.out or data_root() / self.reader

    @abstractmethod
    def plans(self) -> list[SplitPlan]:
        """One plan a split, below `folder`. Raises UserError, also for a given option that would change nothing."""

    def refuse_given(self, name: str, why: str) -> None:
        """Raise UserError where the option `name` was given, even at its default."""
        if name in self.model_fields_set:
            raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: {why}")


READERS: Registry[Reader] = Registry("reader", "reader")


class Captioned(Reader):
    """Pictures in folders with captions from files: cleaned, counted, divided into splits where asked.

    A reader of this kind gives `entries` and `source`.
    """

    images: list[Path] = Field(description="Folder of pictures; repeatable.")
    size: int | None = Field(
        None, description="Bring the shorter side down to this; default: keep the files."
    )
    quality: int = Field(95, description="JPEG quality where --size changes a picture.")
    test: int | None = Field(None, description="Hold out this many pictures as `test`.")
    split_fractions: str | None = Field(None, description="Shares by split, e.g. train=0.8,test=0.2.")
    split: str = Field("train", description="Split for pictures that nothing else assigns.")
    seed: int = Field(0, description="Seed of the division into splits.")
    language: list[str] = Field([], description=HELP)

    @property
    @abstractmethod
    def source(self) -> Path:
        """The file that names the pictures, for messages; its name is kept with the splits."""

    @abstractmethod
    def entries(self, tally: Tally) -> Sequence[Entry]:
        """The pictures' names with their captions and, where the set has splits of its own, their split.

        What is left out is counted in `tally`. Raises UserError.
        """

    @property
    def division(self) -> Division:
        """How pictures without a split of their own are divided. Raises UserError."""
        return Division.parse(self.split_fractions, self.test, self.split)

    def plans(self) -> list[SplitPlan]:
        """The set as shards."""
        division, tally = self.division, Tally()
        entries = in_languages(self.entries(tally), self.language, self.source, tally)
        if self.size is None:
            self.refuse_given("quality", "without --size the files are kept as they are: leave it out")
        if not division.divides:
            self.refuse_given("seed", "nothing is divided: leave it out, or give --test or --split-fractions")
        if division.shares:
            self.refuse_given("split", "--split-fractions names every split: leave it out")
        if entries and all(entry.split is not None for entry in entries):
            self.refuse_given("split", f"{self.source} has its own splits: leave it out")
        return captioned_plans(
            self.reader,
            self.folder,
            entries,
            Folders(self.images),
            self.source,
            division,
            self.seed,
            self.size,
            self.quality,
            tally,
        )
