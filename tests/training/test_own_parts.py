"""What a rule, loss or term of one's own may give: anything else is refused by name, before or in the first step."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from torch.nn.functional import normalize

from gaprun.errors import UserError
from gaprun.model.loss import ClipLoss
from gaprun.model.temperature import Fixed, TemperatureRule
from gaprun.model.terms import Term
from gaprun.training.head import Head


class Rule(TemperatureRule):
    """Gives what the test sets."""

    rule: Literal["own"] = "own"
    gives: Any

    def beta(self, nu: Any, progress: float) -> Any:
        return self.gives(nu, progress)


class Own(Term):
    """Gives what the test sets."""

    name: Literal["own"] = "own"
    gives: Any

    def addend(self, x: Any, y: Any, rows: Any, beta: Any, parameters: Any, step: Any) -> Any:
        return self.gives(x, y)


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (lambda nu, p: None, "gives None at progress 0"),
        (lambda nu, p: -10.0, "gives -10.0 at progress 0: it must be one finite number above 0"),
        (lambda nu, p: 1.0 - p, "gives 0.0 at progress 1"),
        (lambda nu, p: float("nan"), "gives nan"),
        (lambda nu, p: torch.full((4,), 10.0), "gives tensor"),
        (lambda nu, p: nu.exp(), "nu is None where `initial_nu` gives no start"),
    ],
)
def test_a_rule_that_gives_no_inverse_temperature_is_refused_before_training(gives: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        Head(Rule(gives=gives), ClipLoss())
    assert "the temperature rule own (Rule.beta)" in str(raised.value)


def total(gives: Any) -> torch.Tensor:
    """The whole loss of eight pairs on the circle, with the term; their contrastive loss is subtracted."""
    torch.manual_seed(0)
    x, y = (normalize(torch.randn(8, 2), dim=1).requires_grad_() for _ in range(2))
    loss = ClipLoss.model_construct(terms=[Own.model_construct(gives=gives, weight=0.5)])
    head = Head(Fixed(tau=0.1), loss)
    whole = head.addend((x, y), (x, y), slice(0, 8), 10.0, lambda k: None, None)  # type: ignore[arg-type,return-value]
    return whole - ClipLoss()(x, y, 10.0)


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (lambda x, y: None, "gives NoneType, not one number"),
        (lambda x, y: 0.5, "gives float, not one number"),
        (lambda x, y: (x * y).sum(1), r"gives a tensor of shape \(8,\), not one number"),
        (lambda x, y: (x * y).sum().detach(), "gives a number without a gradient, which would train nothing"),
    ],
)
def test_a_term_that_is_no_number_with_a_gradient_is_refused(gives: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as raised:
        total(gives)
    assert "the loss term own (Own.addend)" in str(raised.value)


def test_a_term_counts_by_its_weight() -> None:
    assert total(lambda x, y: 3.0 * x[:, 0].sum() / x[:, 0].sum()).item() == pytest.approx(1.5, abs=1e-5)
