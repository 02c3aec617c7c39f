"""Contrastive losses over matched unit features; any temperature rule and any swap goes with any loss.

Adding a loss: one class here and its name in `LOSSES`. Read with the recipe: no torch at import time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor


class Loss(BaseModel):
    """What every loss offers: its value over a whole batch, and the addend of some of its rows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __call__(self, similarity: Tensor, beta: Tensor | float, bias: Tensor | None = None) -> Tensor:
        """The loss of an (n, n) cosine matrix `H_X @ H_Y.T`."""
        raise TypeError(f"{type(self).__name__} has no formula")

    def addend(
        self, x: Tensor, y: Tensor, rows: slice, beta: Tensor | float, bias: Tensor | None = None
    ) -> Tensor:
        """What pairs `rows` add to the loss of features `x` and `y` (n, d): addends of all rows sum up to the loss.

        For many processes that hold all features and share the work; all rows at once cost one product.
        """
        if rows.stop - rows.start == len(x):
            return self(x @ y.T, beta, bias)
        return self._part(x, y, rows, beta, bias)

    def _part(self, x: Tensor, y: Tensor, rows: slice, beta: Tensor | float, bias: Tensor | None) -> Tensor:
        raise TypeError(f"{type(self).__name__} cannot be divided")


class ClipLoss(Loss):
    """Symmetric cross-entropy (InfoNCE) of `beta * H_X @ H_Y.T` with the diagonal as targets (paper, Eq. 1)."""

    name: Literal["clip"] = "clip"

    def __call__(self, similarity: Tensor, beta: Tensor | float, bias: Tensor | None = None) -> Tensor:
        """Mean over both directions, in nats; `similarity` is the (n, n) cosine matrix `H_X @ H_Y.T`."""
        logits = similarity * beta
        matched = logits.diagonal()
        return (logits.logsumexp(1) + logits.logsumexp(0) - 2 * matched).mean() / 2

    def _part(self, x: Tensor, y: Tensor, rows: slice, beta: Tensor | float, bias: Tensor | None) -> Tensor:
        to_texts, to_images = (x[rows] @ y.T) * beta, (y[rows] @ x.T) * beta
        matched = to_texts.diagonal(rows.start)
        return (to_texts.logsumexp(1) + to_images.logsumexp(1) - 2 * matched).sum() / (2 * len(x))

    def initial_bias(self) -> float | None:
        """CLIP's loss has no bias."""
        return None


class SigmoidLoss(Loss):
    """SigLIP (Zhai et al. 2023): every pair is its own yes-or-no question, `-log sigmoid(z (beta s + b))`."""

    name: Literal["sigmoid"] = "sigmoid"
    bias: float = Field(-10.0, description="Start of the learned bias b (SigLIP: -10).")

    def __call__(self, similarity: Tensor, beta: Tensor | float, bias: Tensor | None = None) -> Tensor:
        """Sum over pairs divided by n, with z = 1 on the diagonal and -1 elsewhere."""
        return self._pairs(similarity, 0, beta, bias)

    def _part(self, x: Tensor, y: Tensor, rows: slice, beta: Tensor | float, bias: Tensor | None) -> Tensor:
        return self._pairs(x[rows] @ y.T, rows.start, beta, bias)

    def _pairs(self, similarity: Tensor, first: int, beta: Tensor | float, bias: Tensor | None) -> Tensor:
        """`similarity`: rows first.. of the (n, n) matrix."""
        import torch
        from torch.nn.functional import logsigmoid

        assert bias is not None
        logits = similarity * beta + bias
        signs = torch.full_like(logits, -1)
        signs.diagonal(first).fill_(1)
        return -logsigmoid(signs * logits).sum() / logits.shape[1]

    def initial_bias(self) -> float | None:
        """Start of the learned bias."""
        return self.bias


LOSSES = ClipLoss | SigmoidLoss
AnyLoss = Annotated[LOSSES, Field(discriminator="name")]
