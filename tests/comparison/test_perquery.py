"""Paired tests over queries against statsmodels and scipy; coverage and false positives by simulation."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gaprun.comparison.perquery import compare_queries, ratio, sign_flip
from gaprun.comparison.statistics import NO_SPREAD, ONE_VALUE
from tests.conftest import REPO


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_one_seed_and_independent_queries_are_mcnemars_test(only_ours, only_theirs):
    tables = pytest.importorskip("statsmodels.stats.contingency_tables", reason="pip install -e .[dev]")
    exact = tables.mcnemar([[10, only_ours], [only_theirs, 10]], exact=True)
    expected = exact.pvalue if only_ours + only_theirs else 1.0
    moved = np.array([1] * only_ours + [-1] * only_theirs + [0] * 10)
    assert sign_flip(moved) == pytest.approx(min(expected, 1.0), rel=1e-6, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-9, 9), min_size=2, max_size=9))
def test_sign_flip_is_scipys(sums):
    numbers = np.array(sums)
    exact = stats.permutation_test((numbers,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert sign_flip(numbers) == pytest.approx(exact.pvalue)


def test_sign_flip_of_many_is_the_normal_distributions():
    """Where two to the 5,000 ways cannot be listed; the normal's tail with the correction for whole numbers."""
    numbers = np.repeat([1, 3, -2, -1], [1400, 1300, 1300, 1000])
    z = (numbers.sum() - 1) / np.sqrt((numbers**2).sum())
    assert sign_flip(numbers) == pytest.approx(2 * stats.norm.sf(z), rel=1e-2)
    assert sign_flip(np.zeros(5, dtype=int)) == 1.0


def test_the_intervals_error_is_scipys_of_equal_and_the_bootstraps_of_uneven_sizes():
    random = np.random.default_rng(4)
    sums = random.integers(-3, 4, 300)
    delta, error, df = ratio(sums, np.full(300, 5.0))
    assert (delta, error) == pytest.approx((sums.mean() / 5, stats.sem(sums) / 5))
    assert df == pytest.approx(299)
    sizes = random.integers(1, 10, 300).astype(float)
    chosen = random.integers(0, 300, (20_000, 300))
    drawn = sums[chosen].sum(1) / sizes[chosen].sum(1)
    delta, error, df = ratio(sums, sizes)
    assert delta == pytest.approx(sums.sum() / sizes.sum()) and error == pytest.approx(drawn.std(), rel=0.03)
    assert df == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum() - 1) and df < 299


def test_which_test_is_made():
    right, wrong = np.array([1, 1, 1, 0, 1, 1]), np.array([0, 0, 1, 1, 0, 0])
    one = compare_queries([right], [wrong])
    assert (one.test, one.queries, one.pairs) == ("exact McNemar", 6, 6)
    assert one.delta == pytest.approx(100 * 3 / 6) and one.p_value == pytest.approx(2 * 6 / 32)
    seeds = compare_queries([right, right], [wrong, right])
    assert seeds.test == "exact sign-flip" and seeds.delta == pytest.approx(25)
    grouped = compare_queries([right], [wrong], np.array([0, 0, 1, 1, 2, 2]))
    assert (grouped.test, grouped.pairs, grouped.delta) == ("exact sign-flip", 3, pytest.approx(50))
    assert grouped.p_value == pytest.approx(0.5)  # sums 2, -1, 2: 4 of 8 sign patterns reach 3
    same = compare_queries([right], [right])
    assert (same.delta, same.p_value, same.ci95, same.lacks) == (
        0,
        1,
        None,
        NO_SPREAD,
    )  # of six queries, no proof
    better = compare_queries([np.ones(6)], [np.zeros(6)])
    assert (better.delta, better.ci95, better.p_value) == (100, None, pytest.approx(2 / 2**6))
    alone = compare_queries([right], [wrong], np.zeros(6))
    assert (alone.pairs, alone.delta, alone.ci95, alone.lacks) == (1, pytest.approx(50), None, ONE_VALUE)
    with pytest.raises(ValueError):
        compare_queries([right], [wrong[:3]])


def test_intervals_cover_and_families_err_as_often_as_they_say():
    """Uneven numbers of captions; what is printed in docs/statistics.md is from many more draws."""
    spec = importlib.util.spec_from_file_location("error_rates", REPO / "benchmarks" / "error_rates.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    found = benchmark.simulate_queries("5, few with 45", 60, 1, 0.5, recipes=4, draws=250)
    assert found["error"] <= 0.05 + 3 * (0.05 * 0.95 / 250) ** 0.5
    assert found["coverage"] == pytest.approx(0.95, abs=0.03)


def test_captions_of_one_image_are_no_independent_queries():
    """Where each model answers all five captions of an image alike, 200 queries are no more than their 40 images."""
    random = np.random.default_rng(5)
    a, b = random.random((2, 40)) < [[0.3], [0.5]]
    five = np.repeat(np.arange(40), 5)
    one, copied = compare_queries([a], [b]), compare_queries([a[five]], [b[five]], five)
    ignoring = compare_queries([a[five]], [b[five]])
    assert copied.p_value == pytest.approx(one.p_value) and copied.ci95 == pytest.approx(one.ci95)
    assert ignoring.p_value < one.p_value / 4
