"""Contrastive losses over matched unit features; any temperature rule and any swap goes with any loss.

Adding a loss: one class here and its name in `LOSSES`. Read with the recipe: no torch at import time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor


class ClipLoss(BaseModel):
    """Symmetric cross-entropy (InfoNCE) of `beta * H_X @ H_Y.T` with the diagonal as targets (paper, Eq. 1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal["clip"] = "clip"

    def __call__(self, similarity: Tensor, beta: Tensor | float, bias: Tensor | None = None) -> Tensor:
        """Mean over both directions, in nats; `similarity` is the (n, n) cosine matrix `H_X @ H_Y.T`."""
        logits = similarity * beta
        matched = logits.diagonal()
        return (logits.logsumexp(1) + logits.logsumexp(0) - 2 * matched).mean() / 2

    def initial_bias(self) -> float | None:
        """CLIP's loss has no bias."""
        return None


class SigmoidLoss(BaseModel):
    """SigLIP (Zhai et al. 2023): every pair is its own yes-or-no question, `-log sigmoid(z (beta s + b))`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: Literal["sigmoid"] = "sigmoid"
    bias: float = Field(-10.0, description="Start of the learned bias b (SigLIP: -10).")

    def __call__(self, similarity: Tensor, beta: Tensor | float, bias: Tensor | None = None) -> Tensor:
        """Sum over pairs divided by n, with z = 1 on the diagonal and -1 elsewhere."""
        import torch
        from torch.nn.functional import logsigmoid

        assert bias is not None
        logits = similarity * beta + bias
        signs = 2 * torch.eye(len(logits), device=logits.device, dtype=logits.dtype) - 1
        return -logsigmoid(signs * logits).sum() / len(logits)

    def initial_bias(self) -> float | None:
        """Start of the learned bias."""
        return self.bias


LOSSES = ClipLoss | SigmoidLoss
AnyLoss = Annotated[LOSSES, Field(discriminator="name")]
