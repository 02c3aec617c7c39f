"""Correlations, their intervals and slopes against scipy and statsmodels; coverage by simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from gaprun.comparison.correlation import EXACT, correlate, ranks, slope
from gaprun.comparison.statistics import holm

sm = pytest.importorskip("statsmodels.api", reason="statsmodels is the reference here: pip install -e .[dev]")

values = st.floats(-100, 100).map(lambda x: round(x, 2))
pairs = st.lists(st.tuples(values, values), min_size=4, max_size=20)


def least(p_value: float, n: int) -> float:
    """No p-value is below the share of the two perfect orders of n pairs."""
    return max(p_value, 2 / math.factorial(n))


@example([(0.0, 0.0)] * 6 + [(1.0, -2.0), (1.0, -3.0)])
@given(pairs)
def test_pearson_is_scipys(points):
    x, y = map(list, zip(*points, strict=True))
    assume(np.std(x) > 0.01 and np.std(y) > 0.01)
    found, expected = correlate(x, y, "pearson"), stats.pearsonr(x, y)
    assert found.r == pytest.approx(expected.statistic, abs=1e-9)
    assume(abs(found.r) < 0.999999)
    if len(x) > EXACT["pearson"]:
        assert found.p_value == pytest.approx(least(expected.pvalue, len(x)), rel=1e-5, abs=1e-12)
    interval = expected.confidence_interval(0.95)
    assert found.ci95 == pytest.approx((interval.low, interval.high), abs=1e-6)


@given(pairs)
def test_spearman_is_scipys_and_its_interval_bonett_and_wrights(points):
    x, y = map(list, zip(*points, strict=True))
    assert ranks(x) == stats.rankdata(x).tolist()
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    found, expected = correlate(x, y), stats.spearmanr(x, y)
    assert found.r == pytest.approx(expected.statistic, abs=1e-9)
    n = len(x)
    assume(abs(found.r) < 1 - 12 / (n * (n * n - 1)))
    if n > EXACT["spearman"]:
        assert found.p_value == pytest.approx(least(expected.pvalue, n), rel=1e-6, abs=1e-12)
    half = stats.norm.ppf(0.975) * math.sqrt((1 + found.r**2 / 2) / (n - 3))
    assert found.ci95 == pytest.approx(np.tanh(np.arctanh(found.r) + np.array([-half, half])), abs=1e-9)


@settings(max_examples=40)
@given(pairs)
def test_slope_is_ordinary_least_squares(points):
    x, y = map(list, zip(*points, strict=True))
    assume(np.ptp(x) > 0.1)
    fit = sm.OLS(y, sm.add_constant(np.array(x))).fit()
    found = slope(x, y)
    assert (found.intercept, found.slope) == pytest.approx(fit.params, rel=1e-6, abs=1e-6)
    if len(x) > 2:
        assert found.error == pytest.approx(fit.bse[1], rel=1e-5, abs=1e-6)
    assert found.ci95 == pytest.approx(fit.conf_int()[1], rel=1e-5, abs=1e-5)


def test_what_is_not_defined_is_none():
    assert correlate([1, 2], [1, 2]) is None and correlate([1, 1, 1], [1, 2, 3]) is None
    three = correlate([1, 2, 3], [1, 3, 2])
    assert three.r == 0.5 and three.ci95 is None and three.p_value is not None
    assert slope([1, 1], [2, 3]) is None and slope([1, 2], [3, 5]).ci95 is None


@example(
    [(0, 2), (0, 3), (1, 2), (3, 4), (3, 1), (2, 2)]
)  # r is 0, and rounding made it a little more than others
@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=3, max_size=7))
def test_over_few_points_p_is_the_share_of_all_orders(points):
    x, y = (np.array(side, dtype=float) for side in zip(*points, strict=True))
    assume(np.ptp(x) > 0 and np.ptp(y) > 0)
    for kind, a, b in (("pearson", x, y), ("spearman", stats.rankdata(x), stats.rankdata(y))):
        orders = np.array(list(itertools.permutations(b))) - b.mean()
        sums = np.abs(orders @ (a - a.mean()))
        expected = (sums >= sums[0] - 1e-9).mean()
        assert correlate(x.tolist(), y.tolist(), kind).p_value == pytest.approx(expected)


def test_a_perfect_order_of_five_is_not_certain():
    found = correlate([1, 2, 3, 4, 5], [1, 2, 3, 4, 9])
    assert found.r == 1 and found.ci95[0] < 0 and found.ci95[1] == 1
    assert found.p_value == pytest.approx(2 / 120)
    for n in (10, 11, 12, 30):
        assert 0 < correlate(range(n), range(n)).p_value <= 2 / math.factorial(n) * (1 + 1e-9)


def test_ties_do_not_depend_on_rounding():
    thirds = [0.1 + 0.2, 0.3, 0.6, 0.7, 0.1]
    assert ranks(thirds) == [2.5, 2.5, 4, 5, 1]
    assert correlate(thirds, [1, 1, 2, 3, 0]).r == 1


def test_a_perfect_order_of_eight():
    assert correlate(range(8), range(8, 0, -1)).ci95[1] < 0


def test_the_intervals_cover():
    generator = np.random.default_rng(1)
    for n in (8, 20):
        draws = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], (1500, n))
        true = 6 / math.pi * math.asin(0.3)  # Spearman's of a normal pair with r = 0.6
        for kind, target in (("pearson", 0.6), ("spearman", true)):
            found = [correlate(d[:, 0], d[:, 1], kind).ci95 for d in draws]
            covered = np.mean([low <= target <= high for low, high in found])
            # Exact only for large n; 2.5 points of tolerance hold sampling error (1.7) and approximation.
            assert covered == pytest.approx(0.95, abs=0.025), (n, kind)


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_holm_is_statsmodels(p_values):
    from statsmodels.stats.multitest import multipletests

    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)
