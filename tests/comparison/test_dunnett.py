"""Dunnett's distribution against plain integration, the blocked analysis against statsmodels, and its error rates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from gaprun.comparison.dunnett import dunnett_p, family_p, pooled_p
from gaprun.comparison.statistics import holm, paired_t


def by_sums(t: float, contrasts: int, df: float) -> float:
    """P(max |T| >= t) by the trapezoidal rule on fine grids of the common normal part and the common denominator."""
    z, logs = np.linspace(-9, 9, 1501), np.linspace(-14, 2, 2001)
    s = np.exp(logs)
    ways = np.sqrt(2) * t * s[:, None]
    inside = special.ndtr(ways + z) - special.ndtr(z - ways)
    with np.errstate(divide="ignore"):
        outside = -np.expm1(contrasts * np.log(inside))
    density = stats.chi.pdf(s * np.sqrt(df), df) * np.sqrt(df) * s
    return float(density @ outside @ stats.norm.pdf(z) * (z[1] - z[0]) * (logs[1] - logs[0]))


@pytest.mark.parametrize(("contrasts", "df"), [(1, 3), (2, 4), (6, 12), (12, 48), (3, 2)])
def test_dunnetts_distribution(contrasts: int, df: int) -> None:
    t = [0.5, 2.5, 4.0, 10.0]
    expected = [by_sums(one, contrasts, df) for one in t]
    np.testing.assert_allclose(dunnett_p(t, contrasts, df), expected, rtol=5e-5)
    if contrasts == 1:
        np.testing.assert_allclose(dunnett_p(t, 1, df), 2 * stats.t.sf(t, df), rtol=1e-12)


def test_without_seeds_in_common_it_is_scipys_dunnett() -> None:
    random = np.random.default_rng(0)
    control, *others = random.standard_normal((4, 6)) + np.array([[0.0], [0.5], [1.5], [2.5]])
    found = stats.dunnett(*others, control=control, random_state=1)
    np.testing.assert_allclose(dunnett_p(np.abs(found.statistic), 3, 20), found.pvalue, atol=2e-4)


def rows(table: np.ndarray) -> tuple[dict[str, dict[int, float]], dict[int, float], dict[str, float]]:
    """The baseline is row 0; others' values by seed, and their own paired tests."""
    values = {f"g{i}": dict(enumerate(row)) for i, row in enumerate(table[1:])}
    own = {f"g{i}": paired_t(list(row - table[0])).p_value for i, row in enumerate(table[1:])}
    return values, dict(enumerate(table[0])), own  # type: ignore[return-value]


def test_the_pooled_variance_is_that_of_setting_and_seed() -> None:
    import pandas as pd
    import statsmodels.formula.api as smf

    random = np.random.default_rng(3)
    table = random.standard_normal((5, 3)) + 4 * random.standard_normal(3) + np.arange(5)[:, None]
    table[0] = table[0].mean() + 0.1 * (table[0] - table[0].mean()) + 0.9 * (table.mean(0) - table.mean())
    values, baseline, _ = rows(table)
    frame = pd.DataFrame([(i, s, table[i, s]) for i in range(5) for s in range(3)], columns=["g", "s", "y"])
    fit = smf.ols("y ~ C(g) + C(s)", frame).fit()
    t = [abs(fit.tvalues[f"C(g)[T.{i}]"]) for i in range(1, 5)]
    assert fit.df_resid == 8
    np.testing.assert_allclose(list(pooled_p(values, baseline).values()), dunnett_p(t, 4, 8), rtol=1e-9)


def test_a_noisy_baseline_is_not_pooled_and_one_contrast_needs_no_correction() -> None:
    random = np.random.default_rng(5)
    table = random.standard_normal((5, 4)) * np.array([[20.0], [1.0], [1.0], [1.0], [1.0]])
    values, baseline, own = rows(table)
    assert pooled_p(values, baseline) == {}
    assert list(family_p(own, values, baseline).values()) == pytest.approx(holm(list(own.values())))
    one = {"g0": own["g0"]}
    assert family_p(one, {"g0": values["g0"]}, baseline) == pytest.approx(one)


def test_one_recipe_without_spread_among_noisy_ones_is_still_seen() -> None:
    random = np.random.default_rng(6)
    seeds = random.standard_normal(3)
    table = np.stack([seeds, seeds - 1 + [0, 1e-4, -1e-4], *(30 * random.standard_normal((3, 3)))])
    values, baseline, own = rows(table)
    found = family_p(own, values, baseline)
    assert pooled_p(values, baseline)["g0"] > 0.5 and found["g0"] == pytest.approx(5 * 4 * own["g0"])


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 6), st.integers(2, 5), st.integers(0, 10**6))
def test_no_smaller_than_the_own_test_and_the_same_in_any_order(groups: int, seeds: int, seed: int) -> None:
    table = np.random.default_rng(seed).standard_normal((groups + 1, seeds))
    values, baseline, own = rows(table)
    found = family_p(own, values, baseline)
    assert all(own[name] <= p <= 1 for name, p in found.items())
    turned = family_p(dict(reversed(own.items())), dict(reversed(values.items())), baseline)
    assert turned == pytest.approx(found)


def test_seeds_that_not_all_share_are_left_out_of_the_pooled_variance() -> None:
    table = np.random.default_rng(8).standard_normal((4, 5))
    table[0] *= 0.3
    values, baseline, _ = rows(table)
    short = {
        name: {s: v for s, v in own.items() if s < 3} if name == "g1" else own for name, own in values.items()
    }
    cut = {name: {s: v for s, v in own.items() if s < 3} for name, own in values.items()}
    assert pooled_p(short, baseline) == pooled_p(cut, {s: baseline[s] for s in range(3)})


@pytest.mark.parametrize("spread", [[1.0] * 7, [1, 3, 1, 1, 1, 1, 1], [3, 1, 1, 1, 1, 1, 1]], ids=str)
def test_a_family_without_differences_errs_in_a_twentieth(spread: list[float]) -> None:
    random, wrong, draws = np.random.default_rng(11), 0, 500
    for _ in range(draws):
        table = random.standard_normal((7, 3)) * np.array(spread)[:, None] + random.standard_normal(3)
        values, baseline, own = rows(table)
        wrong += min(family_p(own, values, baseline).values()) < 0.05
    assert wrong / draws < 0.055 + 2 * np.sqrt(0.05 * 0.95 / draws)
