"""The first steps: exact intervals, growth from random inits, dependence on mismatched pairs, centred starts."""

import numpy as np
import pytest
from scipy.stats import binom

from gaprun.errors import UserError
from gaprun.theory.features import centre
from gaprun.theory.start import StartSetting, by_mismatch, clopper_pearson, draw, first_steps, shuffle_pairs

SMALL = {"pairs": 64, "dimension": 16}


def test_clopper_pearson_is_exact():
    assert clopper_pearson(0, 10) == (0.0, pytest.approx(1 - 0.025 ** (1 / 10)))
    assert clopper_pearson(100, 100) == (pytest.approx(0.025 ** (1 / 100)), 1.0)
    low, high = clopper_pearson(53, 100)
    assert binom.sf(52, 100, low) == pytest.approx(0.025) and binom.cdf(53, 100, high) == pytest.approx(0.025)


@pytest.mark.parametrize("kind", ["parallel", "free"])
def test_the_gap_grows_from_random_inits(kind):
    outcome = first_steps(StartSetting(kind, **SMALL), inits=100)
    assert outcome.increases >= 95
    assert outcome.interval == clopper_pearson(outcome.increases, 100)
    row = outcome.row()
    assert row["share"] == outcome.increases / 100 and len(row["changes"]) == 100
    assert row["mean_after"] - row["mean_before"] == pytest.approx(row["mean_change"])


def test_growth_depends_on_the_share_of_mismatched_pairs():
    outcomes = by_mismatch(StartSetting("parallel", **SMALL), [0.0, 0.5, 1.0], inits=20)
    assert [outcomes[share].share for share in (0.0, 1.0)] == [0.0, 1.0]
    means = [outcome.changes.mean() for outcome in outcomes.values()]
    assert means[0] < 0 < means[1] < means[2]


@pytest.mark.parametrize("kind", ["free", "linear", "two-layer", "parallel"])
def test_a_centred_start_has_no_gap_and_training_opens_one(kind):
    outcome = first_steps(StartSetting(kind, centred=True, **SMALL), inits=10, steps=10)
    assert outcome.before.max() < (1e-10 if kind != "parallel" else 2.1e-3)
    assert outcome.share == 1.0


def test_the_same_seed_gives_the_same_changes():
    first, again, other = (first_steps(StartSetting(**SMALL), inits=3, seed=seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.changes, again.changes)
    assert not np.array_equal(first.changes, other.changes)


def test_shuffled_pairs_are_exactly_the_share():
    rows = np.arange(20.0)[:, None]
    for share, moved in ((0.0, 0), (0.05, 0), (0.25, 5), (1.0, 20)):
        shuffled = shuffle_pairs(rows, share, np.random.default_rng(0))
        assert (shuffled != rows).sum() == moved
        assert sorted(shuffled[:, 0]) == sorted(rows[:, 0])


def test_centre_brings_the_mean_of_the_unit_rows_to_zero():
    rows = np.random.default_rng(0).standard_normal((50, 8)) + 1.5
    moved = rows - centre(rows)
    unit = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    assert np.linalg.norm(unit.mean(0)) < 1e-10


def test_every_kind_starts_from_the_offset_it_was_given():
    system, state = draw(StartSetting("free", gamma=0.4, pairs=4000), np.random.default_rng(0))
    x, y, _ = system.features.features(state.parameters)
    assert np.linalg.norm(x.mean(0) - y.mean(0)) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    "settings", [{"kind": "cubic"}, {"mismatched": 1.5}, {"pairs": 1}, {"temperature": 0.0}, {"gamma": 1.0}]
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(UserError):
        StartSetting(**settings)
    with pytest.raises(UserError):
        first_steps(StartSetting(**SMALL), inits=0)
