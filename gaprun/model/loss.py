"""Contrastive losses over matched unit features; any temperature rule, swap and term (terms/) goes with any loss.

Adding a loss: one class decorated with `LOSSES.register`, here or in a module that GAPRUN_PLUGINS names. Read with
the recipe: no torch at import time.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from gaprun.model.terms import TERMS, AnyTerm
from gaprun.registry import Registry
from gaprun.section import Section

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class Loss(Section):
    """What every loss offers: what some rows of a batch add to it, and what it learns.

    The whole loss is `weight` times this contrastive loss, of features after the swap, plus each term times its own
    weight, of features before the swap.
    """

    needs_unit_rows: ClassVar[bool] = False

    weight: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="Factor on the contrastive loss; 0 leaves the terms alone.",
    )
    terms: list[AnyTerm] = Field(default_factory=list, description="What is added to it, each with a weight.")

    @property
    def needs_teacher(self) -> bool:
        """Whether a term compares with the towers as they were before training."""
        return any(term.needs_teacher for term in self.terms)

    def parameters(self, size: int, random: np.random.Generator) -> dict[str, Any]:
        """Start values (arrays or numbers) of what the loss learns, by name; `size` is the embeddings' dimension.

        They are trained at nu's learning rate, without weight decay, and kept in checkpoints.
        """
        return {}

    @abstractmethod
    def addend(
        self, x: Tensor, y: Tensor, rows: slice, beta: Tensor | float, parameters: Mapping[str, Tensor]
    ) -> Tensor:
        """What pairs `rows` add to the loss of features `x` and `y` (n, d): addends of all rows sum up to the loss.

        For many processes that hold all features and share the work. parameters: what `parameters` declared, as it
        stands.
        """

    def chance(self, pairs: int) -> float:
        """The least that the loss of so many pairs can be where no pair is told from another; infinite: not known."""
        return math.inf

    def __call__(
        self, x: Tensor, y: Tensor, beta: Tensor | float, parameters: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """The contrastive loss of a whole batch, 0-d."""
        return self.addend(x, y, slice(0, len(x)), beta, parameters or {})


LOSSES: Registry[Loss] = Registry("loss", "name", usual="clip")
AnyLoss = Annotated[Loss, LOSSES]
TERMS.used_by(LOSSES)


@LOSSES.register
class ClipLoss(Loss):
    """Symmetric cross-entropy (InfoNCE) of `beta * H_X @ H_Y.T` with the diagonal as targets (paper, Eq. 1).

    Mean over both directions, in nats.
    """

    name: Literal["clip"] = "clip"

    def chance(self, pairs: int) -> float:
        return math.log(pairs)

    def addend(
        self, x: Tensor, y: Tensor, rows: slice, beta: Tensor | float, parameters: Mapping[str, Tensor]
    ) -> Tensor:
        if rows.stop - rows.start == len(x):  # one product serves both directions
            logits = (x @ y.T) * beta
            matched = logits.diagonal()  # before the sums: gradients add up in the order of earlier runs
            return (logits.logsumexp(1) + logits.logsumexp(0) - 2 * matched).mean() / 2
        to_texts, to_images = (x[rows] @ y.T) * beta, (y[rows] @ x.T) * beta
        matched = to_texts.diagonal(rows.start)
        return (to_texts.logsumexp(1) + to_images.logsumexp(1) - 2 * matched).sum() / (2 * len(x))


@LOSSES.register
class SigmoidLoss(Loss):
    """SigLIP (Zhai et al. 2023): every pair is its own yes-or-no question, `-log sigmoid(z (beta s + b))`.

    Sum over pairs divided by n, with z = 1 on the diagonal and -1 elsewhere.
    """

    name: Literal["sigmoid"] = "sigmoid"
    needs_unit_rows: ClassVar[bool] = True
    bias: float = Field(-10.0, description="Start of the learned bias b (SigLIP: -10).")

    def chance(self, pairs: int) -> float:
        return _yes_or_no_chance(pairs)

    def parameters(self, size: int, random: np.random.Generator) -> dict[str, Any]:
        """The bias b."""
        return {"bias": self.bias}

    def addend(
        self, x: Tensor, y: Tensor, rows: slice, beta: Tensor | float, parameters: Mapping[str, Tensor]
    ) -> Tensor:
        return _yes_or_no((x[rows] @ y.T) * beta + parameters["bias"], rows.start)


@LOSSES.register
class RelativeSigmoidLoss(Loss):
    """SigLIP with its relative bias: `-log sigmoid(z beta (s - r))`, with z and the mean as for `sigmoid`.

    Bangachev et al. 2025 (arXiv 2509.18552): learning r = -b / beta itself keeps it from going to 0 as beta grows, and
    the margin and the modality gap depend on r. Read: abstract, and the formula in their code's description
    (BangachevKiril/RepresentationLearningTheory). Their start of r is not known; 0.7 is SigLIP's -10 at tau 0.07.
    """

    name: Literal["relative-sigmoid"] = "relative-sigmoid"
    needs_unit_rows: ClassVar[bool] = True
    relative_bias: float = Field(
        0.7, allow_inf_nan=False, description="Start of the learned relative bias r."
    )

    def chance(self, pairs: int) -> float:
        return _yes_or_no_chance(pairs)

    def parameters(self, size: int, random: np.random.Generator) -> dict[str, Any]:
        """The relative bias r."""
        return {"relative_bias": self.relative_bias}

    def addend(
        self, x: Tensor, y: Tensor, rows: slice, beta: Tensor | float, parameters: Mapping[str, Tensor]
    ) -> Tensor:
        return _yes_or_no((x[rows] @ y.T - parameters["relative_bias"]) * beta, rows.start)


def _yes_or_no_chance(pairs: int) -> float:
    """Each question answered yes with probability 1/n: n times that answer's entropy."""
    return math.log(pairs) + (pairs - 1) * math.log(pairs / (pairs - 1))


def _yes_or_no(logits: Tensor, first: int) -> Tensor:
    """Logistic loss of rows first.. of the (n, n) logits, over n; the diagonal's answer is yes."""
    import torch
    from torch.nn.functional import logsigmoid

    signs = torch.full_like(logits, -1)
    signs.diagonal(first).fill_(1)
    return -logsigmoid(signs * logits).sum() / logits.shape[1]
