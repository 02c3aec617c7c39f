"""What a researcher adds in a file of their own: one class of each kind. docs/extending.md explains it part by part."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from gaprun.data.readers import READERS, Captioned
from gaprun.data.tables import Entry
from gaprun.evaluation.task import TASKS, Measured, Task
from gaprun.evaluation.transforms import TRANSFORMS, Map, Step, Transform
from gaprun.metrics import DOWN, Metric
from gaprun.model.temperature import RULES, TemperatureRule
from gaprun.model.terms import TERMS, Term


@RULES.register
class Wave(TemperatureRule):
    """tau goes up and down `periods` times: low + (high - low) (1 - cos 2 pi k p) / 2 (Kukleva et al. 2023)."""

    rule: Literal["wave"] = "wave"
    low: float = Field(0.05, gt=0, description="tau at the start, and again after each period.")
    high: float = Field(0.2, gt=0, description="tau in the middle of a period.")
    periods: int = Field(1, ge=1, description="How often it comes back to `low`.")

    def beta(self, nu, progress):
        share = (1 - math.cos(2 * math.pi * self.periods * progress)) / 2
        return 1 / (self.low + (self.high - self.low) * share)


@TERMS.register
class Variance(Term):
    """mean_d max(0, least - sd_d) of both clouds: no coordinate may die (after VICReg, Bardes et al. 2022)."""

    name: Literal["variance"] = "variance"
    least: float = Field(0.05, ge=0, description="Standard deviation that every coordinate should have.")

    def addend(self, x, y, rows, beta, parameters, step):
        lacking = sum((self.least - cloud.std(0)).clamp(min=0).mean() for cloud in (x, y))
        return lacking * (rows.stop - rows.start) / len(x)  # the rows' share of what is no sum over rows


@TRANSFORMS.register
class TopRemoved(Transform):
    """x - mu_x without its k largest principal components, and the same for y (Mu & Viswanath 2018)."""

    name: Literal["top-removed"] = "top-removed"
    k: int = Field(1, ge=1, description="How many components go, of each cloud.")

    def fit(self, train):
        def step(rows):
            mean = rows.mean(0, dtype=np.float64)
            _, _, directions = np.linalg.svd(rows - mean, full_matrices=False)
            kept = np.eye(len(mean)) - directions[: self.k].T @ directions[: self.k]
            return Step(matrix=kept, offset=-mean @ kept)

        images, texts = train.pairs()
        return Map((step(images),), (step(texts),))


@TASKS.register
class Hubs(Task):
    """Do a few pictures come up for every text? (Radovanovic et al. 2010)"""

    task: Literal["hubs"] = "hubs"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("hub_skewness", DOWN, "skewness of how often a picture is found", places=2),
    )
    k: int = Field(10, ge=1, description="How many pictures each text finds.")

    def measure(self, embedder, split, protocol):
        """The skewness over pictures of N_k, the number of texts that have a picture among their k nearest."""
        rows = embedder.embeddings(split)
        nearest = np.argsort(-rows.texts @ rows.images.T, axis=1)[:, : self.k]
        found = np.bincount(nearest.ravel(), minlength=len(rows.images)).astype(float)
        spread = found - found.mean()
        skewness = (spread**3).mean() / max((spread**2).mean(), 1e-12) ** 1.5
        return Measured({"hub_skewness": float(skewness)}, len(rows.images), rows.dim)


@READERS.register
class Beside(Captioned):
    """Pictures with a text file of the same name beside each, one caption a line."""

    reader: Literal["beside"] = "beside"
    example: ClassVar[str] = "gaprun data beside --images pictures --out data/mine --test 500"
    ending: str = Field(".txt", description="Ending of the text files.")

    @property
    def source(self) -> Path:
        """The first folder."""
        return self.images[0]

    def entries(self, tally) -> Sequence[Entry]:
        """An entry a text file; the picture is found by its name."""
        files = sorted(path for folder in self.images for path in folder.glob(f"*{self.ending}"))
        return [Entry(f"{path.stem}.png", path.read_text().splitlines()) for path in files]
