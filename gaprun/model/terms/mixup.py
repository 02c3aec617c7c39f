"""m2-mix, geodesic multi-modal mixup (Oh et al. 2023, arXiv 2203.03897)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gaprun.model.terms.base import TERMS, StepInputs, Term, cross_entropy_sum

if TYPE_CHECKING:
    from torch import Tensor


@TERMS.register
class GeodesicMixup(Term):
    """Contrastive loss whose negatives are mixtures of matched pairs: `1/2 [ CE(S_X / tau) + CE(S_Y / tau) ]`.

    `m_j` is the point on the arc between x_j and y_j, `sin(l theta)/sin(theta) x_j + sin((1-l) theta)/sin(theta) y_j`
    with theta the angle between them and one `l ~ Beta(b, b)` a step. `S_X[i, j] = x_i . m_j` off the diagonal and
    `x_i . y_i` on it; `S_Y` alike with y_i. Mixtures lie between the clouds and are hard negatives of both.
    Read: the authors' code (changdaeoh/multimodal-mixup), in which the two directions are summed, not averaged: a
    weight w there is 2 w here (they try 0.001 to 0.05).
    """

    name: Literal["geodesic-mixup"] = "geodesic-mixup"
    b: float = Field(0.5, gt=0, le=1000, description="The b of Beta(b, b), from which the mixture is drawn.")
    tau: float = Field(
        0.07, gt=1e-4, le=100, description="The term's own fixed temperature (the authors': 0.07)."
    )

    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        import torch

        mixed = between(x, y, float(step.random.beta(self.b, self.b)))
        matched = (x[rows] * y[rows]).sum(1)[:, None]
        own = torch.zeros(len(matched), len(x), dtype=x.dtype, device=x.device)
        own.diagonal(rows.start).fill_(1)
        both = [
            cross_entropy_sum(((side[rows] @ mixed.T) * (1 - own) + matched * own) / self.tau, rows.start)
            for side in (x, y)
        ]
        return (both[0] + both[1]) / (2 * len(x))


def between(x: Tensor, y: Tensor, part: float) -> Tensor:
    """The points (n, d) on the arcs between unit rows: `part` 1 is x, 0 is y. Close to (anti-)parallel rows are mixed
    at the smallest angle whose sine is safe, 1e-3."""
    cosine = (x * y).sum(1, keepdim=True).clamp(-1 + 5e-7, 1 - 5e-7)
    theta = cosine.acos()
    return ((part * theta).sin() * x + ((1 - part) * theta).sin() * y) / theta.sin()
