"""Every statistic against scipy on the same numbers, Holm by hand, coverage and false positives by simulation."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import special, stats

from gaprun.comparison.statistics import (
    NO_SPREAD,
    difference,
    equivalence,
    holm,
    paired_t,
    summarise,
    t_quantile,
    t_two_sided,
    welch_t,
)

numbers = st.floats(-1e3, 1e3).map(lambda x: round(x, 6))
DEGREES = (1, 2, 3, 4, 7.31, 19, 100, 1e4)


@pytest.mark.parametrize("df", DEGREES)
def test_students_t_is_scipys(df):
    for t in (0.0, 0.1, 0.5, 1, 2, 4.303, 12.706, 50, 1e4):
        assert t_two_sided(t, df) == pytest.approx(2 * stats.t.sf(t, df), rel=1e-10, abs=1e-300)
        assert t_two_sided(-t, df) == t_two_sided(t, df)
    for p in (0.6, 0.9, 0.975, 0.995, 0.9999):
        assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-10)


@pytest.mark.parametrize("t", [1e-12, 1e-8, 0.5, 3.0, 1e9])
def test_one_degree_of_freedom_is_cauchys_distribution(t):
    assert t_two_sided(t, 1) == pytest.approx(2 / math.pi * math.atan2(1, t), rel=1e-12)


def test_known_quantiles():
    # Tables of Student's t: 12.706, 4.303, 2.776 at 1, 2, 4 degrees of freedom.
    assert [round(t_quantile(0.975, df), 3) for df in (1, 2, 4)] == [12.706, 4.303, 2.776]


@given(st.lists(numbers, min_size=2, max_size=12))
def test_mean_deviation_and_interval_are_scipys(values):
    assume(np.ptp(values) > 1e-3)
    found = summarise(values)
    assert found.n == len(values)
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert found.std == pytest.approx(np.std(values, ddof=1), rel=1e-9)
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert found.ci95 == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_one_value_has_no_spread_and_equal_values_have_none_of_it():
    one = summarise([0.3])
    assert (one.n, one.mean, one.std, one.ci95) == (1, 0.3, None, None)
    same = summarise([0.1, 0.1, 0.1])
    assert (same.mean, same.std) == (pytest.approx(0.1), pytest.approx(0, abs=1e-16))
    assert same.ci95 == pytest.approx((0.1, 0.1))
    with pytest.raises(ValueError):
        summarise([])


@given(st.lists(st.tuples(numbers, numbers), min_size=3, max_size=10))
def test_the_paired_test_is_scipys(pairs):
    ours, theirs = map(list, zip(*pairs, strict=True))
    differences = np.subtract(ours, theirs)
    assume(np.std(differences) > 1e-3)
    found = difference(
        {seed: [x] for seed, x in enumerate(ours)}, {seed: [x] for seed, x in enumerate(theirs)}
    )
    expected = stats.ttest_rel(ours, theirs)
    assert found.test == "paired t" and found.pairs == len(pairs)
    assert found.delta == pytest.approx(np.mean(differences), abs=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
    interval = expected.confidence_interval(0.95)
    assert found.ci95 == pytest.approx((interval.low, interval.high), rel=1e-6, abs=1e-6)


@given(st.lists(numbers, min_size=2, max_size=8), st.lists(numbers, min_size=2, max_size=8))
def test_welchs_test_is_scipys(ours, theirs):
    assume(np.ptp(ours) > 1e-3 and np.ptp(theirs) > 1e-3)
    expected = stats.ttest_ind(ours, theirs, equal_var=False)
    found = welch_t(ours, theirs)
    fewer = min(len(ours), len(theirs))
    df = expected.df if fewer > 3 or len(ours) == len(theirs) else min(expected.df, 2 * (fewer - 1))
    assert found.df == pytest.approx(df, rel=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(expected.statistic), df), rel=1e-6, abs=1e-12)
    half = stats.t.ppf(0.975, df) * found.error
    assert found.ci95 == pytest.approx((found.delta - half, found.delta + half), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(("few", "many", "welch"), [(2, 5, 0.935), (2, 10, 0.90), (3, 10, 0.937)])
def test_intervals_with_few_values_on_one_side_hold(few, many, welch):
    """At equal spreads, where Welch's own degrees of freedom cover in `welch`."""
    random, draws, held, own = np.random.default_rng(few * many), 4000, 0, 0
    for _ in range(draws):
        ours, theirs = random.standard_normal(few), random.standard_normal(many)
        low, high = welch_t(ours.tolist(), theirs.tolist()).ci95
        held += low <= 0 <= high
        own += stats_holds(ours, theirs)
    assert own / draws == pytest.approx(welch, abs=0.012) and held / draws > 0.945


def stats_holds(ours, theirs):
    parts = ours.var(ddof=1) / len(ours), theirs.var(ddof=1) / len(theirs)
    df = sum(parts) ** 2 / (parts[0] ** 2 / (len(ours) - 1) + parts[1] ** 2 / (len(theirs) - 1))
    return abs(ours.mean() - theirs.mean()) <= special.stdtrit(df, 0.975) * np.sqrt(sum(parts))


