"""The reduced flow: conserved quantities, exact rates, thresholds, and the mismatched case."""

import math

import numpy as np
import pytest

from gaprun.errors import UserError
from gaprun.theory.rates import appendix_c, flow_rates, slope, windows
from gaprun.theory.reduced import FixedMargin, GivenFeatures, integrate
from gaprun.theory.rules import ExponentialFlow, make_rule

NAMES = ["exp", "scaled-exp", "softplus", "fixed", "schedule"]


def run(name, landscape=None, **settings):
    rule, beta = make_rule(name, temperature=0.07, k=settings.pop("k", 2.0))
    return integrate(rule, landscape or FixedMargin(), beta=beta, **settings)


def pairs(n=12, d=6, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    u = rng.standard_normal((n, d))
    return u, u + noise * rng.standard_normal((n, d))


@pytest.mark.parametrize("horizon", [1e12, 1e300])
@pytest.mark.parametrize("name", NAMES)
def test_conserved_quantities_hold(name, horizon):
    flow = run(name, horizon=horizon)
    assert flow.error <= 1e-6
    assert flow.t[0] == 0 and (flow.t[-1] == pytest.approx(horizon) or flow.stopped)
    if flow.error_kind == "conserved quantity":
        first = flow.rule.invariant(flow.ln_gamma[0], flow.beta[0])
        values = [flow.rule.invariant(g, b) for g, b in zip(flow.ln_gamma, flow.beta, strict=True)]
        assert np.abs(np.array(values) / first - 1).max() <= 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_halving_the_tolerance_moves_no_rate_beyond_its_interval(name):
    first, second = (flow_rates(run(name, rtol=rtol)) for rtol in (1e-10, 5e-11))
    for key, rate in first.items():
        assert abs(second[key].value - rate.value) <= rate.high - rate.value, key


@pytest.mark.parametrize("k", [1.0, 2.0, 3.0])
def test_exponential_rules_fall_by_minus_two_k_squared(k):
    rates = flow_rates(run("scaled-exp", k=k))
    assert rates["d ln gamma / d ln beta"].value == pytest.approx(-2 * k**2, abs=1e-3)
    assert rates["d ln gamma / d ln beta"].verdict == "agrees"
    assert rates["d (ln gamma - gamma^2/2) / d ln beta"].value == pytest.approx(-2 * k**2, abs=1e-6)


def test_softplus_falls_with_beta_squared_and_not_as_appendix_c_is_reported():
    flow = run("softplus")
    rates = flow_rates(flow)
    assert rates["d ln gamma / d beta^2"].value == pytest.approx(-1, abs=1e-3)
    assert rates["d ln gamma / d ln t"].verdict == "disagrees"
    claim = appendix_c(flow, run("exp"))
    assert not claim.holds
    assert claim.exp_rate[-1] == pytest.approx(1, abs=0.05)  # 1/(t log t) is half of exp's relative rate
    assert claim.softplus_rate[-1] == pytest.approx(1, abs=0.05)  # softplus: ln t / t at margin 1


def test_verdicts_know_how_far_a_window_is_from_its_limit():
    early = flow_rates(run("exp", horizon=1e5))["d ln gamma / d ln beta"]
    assert abs(early.value + 2) > 0.01 and early.verdict == "agrees" and early.remains > 0.005
    still = flow_rates(integrate(ExponentialFlow(), FixedMargin(), beta=1000.0, horizon=1e9))
    assert still["d ln gamma / d ln beta"].verdict is None  # beta does not move: nothing to measure
    opening = flow_rates(run("exp", FixedMargin(-0.2), horizon=1e3))
    assert opening["d ln gamma / d ln beta"].verdict is None  # gamma near 1
    assert opening["d (ln gamma - gamma^2/2) / d ln beta"].verdict == "agrees"
    assert opening["d ln gamma / d ln ln t"].expected is None  # Theorem 3.2 wants a positive margin


def test_local_slopes_approach_minus_two_from_above():
    slopes = [rate.value for rate in windows(run("exp"))]
    assert len(slopes) == 6 and all(np.diff(slopes) < 0)
    assert -2 < slopes[-1] < -1.9 and slopes[1] > -1.0
    # Quasi-steady state (ours): with z = margin beta, d ln gamma / d ln ln t = -2 ln t / (z - 2).
    flow = run("exp")
    tail = flow.t > 1e200
    local = np.gradient(flow.ln_gamma[tail], np.log(np.log(flow.t[tail])))[3:-3]
    predicted = (-2 * np.log(flow.t[tail]) / (flow.beta[tail] - 2))[3:-3]
    np.testing.assert_allclose(local, predicted, rtol=2e-4)


def test_fixed_temperature_is_exponential_in_t():
    rate = flow_rates(run("fixed", horizon=1e8))["d ln gamma / d t"]
    share = 511 * math.exp(-1 / 0.07)
    assert rate.value == pytest.approx(-2 / 0.07 * share / (1 + share), rel=1e-6)
    assert rate.verdict == "agrees"


def test_thresholds_are_crossed_when_the_trajectory_says_so():
    flow = run("exp", horizon=1e12, thresholds=(0.2, 0.1, 1e-9))
    crossed = flow.crossings[0.1]
    after = int(np.searchsorted(flow.t, crossed))
    assert flow.gamma[after - 1] > 0.1 > flow.gamma[after]
    assert flow.crossings[0.2] < crossed and flow.crossings[1e-9] is None


def test_a_negative_margin_opens_the_gap_until_the_modalities_are_opposite():
    flow = run("exp", FixedMargin(-0.2), horizon=1e6)
    assert (np.diff(flow.gamma) > -1e-12).all() and flow.gamma[-1] > 0.9
    assert (np.diff(flow.beta) <= 1e-9).all() and flow.error < 1e-6


def test_given_features_reduce_to_a_fixed_margin_on_the_simplex():
    n = 9
    centred = np.eye(n) - 1 / n
    simplex, margin = GivenFeatures(centred, centred), FixedMargin(1 + 1 / (n - 1), n)
    assert simplex.margin == pytest.approx(margin.margin)
    for s in (0.1, 3.0, 60.0, 600.0):
        assert simplex.slope(s) == pytest.approx(margin.slope(s), rel=1e-10)


def test_given_features_slope_is_the_derivative_of_the_cross_entropy():
    u, v = pairs(noise=1.0)
    unit = [a / np.linalg.norm(a, axis=1, keepdims=True) for a in (u, v)]
    cosines = unit[0] @ unit[1].T

    def loss(s):
        z = s * cosines
        rows = np.log(np.exp(z).sum(1)) - np.diag(z)
        columns = np.log(np.exp(z).sum(0)) - np.diag(z)
        return (rows.mean() + columns.mean()) / 2

    for s in (0.5, 4.0, 20.0):
        sign, magnitude = GivenFeatures(u, v).slope(s)
        assert sign * math.exp(magnitude) == pytest.approx((loss(s + 1e-5) - loss(s - 1e-5)) / 2e-5, rel=1e-6)


def test_given_features_flow_conserves_and_keeps_a_floor_where_the_means_differ():
    flow = run("exp", GivenFeatures(*pairs()), horizon=1e30)
    assert flow.landscape.margin > 0 and flow.error < 1e-6
    u, v = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in pairs())
    floor = np.linalg.norm(u.mean(0) - v.mean(0))
    g = flow.gamma
    np.testing.assert_allclose(flow.delta, np.sqrt((1 - g**2) * floor**2 + 4 * g**2), rtol=1e-9)


def test_rows_follow_the_contract():
    rows = run("exp", horizon=1e3, points=20).rows()
    assert set(rows[0]) == {"t", "gamma", "ln_gamma", "beta", "delta"}
    assert rows[0]["gamma"] == pytest.approx(0.3) and rows[0]["delta"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": 0.0},
        {"gamma": 1.0},
        {"horizon": math.inf},
        {"horizon": -1.0},
        {"points": 3},
        {"rtol": 1e-20},
    ],
)
def test_settings_out_of_range_are_the_users_mistake(settings):
    with pytest.raises(UserError):
        run("exp", **settings)
    with pytest.raises(UserError):
        FixedMargin(0.0)
    with pytest.raises(UserError):
        ExponentialFlow(-1.0)


def test_slope_is_exact_on_a_line_and_wide_on_a_curve():
    x = np.linspace(0, 1, 60)
    value, half = slope(x, 3 * x + 1)
    assert value == pytest.approx(3) and half < 1e-10
    value, half = slope(x, x**2)
    assert value == pytest.approx(1) and half > 0.2
    assert math.isnan(slope(np.ones(8), x[:8])[0])
