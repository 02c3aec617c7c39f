"""CyCLIP's consistency terms (Goel et al. 2022, arXiv 2205.14459). Read: their code (goel-shashank/CyCLIP)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from gaprun.model.terms.base import TERMS, StepInputs, Term

if TYPE_CHECKING:
    from torch import Tensor


@TERMS.register
class InModalConsistency(Term):
    """`1/n sum_{jk} (x_j . x_k - y_j . y_k)^2`: images are as far from each other as their texts are. CyCLIP: 0.25."""

    name: Literal["in-modal-consistency"] = "in-modal-consistency"

    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        return (x[rows] @ x.T - y[rows] @ y.T).square().sum() / len(x)


@TERMS.register
class CrossModalConsistency(Term):
    """`1/n sum_{jk} (x_j . y_k - x_k . y_j)^2`: the similarity matrix is symmetric. CyCLIP: 0.25."""

    name: Literal["cross-modal-consistency"] = "cross-modal-consistency"

    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        return (x[rows] @ y.T - y[rows] @ x.T).square().sum() / len(x)
