"""The contrastive loss of the particle flow with analytic gradients, and the paper's two swaps before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gaprun.errors import UserError

Array = NDArray[np.float64]
MODERATE = 150.0  # beta below which exp(logits) neither overflows nor loses a wrong pair to underflow


@dataclass(frozen=True)
class ParticleSwap:
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

    x, y: (n, d), rows no longer than sqrt(2) (swapped rows can be). Mean over both directions, as CLIP has it. The
    diagonal of the gradient is formed as minus the wrong pairs' shares, so that gradients keep their digits when
    they are as small as 1e-300.
    """
    n = len(x)
    logits = beta * (x @ y.T)
    loss, gradient = _moderate(logits) if beta < MODERATE else _extreme(logits)
    gradient /= 2 * n
    pull = gradient @ y
    return loss / (2 * n), beta * pull, beta * (gradient.T @ x), float((pull * x).sum())


def _moderate(logits: Array) -> tuple[float, Array]:
    """Sum of both cross-entropies and its gradient, from one exponential; logits within +-300, overwritten."""
    logits -= logits.max()
    e = np.exp(logits, out=logits)
    own = e.diagonal().copy()
    np.fill_diagonal(e, 0.0)
    wrong = e.sum(axis=1), e.sum(axis=0)
    rows, columns = (1 / (own + w) for w in wrong)
    e *= rows[:, None] + columns
    np.fill_diagonal(e, -(wrong[0] * rows + wrong[1] * columns))
    return float(sum(np.log1p(w / own).sum() for w in wrong)), e


def _extreme(logits: Array) -> tuple[float, Array]:
    """The same for logits of any size: shares relative to each right pair, direction by direction."""
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
        loss += float(np.where(top > 0, top + np.log(wrong + np.exp(-top)), np.log1p(wrong)).sum())
        gradient += shares
        gradient[np.diag_indices_from(gradient)] -= shares.sum(axis=axis)
    return loss, gradient


def draw_mix(swap: ParticleSwap | None, x: Array, y: Array, rng: np.random.Generator | None) -> Array | None:
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
