"""The naive baseline of all methods that close the gap: the squared gap itself as a term of the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from gaprun.model.terms.base import TERMS, StepInputs, Term, share

if TYPE_CHECKING:
    from torch import Tensor


@TERMS.register
class MeanGap(Term):
    """`|| mean_i x_i - mean_i y_i ||^2`, the square of Liang et al.'s modality gap (arXiv 2203.02053) on the batch."""

    name: Literal["mean-gap"] = "mean-gap"

    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        return (x.mean(0) - y.mean(0)).square().sum() * share(rows, x)
