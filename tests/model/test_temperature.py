"""Each temperature rule against its formula, its start, its gradient in float64 and its clamp."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaprun.model.temperature import Exponential, Fixed, ScaledExponential, Scheduled, Softplus

LEARNED = [Exponential(), ScaledExponential(scale=3.0), Softplus()]
BETA = {
    "exp": lambda nu, rule: math.exp(nu),
    "scaled-exp": lambda nu, rule: math.exp(nu / rule.scale),
    "softplus": lambda nu, rule: math.log1p(math.exp(nu)),
}
SLOPE = {  # d beta / d nu
    "exp": lambda nu, rule: math.exp(nu),
    "scaled-exp": lambda nu, rule: math.exp(nu / rule.scale) / rule.scale,
    "softplus": lambda nu, rule: 1 / (1 + math.exp(-nu)),
}


def double(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("rule", LEARNED, ids=lambda rule: rule.rule)
@given(nu=st.floats(-3.0, 6.0))
def test_value_and_gradient_in_nu(rule, nu: float) -> None:
    parameter = double(nu)
    beta = rule.beta(parameter, 0.5)
    beta.backward()
    assert beta.item() == pytest.approx(BETA[rule.rule](nu, rule), rel=1e-12)
    assert parameter.grad.item() == pytest.approx(SLOPE[rule.rule](nu, rule), rel=1e-12)


@pytest.mark.parametrize("rule", LEARNED, ids=lambda rule: rule.rule)
@given(beta=st.floats(0.02, 1000.0))
def test_nu_for_is_the_inverse(rule, beta: float) -> None:
    assert rule.beta(double(rule.nu_for(beta)), 0.0).item() == pytest.approx(beta, rel=1e-9)


@pytest.mark.parametrize("rule", LEARNED, ids=lambda rule: rule.rule)
def test_starts_at_clips_temperature(rule) -> None:
    assert 1 / rule.beta(double(rule.initial_nu()), 0.0).item() == pytest.approx(0.07, rel=1e-12)


def test_fixed_and_schedule_learn_nothing() -> None:
    assert Fixed(tau=0.2).initial_nu() is None and Scheduled().initial_nu() is None
    assert Fixed(tau=0.2).beta(None, 0.3) == pytest.approx(5.0)


@pytest.mark.parametrize("end", [2e-2, 3e-2, 4e-2, 5e-2])
def test_schedule_is_linear_in_tau(end: float) -> None:
    rule = Scheduled(start=1e-2, end=end)
    taus = [1 / rule.beta(None, k / 10) for k in range(11)]
    assert taus[0] == pytest.approx(1e-2) and taus[-1] == pytest.approx(end)
    assert all(b - a == pytest.approx((end - 1e-2) / 10) for a, b in zip(taus, taus[1:], strict=False))


def test_scale_one_is_clips_rule() -> None:
    assert (
        ScaledExponential(scale=1.0).beta(double(2.0), 0).item() == Exponential().beta(double(2.0), 0).item()
    )
