"""Paired tests over queries against statsmodels and scipy; coverage and false positives by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from gaprun.comparison.perquery import bootstrap_interval, compare_queries, mcnemar, sign_flip


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_statsmodels(only_ours, only_theirs):
    tables = pytest.importorskip("statsmodels.stats.contingency_tables", reason="pip install -e .[dev]")
    expected = (
        tables.mcnemar([[10, only_ours], [only_theirs, 10]], exact=True).pvalue
        if only_ours + only_theirs
        else 1.0
    )
    assert mcnemar(only_ours, only_theirs) == pytest.approx(min(expected, 1.0), rel=1e-9, abs=1e-300)


def test_sign_flip_is_scipys():
    generator = np.random.default_rng(3)
    few = generator.normal(0.3, 1, 9)
    exact = stats.permutation_test((few,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(few) == pytest.approx(exact.pvalue)
    many = generator.choice([-1, 0, 1], 400, p=[0.1, 0.76, 0.14])
    random = stats.permutation_test(
        (many,), np.mean, permutation_type="samples", n_resamples=20_000, rng=generator, vectorized=True
    )
    assert sign_flip(many, 20_000) == pytest.approx(random.pvalue, abs=0.012)
    assert sign_flip(np.zeros(5)) == 1.0


def test_bootstrap_is_scipys():
    difference = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], 600, p=[0.1, 0.7, 0.2])
    expected = stats.bootstrap(
        (difference,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(0)
    ).confidence_interval
    low, high = bootstrap_interval(difference, np.ones(600), 20_000)
    assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=0.35)
    assert bootstrap_interval(np.ones(1), np.ones(1)) is None


def test_which_test_is_made():
    right, wrong = np.array([1, 1, 1, 0, 1, 1]), np.array([0, 0, 1, 1, 0, 0])
    one = compare_queries([right], [wrong])
    assert (one.test, one.queries, one.units) == ("exact McNemar", 6, 6)
    assert one.delta == pytest.approx(100 * 3 / 6) and one.p_value == pytest.approx(2 * 6 / 32)
    seeds = compare_queries([right, right], [wrong, right])
    assert seeds.test == "sign-flip permutation" and seeds.delta == pytest.approx(25)
    grouped = compare_queries([right], [wrong], np.array([0, 0, 1, 1, 2, 2]))
    assert (grouped.test, grouped.units, grouped.delta) == ("sign-flip permutation", 3, pytest.approx(50))
    assert grouped.p_value == pytest.approx(0.5)  # sums 2, -1, 2: 4 of 8 sign patterns reach 3
    same = compare_queries([right], [right])
    assert same.p_value == 1 and same.ci95 == (0, 0)
    with pytest.raises(ValueError):
        compare_queries([right], [wrong[:3]])


def test_intervals_cover_and_tests_err_as_often_as_they_say():
    generator = np.random.default_rng(5)
    trials, images, captions = 300, 120, 5
    hits = {"single": 0, "clustered": 0}
    covered = {"single": 0, "clustered": 0}
    ignoring = 0
    owner = np.repeat(np.arange(images), captions)
    for _ in range(trials):
        a, b = generator.random((2, images)) < 0.5
        single = compare_queries([a], [b])
        hits["single"] += single.p_value < 0.05
        covered["single"] += single.ci95[0] <= 0 <= single.ci95[1]
        # Captions of an image share its difficulty under each model, so they are nearly one observation.
        chance = generator.beta(0.3, 0.3, (2, images))
        a, b = (generator.random((images, captions)) < chance[k][:, None] for k in (0, 1))
        grouped = compare_queries([a.ravel()], [b.ravel()], owner)
        hits["clustered"] += grouped.p_value < 0.05
        covered["clustered"] += grouped.ci95[0] <= 0 <= grouped.ci95[1]
        ignoring += mcnemar(int((a & ~b).sum()), int((b & ~a).sum())) < 0.05
    for kind in hits:
        # Three standard errors of 5 % in 300 trials are 3.8 points; McNemar's exact test errs on the safe side.
        assert hits[kind] / trials <= 0.05 + 0.038
        assert covered[kind] / trials == pytest.approx(0.95, abs=0.038)
    assert ignoring / trials > 0.15  # what clustering protects from
