"""What a model makes of one split: unit image rows, unit caption rows, who owns which caption, class labels.

Every measure reads this and nothing else, so an image is encoded once however many tasks are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaprun.errors import UserError

Array = np.ndarray


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of one split; the arrays may be memory-mapped, and are read-only: every task reads the same ones.

    images: float32 (N, D), unit rows. texts: float32 (M, D), unit rows, every caption. owner: int64 (M,),
    the image that each caption describes, 0..N-1; an image may have any number of captions. labels: int64
    (N,), -1 where an image has no class, or None for a split without classes. image_norms: float32 (N,), what each
    image row was divided by to have length 1; None where that is not known.
    """

    images: Array
    texts: Array
    owner: Array
    labels: Array | None = None
    image_norms: Array | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 2 or self.texts.ndim != 2:
            raise UserError("embeddings must be two-dimensional: one row an image or caption")
        if len(self.texts) and self.images.shape[1] != self.texts.shape[1]:
            raise UserError(
                f"images have {self.images.shape[1]} dimensions and texts {self.texts.shape[1]}: "
                "they come from different models"
            )
        check_owner(self.owner, len(self.images), len(self.texts))
        if self.labels is not None and len(self.labels) != len(self.images):
            raise UserError(f"{len(self.labels)} labels for {len(self.images)} images")
        if self.image_norms is not None and self.image_norms.shape != (len(self.images),):
            raise UserError(f"{len(self.image_norms)} lengths for {len(self.images)} images")
        for name in ("images", "texts", "owner", "labels", "image_norms"):
            array: Array | None = getattr(self, name)
            if array is not None and array.flags.writeable:
                view = array.view()
                view.flags.writeable = False
                object.__setattr__(self, name, view)

    @property
    def dim(self) -> int:
        return int(self.images.shape[1])

    def pair_index(self, seed: int | None = None) -> tuple[Array, Array]:
        """One caption an image as (image_index, text_index), both int64 (P,); images without captions drop
        out.

        seed None takes each image's first caption; a seed draws one uniformly, the same one on every call.
        """
        order = np.argsort(self.owner, kind="stable")
        image_index, first, count = np.unique(self.owner[order], return_index=True, return_counts=True)
        if seed is None:
            pick = first
        else:
            draw = np.random.default_rng(seed).random(len(image_index))
            pick = first + np.minimum((draw * count).astype(np.int64), count - 1)
        return image_index.astype(np.int64), order[pick]

    def pairs(self, seed: int | None = None) -> tuple[Array, Array]:
        """Matched rows (images, texts), both (P, D): row i of one belongs to row i of the other.

        Captions as in `pair_index`. No copy is made where the split already is one caption an image in order.
        """
        image_index, text_index = self.pair_index(seed)
        return _take(self.images, image_index), _take(self.texts, text_index)

    def draw(self, size: int, seed: int, number: int = 0) -> Embeddings:
        """A pool of `size` distinct random images with one random caption each (all of them when there are
        fewer), in index order: draw `number` of the series that `seed` names."""
        generator = np.random.default_rng([seed, number])
        image_index, text_index = self.pair_index(int(generator.integers(2**63)))
        if size < len(image_index):
            chosen = np.sort(generator.choice(len(image_index), size, replace=False))
            image_index, text_index = image_index[chosen], text_index[chosen]
        return Embeddings(
            images=_take(self.images, image_index),
            texts=_take(self.texts, text_index),
            owner=np.arange(len(image_index), dtype=np.int64),
            labels=None if self.labels is None else self.labels[image_index],
        )


def chance(labels: Array) -> float:
    """Share of the largest class in percent, which one answer for all gets; labels (N,), negative ones left out."""
    return (
        100.0 * float(np.unique(labels[labels >= 0], return_counts=True)[1].max()) / int((labels >= 0).sum())
    )


def check_owner(owner: Array, images: int, texts: int) -> None:
    """Raise UserError unless `owner` names an existing image for each of `texts` captions."""
    if len(owner) != texts:
        raise UserError(f"{len(owner)} owners for {texts} captions: there must be one each")
    if texts and (int(owner.min()) < 0 or int(owner.max()) >= images):
        raise UserError(f"caption owners must lie in 0..{images - 1}, found {owner.min()}..{owner.max()}")


def _take(rows: Array, index: Array) -> Array:
    identity = len(index) == len(rows) and bool((index == np.arange(len(index))).all())
    return rows if identity else rows[index]


def unit_rows(rows: Array, what: str, first: int = 0) -> Array:
    """`rows` as float64 unit rows (n, D). Raises UserError naming the row that is zero or not finite.

    Stored rows are unit in float32 only; normalising again makes identities such as
    alignment = 2 (1 - matched_cosine) exact. `first` is the number of rows[0], for the message.
    """
    wide = np.asarray(rows, dtype=np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    bad = ~(np.isfinite(norms) & (norms > 0)).ravel()
    if bad.any():
        row = first + int(np.flatnonzero(bad)[0])
        raise UserError(f"{what} embedding {row} has no direction (zero or not finite): the model is broken")
    return wide / norms
