"""Labelled pictures: CIFAR, an npz file, class folders, scikit-learn's digits."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from gaprun.data.classes import class_plans
from gaprun.data.reader import READERS, Reader
from gaprun.data.split import data_root
from gaprun.data.write import SplitPlan


@READERS.register
class Classes(Reader):
    """Labelled pictures for zero-shot and probe: CIFAR, npz, class folders, or scikit-learn's digits."""

    reader: Literal["classes"] = "classes"
    example: ClassVar[str] = "gaprun data classes cifar10 --download --out data/cifar10"
    argument: ClassVar[str | None] = "source"
    source: str = Field(description="cifar10, cifar100, digits, an .npz file, or a folder.")
    test_share: float | None = Field(
        None, description="Held-out share where the set has no splits; default: 0.2."
    )
    seed: int = Field(0, description="Seed of the division into splits.")
    root: Path | None = Field(None, description="Where torchvision keeps CIFAR.")
    download: bool = Field(False, description="Let torchvision fetch CIFAR.")

    @property
    def folder(self) -> Path:
        """Named after the source."""
        return self.out or data_root() / Path(self.source).resolve().stem

    def plans(self) -> list[SplitPlan]:
        """See `class_plans`."""
        return class_plans(self.source, self.folder, self.test_share, self.seed, self.root, self.download)
