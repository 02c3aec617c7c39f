"""Zero-shot classification: one text vector a class, the nearest class wins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array, chance, unit_rows
from gaprun.evaluation.equal import scores_by_content


@dataclass(frozen=True)
class ZeroShotResult:
    """metrics by name, in percent; rank int64 (N,): the true class's rank from 1, ties against it, 0 for no
    label."""

    metrics: dict[str, float]
    rank: Array

    @property
    def correct(self) -> Array:
        """bool (N,): the true class scored above every other."""
        return self.rank == 1


def class_vectors(prompt_embeddings: Array, classes: int) -> Array:
    """float32 (K, D) unit rows: per class the mean of its normalised prompt embeddings, normalised again
    (Radford et al. 2021).

    prompt_embeddings: (K * T, D), class by class as `templates.prompts` lists them. Raises UserError where
    the rows do not divide among the classes or a class's prompts cancel out.
    """
    if classes < 1 or len(prompt_embeddings) % classes or len(prompt_embeddings) == 0:
        raise UserError(f"{len(prompt_embeddings)} prompt embeddings do not divide among {classes} classes")
    rows = unit_rows(prompt_embeddings, "prompt")
    means = rows.reshape(classes, -1, rows.shape[1]).mean(1)
    # A mean this short is rounding: its direction says nothing about the class.
    weak = np.flatnonzero(np.linalg.norm(means, axis=1) < 1e-6)
    if len(weak):
        raise UserError(f"the prompts of class {weak[0]} cancel out: no zero-shot vector for it")
    return unit_rows(means, "class").astype(np.float32)


def zero_shot(images: Array, vectors: Array, labels: Array, *, chunk: int = 16_384) -> ZeroShotResult:
    """Classify images (N, D) by class vectors (K, D); labels (N,) in 0..K-1, -1 for images to leave out.

    zeroshot_top1, zeroshot_top5 (absent with five classes or fewer, where it is 100 by definition),
    zeroshot_mean_class, the mean over the classes present of their own top-1, and zeroshot_chance
    (`embeddings.chance`). Ties count against the model, so one that answers alike for all classes scores 0. Raises
    UserError for fewer than two classes (100 by definition), for labels out of range or none at all.
    """
    classes = len(vectors)
    if classes < 2:
        raise UserError(
            "zero-shot needs at least two classes, the data set names 1: every image would be right"
        )
    if len(labels) != len(images):
        raise UserError(f"{len(labels)} labels for {len(images)} images")
    if len(labels) and int(labels.max()) >= classes:
        raise UserError(f"label {int(labels.max())} has no class vector: there are {classes} classes")
    known = labels >= 0
    if not known.any():
        raise UserError("no image has a class label: zero-shot needs a data set with classes")
    rank = np.zeros(len(images), dtype=np.int64)
    for start in range(0, len(images), chunk):
        part = slice(start, start + chunk)
        scores = scores_by_content(images[part], vectors)
        if not np.isfinite(scores).all():
            raise UserError(f"an image embedding in rows {start}..{start + len(scores) - 1} is not finite")
        own = np.take_along_axis(scores, np.maximum(labels[part], 0)[:, None], axis=1)
        rank[part] = (scores >= own).sum(1)
    rank[~known] = 0
    hits = rank[known] == 1
    found = np.unique(labels[known], return_inverse=True)[1]
    per_class = np.bincount(found, weights=hits) / np.bincount(found)
    metrics = {
        "zeroshot_top1": 100.0 * float(hits.mean()),
        "zeroshot_mean_class": 100.0 * float(per_class.mean()),
        "zeroshot_chance": chance(labels),
    }
    if classes > 5:
        metrics["zeroshot_top5"] = 100.0 * float((rank[known] <= 5).mean())
    return ZeroShotResult(metrics, rank)