def test_which_test_is_made():
    def ask(ours, theirs):
        found = difference(ours, theirs)
        return found.test, found.pairs, found.delta, found.p_value is not None, found.lacks

    a = {0: [1.0], 1: [2.0], 2: [4.0]}
    assert ask(a, {0: [0.5], 1: [0.5], 2: [1.0], 9: [7.0]}) == ("paired t", 3, pytest.approx(5 / 3), True, "")
    assert ask(a, {0: [0.5], 1: [0.5]}) == ("Welch t", 0, pytest.approx(7 / 3 - 0.5), True, "")
    assert difference(a, {0: [0.5], 1: [0.5]}).each == (0.5, 1.5)
    assert ask(a, {7: [1.0], 8: [2.0]}) == ("Welch t", 0, pytest.approx(7 / 3 - 1.5), True, "")
    assert ask(a, {None: [1.0, 2.0]}) == ("Welch t", 0, pytest.approx(7 / 3 - 1.5), True, "")
    assert ask(a, {1: [0.5]}) == (None, 1, 1.5, False, "one value")
    assert ask({0: [1.0]}, {5: [0.25]}) == (None, 0, 0.75, False, "one value")
    three = {seed: [seed + 0.5] for seed in range(3)}
    assert ask({seed: [seed + 1.0] for seed in range(3)}, three) == (None, 3, 0.5, False, "no spread")
    assert ask(a | {0: [0.0, 2.0]}, {0: [0.5], 1: [1.5], 2: [3.5]})[:3] == (None, 3, 0.5)  # a unit's mean


@pytest.mark.parametrize("correlation, ratio", [(0, 1), (0, 10), (0.7, 1), (0.7, 10)])
def test_what_two_seeds_can_bear(correlation, ratio):
    """The interval covers, and is shorter than the paired one but where seeds agree much between recipes."""
    draw = np.random.default_rng(0).standard_normal((2000, 3, 2))
    ours, theirs = (
        np.sqrt(correlation) * draw[:, 2] + np.sqrt(1 - correlation) * draw[:, i] for i in range(2)
    )
    found = [
        difference(*({s: [x] for s, x in enumerate(one)} for one in pair))
        for pair in zip(ratio * ours, theirs, strict=True)
    ]
    intervals = np.array([one.ci95 for one in found])
    assert np.mean((intervals[:, 0] < 0) & (intervals[:, 1] > 0)) > 0.925
    paired = np.array([paired_t(one.each).ci95 for one in found])
    shorter = np.median(np.ptp(intervals, axis=1)) / np.median(np.ptp(paired, axis=1))
    assert shorter < (0.75 if correlation == 0 and ratio == 1 else 1.15)


def test_noise_of_rounding_is_no_spread():
    found = paired_t([0.1 + 0.2 - 0.3 + 0.1, 0.1, 0.1])
    assert found.p_value is None and found.delta == pytest.approx(0.1)
    values = (
        33.3,
        40.1,
        70.2,
        55.5,
        61.7,
    )  # equal but for the last bit, which a paired test takes for p = .004
    ours, theirs = ({seed: [v] for seed, v in enumerate(v)} for v in (np.nextafter(values, 100), values))
    found = difference(ours, theirs)
    assert (found.p_value, found.ci95, found.pairs, found.lacks) == (None, None, 5, NO_SPREAD)
    ours[0] = [33.3 + 1e-9]  # little, and more than rounding
    assert difference(ours, theirs).p_value == pytest.approx(
        stats.ttest_1samp([1e-9, 0, 0, 0, 0], 0).pvalue, rel=1e-3
    )


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == [] and holm([None]) == [None] and holm([0.2]) == [0.2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p_values):
    corrected = holm(p_values)
    for p, q in zip(p_values, corrected, strict=True):
        assert p <= q <= min(1.0, p * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert all(corrected[a] <= corrected[b] for a, b in zip(order, order[1:], strict=False))


def test_intervals_cover_and_tests_err_as_often_as_they_say():
    generator = np.random.default_rng(0)
    trials = 2000
    for n in (2, 3, 5):
        ours = generator.normal(0.4, 0.1, (trials, n)).tolist()
        theirs = generator.normal(0.4, 0.05, (trials, n)).tolist()
        covered = sum(low <= 0.4 <= high for low, high in (summarise(row).ci95 for row in ours))
        false = sum(
            difference(dict(enumerate([[x] for x in a])), dict(enumerate([[x] for x in b]))).p_value < 0.05
            for a, b in zip(ours, theirs, strict=True)
        )
        # Three standard errors of a proportion of 5 % in 2,000 trials are 0.0146.
        assert covered / trials == pytest.approx(0.95, abs=0.0146)
        # Welch's test of two seeds errs less, as its intervals cover more.
        assert (0.015 if n == 2 else 0.0354) < false / trials < 0.0646


def test_equivalence_is_statsmodels():
    weightstats = pytest.importorskip("statsmodels.stats.weightstats", reason="pip install -e .[dev]")
    generator = np.random.default_rng(8)
    for margin in (0.2, 1.0, 3.0):
        ours, theirs = generator.normal(0.3, 1, 5), generator.normal(0, 1.5, 5)
        paired = equivalence(paired_t((ours - theirs).tolist()), margin)
        assert paired == pytest.approx(weightstats.ttost_paired(ours, theirs, -margin, margin)[0])
        welch = equivalence(welch_t(ours.tolist(), theirs.tolist()), margin)
        expected = weightstats.ttost_ind(ours, theirs, -margin, margin, usevar="unequal")[0]
        assert welch == pytest.approx(expected)
    assert equivalence(difference({0: [1.0]}, {0: [2.0]}), 1.0) is None


def test_equivalence_errs_in_five_percent_at_the_margin():
    generator = np.random.default_rng(9)
    for seeds in (3, 5):
        draws = generator.normal(1.0, 0.2, (3000, seeds))
        claimed = np.mean([equivalence(paired_t(row.tolist()), 1.0) < 0.05 for row in draws])
        assert claimed == pytest.approx(0.05, abs=0.012)  # three standard errors
