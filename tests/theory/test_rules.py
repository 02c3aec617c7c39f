"""Temperature rules against their formulas, finite differences and a numerically integrated invariant."""

import math

import pytest
from scipy.integrate import quad

from gaprun.errors import UserError
from gaprun.theory.rules import (
    ExponentialFlow,
    FixedFlow,
    ScheduledFlow,
    SoftplusFlow,
    make_rule,
    softplus_integral,
)


@pytest.mark.parametrize("rule", [ExponentialFlow(), ExponentialFlow(2.5), SoftplusFlow()])
@pytest.mark.parametrize("beta", [0.3, 2.0, 14.0, 90.0])
def test_learned_rules_invert_and_differentiate(rule, beta):
    nu = rule.nu(beta)
    assert rule.beta(nu, 0.0) == pytest.approx(beta, rel=1e-12)
    h = 1e-5
    numeric = (rule.beta(nu + h, 0.0) - rule.beta(nu - h, 0.0)) / (2 * h)
    assert rule.slope(nu) == pytest.approx(numeric, rel=1e-7)


def test_softplus_integral_matches_quadrature_and_its_limit():
    for low, high in [(0.1, 1.0), (1.0, 20.0), (20.0, 400.0)]:
        exact = quad(lambda b: 2 * b / (1 - math.exp(-b)) ** 2, low, high, epsrel=1e-12)[0]
        assert softplus_integral(high) - softplus_integral(low) == pytest.approx(exact, rel=1e-10)
    assert softplus_integral(200.0) == pytest.approx(200.0**2, rel=1e-12)


@pytest.mark.parametrize("rule", [ExponentialFlow(), ExponentialFlow(3.0), SoftplusFlow()])
def test_invariant_has_the_ratio_of_lemma_3_1(rule):
    """d ln gamma / d beta = -2 beta / (beta'^2 (1 - gamma^2)) along a level set of the invariant."""
    ln_gamma, beta, h = math.log(0.4), 1.7, 1e-5
    by_gamma = (rule.invariant(ln_gamma + h, beta) - rule.invariant(ln_gamma - h, beta)) / (2 * h)
    by_beta = (rule.invariant(ln_gamma, beta + h) - rule.invariant(ln_gamma, beta - h)) / (2 * h)
    lemma = -2 * beta / (rule.slope(rule.nu(beta)) ** 2 * (1 - 0.4**2))
    assert -by_beta / by_gamma == pytest.approx(lemma, rel=1e-8)


def test_rules_without_learning():
    assert FixedFlow(25.0).beta(0.0, 7.0) == 25.0
    schedule = ScheduledFlow(0.01, 0.05, 100.0)
    assert [schedule.beta(0.0, t) for t in (0.0, 50.0, 100.0, 1e9)] == pytest.approx([100, 1 / 0.03, 20, 20])
    assert FixedFlow(1.0).slope(3.0) == schedule.slope(3.0) == 0.0


def test_make_rule_names_its_choices():
    rule, beta = make_rule("scaled-exp", temperature=0.05, k=4)
    assert rule == ExponentialFlow(4) and beta == pytest.approx(20)
    with pytest.raises(UserError, match="softplus"):
        make_rule("tanh", temperature=0.07)
    with pytest.raises(UserError, match="temperature"):
        make_rule("exp", temperature=0.0)
