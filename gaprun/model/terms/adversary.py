"""A learned judge that tells images from texts, against which the towers train (gradient reversal)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from gaprun.model.terms.base import TERMS, StepInputs, Term

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@TERMS.register
class Adversary(Term):
    """Logistic loss of a classifier f of the modality, `1/2n sum_i [ softplus(-f(x_i)) + softplus(f(y_i)) ]`.

    The classifier descends it; the gradient that reaches the features is reversed (Ganin & Lempitsky, arXiv
    1409.7495), so the towers ascend it and modalities become hard to tell apart. f is linear, or has one hidden layer
    of ReLUs. The value lies near ln 2 where the judge only guesses.
    """

    name: Literal["adversary"] = "adversary"
    width: int = Field(64, ge=0, le=65536, description="Hidden units of the classifier; 0 makes it linear.")

    def parameters(self, size: int, random: np.random.Generator) -> dict[str, Any]:
        """The classifier: a hidden layer drawn from `N(0, 1/fan-in)` if it has one, and an output."""
        if not self.width:
            return {"weight": random.standard_normal(size) / size**0.5, "bias": 0.0}
        return {
            "hidden_weight": random.standard_normal((self.width, size)) / size**0.5,
            "hidden_bias": [0.0] * self.width,
            "weight": random.standard_normal(self.width) / self.width**0.5,
            "bias": 0.0,
        }

    def addend(
        self,
        x: Tensor,
        y: Tensor,
        rows: slice,
        beta: Tensor | float,
        parameters: Mapping[str, Tensor],
        step: StepInputs,
    ) -> Tensor:
        from torch.nn.functional import softplus

        images, texts = (
            self._judge(_reversed(x[rows]), parameters),
            self._judge(_reversed(y[rows]), parameters),
        )
        return (softplus(-images).sum() + softplus(texts).sum()) / (2 * len(x))

    def _judge(self, features: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        if self.width:
            features = (features @ parameters["hidden_weight"].T + parameters["hidden_bias"]).relu()
        return features @ parameters["weight"] + parameters["bias"]


def _reversed(features: Tensor) -> Tensor:
    """The same values (exactly: 2a - a); their gradient with the other sign."""
    return 2 * features.detach() - features
