"""CLIP-Refine's two terms (Yamaguchi et al., arXiv 2504.12717), made for one epoch from pretrained weights.

Read: their code (yshinya6/clip-refine). It works on features that are not normalised; ours are unit rows, so both
terms are "after" it: reference vectors lie on the sphere, and distillation takes a temperature. CLIP-Refine drops the
contrastive loss (`loss.weight: 0`) and gives both terms weight 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from gaprun.model.drawn import beside
from gaprun.model.terms.base import TERMS, StepInputs, Term

if TYPE_CHECKING:
    from torch import Tensor


@TERMS.register
class RandomAlignment(Term):
    """`1/2n sum_i ( ||x_i - z_i||^2 + ||y_i - z_i||^2 )`, z_i drawn anew in each step, uniform on the sphere.

    Random feature alignment, after CLIP-Refine: both members of a pair move towards one random reference, so the
    modalities come to share a distribution without collapsing. There z ~ N(0, I) and features have any length.
    """

    name: Literal["random-alignment"] = "random-alignment"

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
        from torch.nn.functional import normalize

        drawn = beside(torch.from_numpy(step.random.standard_normal(tuple(x.shape))), x)
        z = normalize(drawn, dim=-1)[rows]
        return ((x[rows] - z).square().sum() + (y[rows] - z).square().sum()) / (2 * len(x))


@TERMS.register
class Distillation(Term):
    """`1/2 [ KL(T_X || P_X) + KL(T_Y || P_Y) ]`, mean over rows, with `T = alpha I + (1 - alpha) Q`.

    Hybrid contrastive-distillation, after CLIP-Refine: P is the softmax of the cosines over tau, Q the same of the
    model as it was before training, row by row (image to text, and text to image). CLIP-Refine takes products of
    features that are not normalised; for CLIP these have lengths near 10, which is a tau near 0.01.
    """

    name: Literal["distillation"] = "distillation"
    needs_teacher: ClassVar[bool] = True
    alpha: float = Field(
        0.5, ge=0, le=1, description="Share of the true pairs in the target (CLIP-Refine: 0.5)."
    )
    tau: float = Field(0.01, gt=1e-4, le=100, description="Temperature of both models' softmax.")

    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        assert step.teacher is not None
        old_x, old_y = step.teacher
        to_texts = self._divergence(x, y, old_x, old_y, rows)
        to_images = self._divergence(y, x, old_y, old_x, rows)
        return (to_texts + to_images) / (2 * len(x))

    def _divergence(self, a: Tensor, b: Tensor, old_a: Tensor, old_b: Tensor, rows: slice) -> Tensor:
        """Sum over `rows` of a of KL(target || softmax of a's cosines with b)."""
        target = (1 - self.alpha) * (old_a[rows] @ old_b.T / self.tau).softmax(1)
        target.diagonal(rows.start).add_(self.alpha)
        found = (a[rows] @ b.T / self.tau).log_softmax(1)
        return (target.xlogy(target) - target * found).sum()
