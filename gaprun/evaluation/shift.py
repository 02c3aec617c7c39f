"""What if the gap were closed after training? Moving the two clouds without running an encoder again.

Liang et al. (2022) move both clouds along the gap vector and put the rows back on the sphere; centring takes
each cloud's own mean away, which also removes the shared offset. The caller measures again what it likes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array, Embeddings, unit_rows

FRACTIONS = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Shares of the gap that the task moves by; 0 is the model as it is, 1 makes the centroids meet."""


@dataclass(frozen=True)
class Means:
    """Centroids mu_x of images and mu_y of texts, float64 (D,)."""

    image: Array
    text: Array

    @property
    def gap(self) -> Array:
        """The gap vector mu_x - mu_y, (D,)."""
        return self.image - self.text


def fit_means(embeddings: Embeddings, *, chunk: int = 16_384) -> Means:
    """Means over matched pairs (each image's first caption), the ones the `gap` metric is the distance of."""
    images, texts = embeddings.pairs()
    if len(images) == 0:
        raise UserError("no captioned images to fit means on")
    return Means(_mean(images, "image", chunk), _mean(texts, "text", chunk))


@dataclass(frozen=True)
class Shift:
    """`x - (fraction / 2) (mu_x - mu_y)` and `y + (fraction / 2) (mu_x - mu_y)`, renormalised.

    fraction 1 lets the centroids meet before renormalising, above 1 they have changed sides, below 0 the
    gap is widened.
    """

    means: Means
    fraction: float

    def images(self, rows: Array) -> Array:
        """Moved image rows, float32 (n, D)."""
        return _moved(rows, -0.5 * self.fraction * self.means.gap, "image")

    def texts(self, rows: Array) -> Array:
        """Moved caption, prompt or class rows, float32 (n, D)."""
        return _moved(rows, 0.5 * self.fraction * self.means.gap, "text")


@dataclass(frozen=True)
class Centre:
    """`x - mu_x` and `y - mu_y`, renormalised.

    Fit the means on other data than is measured: a set's own means leak its answers into its score.
    """

    means: Means

    def images(self, rows: Array) -> Array:
        """Centred image rows, float32 (n, D)."""
        return _moved(rows, -self.means.image, "image")

    def texts(self, rows: Array) -> Array:
        """Centred caption, prompt or class rows, float32 (n, D)."""
        return _moved(rows, -self.means.text, "text")


def move(embeddings: Embeddings, change: Shift | Centre) -> Embeddings:
    """The embeddings after `change`, owners and labels kept.

    Raises UserError where a row lands on the origin and has no direction left (every row of a collapsed
    cloud does when it is centred).
    """
    return Embeddings(
        images=change.images(embeddings.images),
        texts=change.texts(embeddings.texts),
        owner=embeddings.owner,
        labels=embeddings.labels,
    )


def _mean(rows: Array, what: str, chunk: int) -> Array:
    total = np.zeros(rows.shape[1])
    for start in range(0, len(rows), chunk):
        total += unit_rows(rows[start : start + chunk], what, start).sum(0)
    return total / len(rows)


def _moved(rows: Array, step: Array, what: str) -> Array:
    moved = np.asarray(rows, dtype=np.float64) + step
    # Shorter than float32 rounding: what direction is left is noise.
    moved[np.linalg.norm(moved, axis=1) < 1e-6] = 0.0
    return unit_rows(moved, f"moved {what}").astype(np.float32)
