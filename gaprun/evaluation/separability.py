"""Can a linear classifier tell an image row from a text row? Held-out accuracy and AUC, split by pair."""

from __future__ import annotations

import math

import numpy as np

from gaprun.evaluation.embeddings import Array, unit_rows

TEST_SHARE = 0.2


def separability(images: Array, texts: Array, *, seed: int = 0, penalty: float = 1.0) -> dict[str, float]:
    """separability (accuracy) and separability_auc of image-or-text on held-out pairs of (N, D) unit rows.

    A logistic regression (scikit-learn's C = `penalty`, on rows scaled by sqrt D so that a coordinate has
    about unit size) is fitted on 80 % of the pairs and tested on the others (Welle & Shukor 2023; Fahim
    2024). Both rows of a pair fall on the same side, or the classifier could know a test row's partner. 0.5
    means mixed, 1 separated; identical clouds give exactly 0.5. NaN below five pairs, where no test pair
    would be left.
    """
    from gaprun.evaluation.probe import fit_logistic

    n = len(images)
    held_out = int(n * TEST_SHARE)
    if held_out == 0:
        return {"separability": math.nan, "separability_auc": math.nan}
    order = np.random.default_rng(seed).permutation(n)
    scale = math.sqrt(images.shape[1])
    x, y = unit_rows(images, "image") * scale, unit_rows(texts, "text") * scale

    def stack(index: Array) -> tuple[Array, Array]:
        return np.concatenate([x[index], y[index]]), np.repeat([0, 1], len(index))

    rows, sides = stack(order[held_out:])
    model = fit_logistic(rows.astype(np.float32), sides, penalty)
    rows, sides = stack(order[:held_out])
    weight = model.weight[:, 1] - model.weight[:, 0]
    # Not a matrix product: equal rows must have equal scores wherever they stand.
    score = np.einsum("ij,j->i", rows, weight) + (model.bias[1] - model.bias[0])
    # A score of exactly 0 is a coin flip, so it earns half.
    right = np.where(score == 0, 0.5, (score > 0) == (sides == 1))
    of_images, of_texts = np.sort(score[sides == 0]), score[sides == 1]
    below, not_above = (np.searchsorted(of_images, of_texts, side).sum() for side in ("left", "right"))
    # Of image and text rows, how many are in order; a tie is half.
    auc = (below + not_above) / (2 * held_out**2)
    return {"separability": float(right.mean()), "separability_auc": float(auc)}
