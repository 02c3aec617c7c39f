"""The measures that compare rows one by one: uniformity and the share of mismatched pairs, in blocks.

The three score matrices (image-image, text-text, image-text) are visited in tiles, each tile once, so memory
is a few tiles whatever N is; time is quadratic in N, which is why the caller caps it.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from gaprun.evaluation.embeddings import Array, unit_rows
from gaprun.evaluation.equal import equal_groups, sizes_of


def pairwise_measures(images: Array, texts: Array, *, block: int = 1024) -> dict[str, float]:
    """uniformity_{image,text,joint} and mismatched_share of matched rows (N, D); NaN where undefined (N = 1).

    uniformity: log of the mean over i < j of exp(-2 ||u_i - u_j||^2) (Wang & Isola 2020), -8..0, lower is
    more uniform; joint pools the 2N rows, so with one pair only joint is defined. mismatched_share: share
    of images i whose margin, the minimum over j != i of x_i.y_i - x_i.y_j, is <= 0 (the paper's mismatched
    pair), 0..1. Ties count as mismatched.
    """
    x = torch.from_numpy(unit_rows(images, "image").astype(np.float32))
    y = torch.from_numpy(unit_rows(texts, "text").astype(np.float32))
    n = len(x)
    within_x, within_y = _potential(x, block), _potential(y, block)
    across, mismatched = _across(x, y, block, torch.from_numpy(sizes_of(equal_groups(y.numpy())) > 1))
    pairs = n * (n - 1) / 2
    joint = (within_x + within_y + across) / (n * (2 * n - 1))
    return {
        "uniformity_image": _log(within_x / pairs) if n > 1 else math.nan,
        "uniformity_text": _log(within_y / pairs) if n > 1 else math.nan,
        "uniformity_joint": _log(joint),
        "mismatched_share": mismatched / n if n > 1 else math.nan,
    }


def _log(mean: float) -> float:
    """log, at most 0: float32 rounds the cosine of equal rows to either side of 1."""
    return min(0.0, math.log(mean))


def _heat(scores: torch.Tensor) -> torch.Tensor:
    """exp(-2 ||u - v||^2) = exp(-4 (1 - u.v)) of unit rows, in place."""
    return scores.sub_(1.0).mul_(4.0).exp_()


def _potential(rows: torch.Tensor, block: int) -> float:
    """Sum over i < j of exp(-2 ||u_i - u_j||^2); only the upper tiles are computed."""
    total = 0.0
    for a in range(0, len(rows), block):
        left = rows[a : a + block]
        own = _heat(left @ left.T)
        total += float(own.triu_(1).sum(dtype=torch.float64))
        for b in range(a + block, len(rows), block):
            total += float(_heat(left @ rows[b : b + block].T).sum(dtype=torch.float64))
    return total


def _across(x: torch.Tensor, y: torch.Tensor, block: int, repeated: torch.Tensor) -> tuple[float, int]:
    """(sum over all i, j of exp(-2 ||x_i - y_j||^2), number of i with some j != i where x_i.y_j >= x_i.y_i), which
    holds wherever y_i is repeated."""
    total, mismatched = 0.0, 0
    for a in range(0, len(x), block):
        left = x[a : a + block]
        # The diagonal tile comes first because it holds the matched scores that the others are compared with.
        tile = left @ y[a : a + block].T
        matched = tile.diagonal().clone()
        rest = tile.clone()
        rest.fill_diagonal_(-math.inf)
        best = rest.amax(1)
        total += float(_heat(tile).sum(dtype=torch.float64))
        for b in range(0, len(y), block):
            if b == a:
                continue
            tile = left @ y[b : b + block].T
            best = torch.maximum(best, tile.amax(1))
            total += float(_heat(tile).sum(dtype=torch.float64))
        mismatched += int(((best >= matched) | repeated[a : a + block]).sum())
    return total, mismatched
