"""Fits recover the law of made-up paths with noise, and say so where a path cannot tell."""

import math

import numpy as np
import pytest

from gaprun.errors import UserError
from gaprun.theory.fits import LAWS, UNDECIDED, judge, log_bins

STEPS = np.arange(1.0, 20001.0, 5.0)
LOG = np.log(np.maximum(STEPS, 2.0))
TRUTHS = {
    "log2": 0.05 + 6 / LOG**2,
    "t_log_t": 0.1 + 20 / (STEPS * LOG),
    "power": 0.05 + 2 * STEPS**-0.5,
    "exponential": 0.08 + 0.7 * np.exp(-STEPS / 3000),
}


def noisy(path, noise, seed):
    return path * (1 + noise * np.random.default_rng(seed).standard_normal(len(path)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("noise", [0.01, 0.03])
@pytest.mark.parametrize("law", TRUTHS)
def test_the_law_of_a_noisy_path_is_recovered(law, noise, seed):
    verdict = judge(STEPS, noisy(TRUTHS[law], noise, seed))
    assert verdict.law == law, verdict.reason
    assert verdict.fits[0].law == law and len(verdict.fits) == len(LAWS)


@pytest.mark.parametrize("law", TRUTHS)
def test_no_verdict_depends_on_the_gaps_unit(law):
    """A sample size for each law, times the logarithm of its variance, made that of the unit decide."""
    noise = np.random.default_rng(3).standard_normal(len(STEPS))
    for place in range(1, len(noise)):
        noise[place] = 0.95 * noise[place - 1] + 0.3 * noise[place]
    path = TRUTHS[law] * (1 + 0.02 * noise)
    one, other = judge(STEPS, path), judge(STEPS, 1000 * path)
    assert (one.law, one.reason.partition(" and by held")[0]) == (
        other.law,
        other.reason.partition(" and by held")[0],
    )
    ahead, same = ([fit.aicc - found.fits[0].aicc for fit in found.fits] for found in (one, other))
    assert ahead == pytest.approx(same, abs=1e-3) and one.law in (law, UNDECIDED)
    best, second = (found.rmse for found in one.fits[:2])
    assert (
        ahead[1] <= 2 * one.points * math.log(second / best) + 40
    )  # by likelihood, not by the sizes of samples


def test_parameters_are_recovered_with_intervals():
    power = judge(STEPS, noisy(TRUTHS["power"], 0.005, 0)).fits[0]
    low, high = power.shape_interval
    assert low < power.shape < high and power.shape == pytest.approx(0.5, abs=0.02)
    assert power.floor == pytest.approx(0.05, abs=0.005) and power.scale == pytest.approx(2, rel=0.1)
    decay = judge(STEPS, noisy(TRUTHS["exponential"], 0.005, 0)).fits[0]
    assert 1 / decay.shape == pytest.approx(3000, rel=0.05)
    assert decay.shape_interval[0] < decay.shape < decay.shape_interval[1]
    slow = judge(STEPS, noisy(TRUTHS["log2"], 0.005, 0)).fits[0]
    assert slow.scale == pytest.approx(6, rel=0.02) and slow.floor == pytest.approx(0.05, abs=0.005)
    assert slow.shape is None


def test_a_shapes_interval_allows_for_noise_that_lasts():
    """Bins of such noise are not independent: an interval as if they were held the truth in 9 of these 16."""
    steps = np.unique(np.round(np.geomspace(1, 5000, 300)))
    held = 0
    for seed in range(16):
        noise = np.random.default_rng(seed).standard_normal(len(steps))
        for place in range(1, len(noise)):
            noise[place] = 0.9 * noise[place - 1] + 0.4359 * noise[place]
        fits = judge(steps, 0.05 + 2 * steps**-0.5 + 0.01 * noise).fits
        low, high = next(fit.shape_interval for fit in fits if fit.law == "power")
        held += low <= 0.5 <= high
    assert held >= 14


@pytest.mark.parametrize("law", TRUTHS)
def test_a_short_record_is_undecided_and_says_why(law):
    verdict = judge(STEPS[:8], TRUTHS[law][:8])
    assert verdict.law == UNDECIDED and "too short" in verdict.reason
    late = (STEPS > 15000) & (STEPS < 20000)
    assert "too short" in judge(STEPS[late], TRUTHS[law][late]).reason


def test_an_empty_path_is_undecided():
    verdict = judge([], [])
    assert verdict.law == UNDECIDED and verdict.points == 0 and math.isnan(verdict.start)


@pytest.mark.parametrize("seed", range(5))
def test_flat_and_growing_paths_have_no_rate(seed):
    flat = judge(STEPS, noisy(np.full_like(STEPS, 0.3), 0.02, seed))
    growing = judge(STEPS, noisy(0.2 + 0.01 * LOG, 0.01, seed))
    assert flat.law == growing.law == UNDECIDED
    assert "not closing" in growing.reason or "too short" in growing.reason


def test_what_is_said_of_a_gap_is_true_of_it():
    """A fall of a quarter under waves is no "does not fall": found in a run, where it was said."""
    t = np.unique(np.round(np.geomspace(3, 3000, 140)))
    wavy = judge(t, 0.5 - 0.02 * np.log(t) + 0.03 * np.sin(4 * np.log(t)))
    assert wavy.law == UNDECIDED and wavy.reason.startswith("the gap falls by 26 %, but no law")
    slight = judge(t, 0.5 - 0.002 * np.log(t))
    assert slight.law == UNDECIDED and slight.reason.startswith("the gap falls by 2.5 % only over")
    still = judge(t, np.full_like(t, 0.5))
    assert still.law == UNDECIDED and still.reason.startswith("the gap does not fall over")


def test_a_gap_that_opens_again_follows_no_law_of_closing():
    path = TRUTHS["power"] + np.where(STEPS > 500, 0.1 * np.log(np.maximum(STEPS, 500) / 500), 0)
    verdict = judge(STEPS, noisy(path, 0.01, 0))
    assert verdict.law == UNDECIDED and "opens again" in verdict.reason and verdict.fits


def test_a_barely_bent_decay_is_not_called_exponential():
    early = STEPS < 600
    verdict = judge(STEPS[early], noisy(TRUTHS["exponential"], 0.005, 1)[early])
    assert verdict.law == UNDECIDED


def test_growth_before_the_peak_is_left_out():
    rise = np.where(STEPS < 40, STEPS / 40, 1.0)
    verdict = judge(STEPS, noisy(rise * TRUTHS["log2"], 0.01, 0))
    assert 20 < verdict.start < 60 and verdict.law == "log2"


def test_bins_average_and_are_even_in_log_t():
    t, gap = log_bins(STEPS, np.full_like(STEPS, 0.25))
    assert np.allclose(gap, 0.25) and (np.diff(t) > 0).all()
    assert len(t) <= 16 * math.log10(STEPS[-1]) + 1
    # A straight line in log t stays on itself, because t is averaged in log as well.
    t, gap = log_bins(STEPS, np.log(STEPS))
    np.testing.assert_allclose(gap, np.log(t), rtol=1e-12)


def test_paths_of_unequal_lengths_are_refused():
    with pytest.raises(UserError, match="as many"):
        judge([1.0, 2.0], [0.5])
