"""AlignCLIP's intra-modality separation (Eslami & de Melo, arXiv 2406.17639): rows of one modality are pushed apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gaprun.model.terms.base import TERMS, StepInputs, Term, cross_entropy_sum

if TYPE_CHECKING:
    from torch import Tensor


@TERMS.register
class Separation(Term):
    """`1/2 [ CE(beta S_X) + CE(beta S_Y) ]`, targets on the diagonal, after AlignCLIP.

    Without rescaling `S_X = X X^T` and `S_Y = Y Y^T`. With it, `S_X[i, j] = (x_i . x_j)(1 - c_ij)` off the diagonal
    and `x_i . y_i` on it (`S_Y` alike), where c_ij is a semantic similarity of captions i and j: rows of like meaning
    are not pushed apart. AlignCLIP takes c from a frozen sentence encoder; ours are the text tower's own cosines,
    without gradient, which mean little early in training. Read: their code (sarahESL/AlignCLIP), in which the
    contrastive loss is the sum of its two directions and this term 0.5 times the sum of its two: as a share of our
    mean, the same weight 0.5. Their shared tower is `model.inline.shared`.
    """

    name: Literal["separation"] = "separation"
    rescale: Literal["text", "none"] = Field(
        "text", description="What spares rows of like meaning: the text features' cosines, or nothing."
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
        images, texts = x[rows] @ x.T, y[rows] @ y.T
        if self.rescale == "text":
            import torch

            meaning = y.detach()
            distance = 1 - meaning[rows] @ meaning.T
            own = torch.zeros_like(distance)
            own.diagonal(rows.start).fill_(1)
            matched = own * (x[rows] * y[rows]).sum(1)[:, None]
            images = images * distance * (1 - own) + matched
            texts = texts * distance * (1 - own) + matched
        both = cross_entropy_sum(images * beta, rows.start) + cross_entropy_sum(texts * beta, rows.start)
        return both / (2 * len(x))
