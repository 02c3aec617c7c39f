"""Alignment and uniformity (Wang & Isola, arXiv 2005.10242) as terms for two modalities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from gaprun.model.terms.base import TERMS, StepInputs, Term, share

if TYPE_CHECKING:
    from torch import Tensor


@TERMS.register
class Alignment(Term):
    """`mean_i ||x_i - y_i||^2` over matched pairs.

    Fahim et al. (arXiv 2405.18570) after Wang & Isola, with exponent 2; Grassucci et al.'s "align true pairs" (arXiv
    2601.18525) is the same. Read: the code of both (abrar-fahim/contrastive-gap, ispamm/ModGap).
    """

    name: Literal["alignment"] = "alignment"

    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        return (x[rows] - y[rows]).square().sum() / len(x)


class PairSpread(Term):
    """The option that the uniformity terms share."""

    t: float = Field(2.0, gt=0, description="The t of exp(-t d^2), d the distance; Wang & Isola: 2.")


@TERMS.register
class Uniformity(PairSpread):
    """`1/2 [ log mean_{i != j} exp(-t ||x_i - x_j||^2) + log mean_{i != j} exp(-t ||y_i - y_j||^2) ]`.

    In-modal uniformity of Fahim et al. (arXiv 2405.18570), averaged over the modalities. Read: their code.
    """

    name: Literal["uniformity"] = "uniformity"

    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        return (log_mean_exp(x, x, self.t) + log_mean_exp(y, y, self.t)) / 2 * share(rows, x)


@TERMS.register
class CrossUniformity(PairSpread):
    """`log mean_{i != j} exp(-t ||x_i - y_j||^2)`: mismatched pairs of the two modalities stay apart.

    Cross-modal uniformity of Fahim et al. (arXiv 2405.18570). Read: their code.
    """

    name: Literal["cross-uniformity"] = "cross-uniformity"

    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        return log_mean_exp(x, y, self.t) * share(rows, x)


@TERMS.register
class CentroidUniformity(PairSpread):
    """`log mean_{i != j} exp(-t ||c_i - c_j||^2)`, with `c_i = (x_i + y_i) / ||x_i + y_i||`.

    Centroid uniformity of Grassucci et al. (ModGap, arXiv 2601.18525), which goes with `alignment`. Read: their code
    (ispamm/ModGap), where the centroids of pairs are brought back to unit length.
    """

    name: Literal["centroid-uniformity"] = "centroid-uniformity"

    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        from torch.nn.functional import normalize

        centroids = normalize(x + y, dim=-1)
        return log_mean_exp(centroids, centroids, self.t) * share(rows, x)


def log_mean_exp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """`log mean_{i != j} exp(-t ||a_i - b_j||^2)`, 0-d, of (n, d) rows; n >= 2."""
    import torch

    n = len(a)
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * (a @ b.T)
    matched = torch.eye(n, dtype=torch.bool, device=a.device)
    exponents = (-t * squares).masked_fill(matched, -math.inf)
    return exponents.flatten().logsumexp(0) - math.log(n * (n - 1))
