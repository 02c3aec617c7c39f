"""The contrastive loss of the particle flow with analytic gradients, and the paper's two swaps before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaprun.errors import UserError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Swap:
    """Modality swapping: with `probability` a step exchanges entries of X and Y (hard) or mixes them (soft).

    Hard: each entry swapped with probability 1/2. Soft: X <- l X + (1-l) Y and the mirror image, l ~ U[0, 1]
    per entry.
    """

    probability: float
    soft: bool = False
    renormalise: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise UserError(f"a swap probability lies between 0 and 1, not {self.probability}")


def contrastive_loss(x: Array, y: Array, beta: float) -> tuple[float, Array, Array, float]:
    """Symmetric cross-entropy of logits beta x y^T and its gradients: loss, dL/dx, dL/dy, dL/dbeta.

    x, y: (n, d). Mean over both directions, as CLIP has it. Wrong pairs' shares are formed relative to the
    right pair, and the diagonal as minus their sum, so that gradients keep their digits when they are as
    small as 1e-300.
    """
    n = len(x)
    logits = beta * (x @ y.T)
    own = logits.diagonal().copy()
    gradient = np.zeros_like(logits)
    loss = 0.0
    for axis, right in ((1, own[:, None]), (0, own[None, :])):
        shares = logits - right
        np.fill_diagonal(shares, -np.inf)
        top = np.maximum(shares.max(axis=axis, keepdims=True), 0.0)
        np.exp(shares - top, out=shares)
        wrong = shares.sum(axis=axis, keepdims=True)
        shares /= wrong + np.exp(-top)
        loss += float(np.where(top > 0, top + np.log(wrong + np.exp(-top)), np.log1p(wrong)).sum()) / (2 * n)
        gradient += shares
        gradient[np.diag_indices(n)] -= shares.sum(axis=axis)
    gradient /= 2 * n
    pull = gradient @ y
    return loss, beta * pull, beta * (gradient.T @ x), float((pull * x).sum())


def draw_mix(swap: Swap | None, x: Array, y: Array, rng: np.random.Generator | None) -> Array | None:
    """The entrywise weights of one step's swap, or None when this step does not swap."""
    if swap is None or rng is None or rng.random() >= swap.probability:
        return None
    return rng.random(x.shape) if swap.soft else (rng.random(x.shape) < 0.5).astype(float)


def swapped_gradients(
    mix: Array, x: Array, y: Array, beta: float, renormalise: bool
) -> tuple[Array, Array, float]:
    """Gradients with respect to x and y of the loss of the swapped features."""
    a, b = mix * x + (1 - mix) * y, mix * y + (1 - mix) * x
    norms = [np.linalg.norm(side, axis=1, keepdims=True) if renormalise else 1.0 for side in (a, b)]
    a, b = a / norms[0], b / norms[1]
    _, da, db, dbeta = contrastive_loss(a, b, beta)
    if renormalise:
        da = (da - (da * a).sum(axis=1, keepdims=True) * a) / norms[0]
        db = (db - (db * b).sum(axis=1, keepdims=True) * b) / norms[1]
    return mix * da + (1 - mix) * db, mix * db + (1 - mix) * da, dbeta
