"""Drawn scenes: captioned and labelled pictures that need no download."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from gaprun.data.reader import READERS, Reader
from gaprun.data.scenes import scenes_plans
from gaprun.data.write import SplitPlan


@READERS.register
class Scenes(Reader):
    """Draw captioned scenes: one to three shapes on a background, five partial captions each; no download."""

    reader: Literal["scenes"] = "scenes"
    example: ClassVar[str] = "gaprun data scenes --out data/scenes --train 4000 --test 1000"
    train: int = Field(4000, description="Captioned pictures to train on.")
    test: int = Field(1000, description="Captioned pictures held out.")
    classes_train: int = Field(2000, description="Labelled pictures for the linear probe.")
    classes_test: int = Field(1000, description="Labelled pictures for zero-shot and probe.")
    size: int = Field(32, description="Side of the pictures in pixels.")
    seed: int = Field(0, description="Same seed, same bytes.")

    def plans(self) -> list[SplitPlan]:
        """See `scenes_plans`."""
        counts = (self.train, self.test, self.classes_train, self.classes_test)
        return scenes_plans(self.folder, *counts, self.size, self.seed)
