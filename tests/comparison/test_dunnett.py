"""Dunnett's distribution against plain integration, the blocked analysis against statsmodels, and its error rates."""

import importlib.util

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special, stats

from gaprun.comparison.dunnett import dunnett_p, family_p, pooled_p
from gaprun.comparison.statistics import holm, paired_t
from tests.conftest import REPO


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
@example(3, 3, 84)  # was smaller by rounding
def test_no_smaller_than_the_own_test_and_the_same_in_any_order(groups: int, seeds: int, seed: int) -> None:
    table = np.random.default_rng(seed).standard_normal((groups + 1, seeds))
    values, baseline, own = rows(table)
    found = family_p(own, values, baseline)
    assert all(own[name] <= p <= 1 for name, p in found.items())
    turned = family_p(dict(reversed(own.items())), dict(reversed(values.items())), baseline)
    assert turned == pytest.approx(found)


def missing() -> tuple[dict[str, dict[int, float]], dict[int, float], dict[str, float]]:
    """Five seeds of the baseline, of which g1 has three and g2 two others; g3 has seeds of its own."""
    table = np.random.default_rng(9).standard_normal((5, 5)) + 4 * np.random.default_rng(1).standard_normal(5)
    values, baseline, own = rows(table)
    values["g1"] = {seed: values["g1"][seed] for seed in (0, 1, 2)}
    values["g2"] = {seed: values["g2"][seed] for seed in (3, 4)} | {9: 100.0}
    values["g3"] = {seed + 10: value for seed, value in values["g3"].items()}
    return values, baseline, own


def test_seeds_that_some_lack_count_for_the_others_as_in_least_squares() -> None:
    import pandas as pd
    import statsmodels.formula.api as smf

    values, baseline, _ = missing()
    used = {"a": baseline} | {name: values[name] for name in ("g0", "g1", "g2")}
    points = [(name, s, value) for name, own in used.items() for s, value in own.items() if s in baseline]
    fit = smf.ols("y ~ C(g) + C(s)", pd.DataFrame(points, columns=["g", "s", "y"])).fit()
    error = {name: np.sqrt(2 * fit.mse_resid / n) for name, n in (("g0", 5), ("g1", 3), ("g2", 2))}
    t = [
        abs(np.mean([values[n][s] - baseline[s] for s in values[n] if s in baseline])) / error[n]
        for n in error
    ]
    found = pooled_p(values, baseline)
    assert list(found) == ["g0", "g1", "g2"] and fit.df_resid == 7
    # no correlation between g1 and g2, whose seeds of the baseline are others
    np.testing.assert_allclose(list(found.values()), dunnett_p(t, 3, 7, 0.0), rtol=1e-9)


@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.387])
def test_dunnetts_distribution_of_other_correlations(correlation: float) -> None:
    shape = np.full((3, 3), correlation) + (1 - correlation) * np.eye(3)
    normal = stats.multivariate_normal(cov=shape, seed=2).rvs(400_000)
    chi = np.sqrt(stats.chi2(8).rvs(400_000, random_state=3) / 8)
    expected = [(np.abs(normal).max(1) / chi >= t).mean() for t in (1.5, 2.5, 3.5)]
    np.testing.assert_allclose(dunnett_p([1.5, 2.5, 3.5], 3, 8, correlation), expected, atol=2e-3)


def test_what_is_not_pooled_has_its_part_of_the_error_by_number() -> None:
    values, baseline, own = missing()
    values["g4"] = {20: 1.0, 21: 2.0}
    own["g4"] = 0.001
    pooled, found = pooled_p(values, baseline), family_p(own, values, baseline)
    assert set(own) - set(pooled) == {"g3", "g4"}
    assert found["g4"] == pytest.approx(0.001 * 2 * 5 / 2)
    inside = holm([own[name] for name in pooled])
    for name, alone in zip(pooled, inside, strict=True):
        p = min(max(own[name], pooled[name]) / 0.8, (alone or 1) / 0.2)
        assert found[name] == pytest.approx(min(1.0, p * 5 / 3))


def test_a_recipe_of_two_seeds_takes_no_power_from_those_of_five() -> None:
    random, found = np.random.default_rng(12), 0
    for _ in range(200):
        table = random.standard_normal((6, 5)) + random.standard_normal(5)
        table[1] += 3
        values, baseline, own = rows(table)
        values["g4"] = {seed: values["g4"][seed] for seed in (0, 1)}
        found += family_p(own, values, baseline)["g0"] < 0.05
    assert found / 200 > 0.68, (
        "0.77; with the two seeds that all share 0.48, with Holm's correction alone 0.59"
    )


@pytest.mark.parametrize("spread", [[1.0] * 7, [1, 3, 1, 1, 1, 1, 1], [3, 1, 1, 1, 1, 1, 1]], ids=str)
def test_a_family_without_differences_errs_in_a_twentieth(spread: list[float]) -> None:
    random, wrong, draws = np.random.default_rng(11), 0, 500
    for _ in range(draws):
        table = random.standard_normal((7, 3)) * np.array(spread)[:, None] + random.standard_normal(3)
        values, baseline, own = rows(table)
        wrong += min(family_p(own, values, baseline).values()) < 0.05
    assert wrong / draws < 0.055 + 2 * np.sqrt(0.05 * 0.95 / draws)


def test_the_benchmark_of_uneven_seeds_finds_what_is_right_and_what_is_not(monkeypatch) -> None:
    """docs/statistics.md has its numbers from many more draws; p-values that nobody corrected must show there."""
    spec = importlib.util.spec_from_file_location("error_rates", REPO / "benchmarks" / "error_rates.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    seeds, draws = benchmark.UNEVEN["half the recipes have 3 of 5"], 200
    found = benchmark.simulate_uneven(seeds, np.ones(len(seeds)), draws)
    limit = 0.05 + 3 * (0.05 * 0.95 / draws) ** 0.5
    assert found["error"] <= limit and found["error_holm"] <= limit
    assert found["coverage"] == pytest.approx(0.95, abs=0.02)
    assert found["power"] > found["power_holm"] > 0.5
    monkeypatch.setattr(benchmark, "family_p", lambda p, values, base: p)
    wrong = benchmark.simulate_uneven(seeds, np.ones(len(seeds)), draws)
    assert wrong["error"] > limit and {**wrong, "error": 0, "power": 0} == {**found, "error": 0, "power": 0}
