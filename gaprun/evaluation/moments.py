"""Means and covariances of matched pairs in one float64 pass: everything centred that the gap suite needs.

The state is five arrays of at most D x D, so memory does not grow with the number of pairs, and two states
merge exactly (Chan, Golub & LeVeque 1983), so shards may be accumulated apart and joined.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array, unit_rows


@dataclass
class Moments:
    """Moments of N pairs of unit rows x_i (images), y_i (texts) in D dimensions; covariances divide by N.

    mean_x, mean_y: (D,). scatter_xx, scatter_yy, scatter_xy: (D, D), sums of centred outer products.
    matched: sum over i of x_i . y_i.
    """

    dim: int
    count: int = 0
    matched: float = 0.0
    mean_x: Array = field(init=False)
    mean_y: Array = field(init=False)
    scatter_xx: Array = field(init=False)
    scatter_yy: Array = field(init=False)
    scatter_xy: Array = field(init=False)

    def __post_init__(self) -> None:
        self.mean_x, self.mean_y = np.zeros(self.dim), np.zeros(self.dim)
        shape = (self.dim, self.dim)
        self.scatter_xx, self.scatter_yy, self.scatter_xy = np.zeros(shape), np.zeros(shape), np.zeros(shape)

    def add(self, images: Array, texts: Array) -> None:
        """Add matched rows (n, D). Rows are normalised; UserError for one without a direction."""
        x = unit_rows(images, "image", self.count)
        y = unit_rows(texts, "text", self.count)
        part = Moments(self.dim, count=len(x), matched=float(np.einsum("ij,ij->", x, y)))
        part.mean_x, part.mean_y = x.mean(0), y.mean(0)
        x -= part.mean_x
        y -= part.mean_y
        part.scatter_xx, part.scatter_yy, part.scatter_xy = x.T @ x, y.T @ y, x.T @ y
        self.merge(part)

    def merge(self, other: Moments) -> None:
        """Add another state's pairs to this one, exactly up to float64 rounding."""
        total = self.count + other.count
        if other.count == 0:
            return
        step_x, step_y = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        between = self.count * other.count / total
        self.scatter_xx += other.scatter_xx + between * np.outer(step_x, step_x)
        self.scatter_yy += other.scatter_yy + between * np.outer(step_y, step_y)
        self.scatter_xy += other.scatter_xy + between * np.outer(step_x, step_y)
        self.mean_x = self.mean_x + step_x * (other.count / total)
        self.mean_y = self.mean_y + step_y * (other.count / total)
        self.matched += other.matched
        self.count = total

    @property
    def cov_x(self) -> Array:
        return self.scatter_xx / self.count

    @property
    def cov_y(self) -> Array:
        return self.scatter_yy / self.count

    @property
    def cov_xy(self) -> Array:
        return self.scatter_xy / self.count

    def pooled(self) -> tuple[Array, Array]:
        """Mean (D,) and covariance (D, D) of the 2N rows of both clouds together."""
        difference = self.mean_x - self.mean_y
        covariance = (self.cov_x + self.cov_y) / 2 + np.outer(difference, difference) / 4
        return (self.mean_x + self.mean_y) / 2, covariance


def pair_moments(images: Array, texts: Array, *, chunk: int = 4096) -> Moments:
    """Moments of matched rows (N, D), read `chunk` rows at a time, so memory-mapped files never load whole.

    Raises UserError for no pairs, unequal shapes, and rows that are zero or not finite.
    """
    if images.shape != texts.shape:
        raise UserError(f"pairs need equal shapes: images {images.shape}, texts {texts.shape}")
    if len(images) == 0:
        raise UserError("no pairs to measure: the split has no captioned images")
    moments = Moments(images.shape[1])
    for start in range(0, len(images), chunk):
        moments.add(images[start : start + chunk], texts[start : start + chunk])
    return moments
