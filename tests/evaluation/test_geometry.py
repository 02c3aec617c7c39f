"""Gap geometry: every measure against a slow float64 reference, closed forms, invariances, degenerate
clouds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_reference import KINDS, clouds, geometry, unit

from gaprun.errors import UserError
from gaprun.evaluation.catalogue import families
from gaprun.evaluation.geometry import measure_geometry
from gaprun.evaluation.moments import Moments, pair_moments
from gaprun.evaluation.pairwise import pairwise_measures

RANGES = {
    "gap": (0, 2),
    "rmg": (0, 1),
    "alignment": (0, 4),
    "distribution_gap": (0, 4),
    "matched_cosine": (-1, 1),
    "mismatched_cosine": (-1, 1),
    "uniformity_image": (-8, 0),
    "uniformity_text": (-8, 0),
    "uniformity_joint": (-8, 0),
    "uniformity_w2_image": (-math.sqrt(2), 0),
    "uniformity_w2_text": (-math.sqrt(2), 0),
    "uniformity_w2_joint": (-math.sqrt(2), 0),
    "separability": (0, 1),
    "separability_auc": (0, 1),
    "cka": (0, 1),
    "frechet": (0, 8),
    "mismatched_share": (0, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_against_float64_reference(kind):
    x, y = clouds(kind)
    measured = measure_geometry(x, y, separable=False, chunk=7)
    expected = geometry(x, y)
    assert set(measured) == set(expected)
    for name, value in expected.items():
        # Square roots of a singular covariance's rounding cost the reference half its digits.
        tolerance = 2e-6 if name == "frechet" or name.startswith("uniformity") else 1e-9
        assert measured[name] == pytest.approx(value, abs=tolerance), name


@pytest.mark.parametrize("kind", KINDS)
def test_alignment_splits_into_gap_and_distribution_gap(kind):
    m = measure_geometry(*clouds(kind, n=200, d=32), separable=False)
    assert m["alignment"] == pytest.approx(m["gap"] ** 2 + m["distribution_gap"], abs=1e-6)
    assert m["alignment"] == pytest.approx(2 * (1 - m["matched_cosine"]), abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_ranges_and_names(kind):
    x, y = clouds(kind, n=50)
    measured = measure_geometry(x, y)
    assert set(measured) == {metric.name for metric in families()["geometry"]}
    for name, (low, high) in RANGES.items():
        assert low - 1e-6 <= measured[name] <= high + 1e-6, name
    assert all(math.isfinite(value) for value in measured.values())
    assert 0 <= measured["effective_rank_image"] <= x.shape[1] + 1e-9


def test_known_answers_of_the_gap():
    x, y = clouds("identical")
    assert measure_geometry(x, y)["gap"] == 0
    x, y = clouds("antipodal points")
    assert measure_geometry(x, y)["gap"] == pytest.approx(2, abs=1e-12)
    # Matched cloud and its mirror: the gap is twice the centroid's length.
    x, _ = clouds("gapped")
    assert measure_geometry(x, -x)["gap"] == pytest.approx(
        2 * np.linalg.norm(unit(x).astype(np.float64).mean(0)), abs=1e-6
    )


def test_known_answers_of_rmg():
    """Schrodi 2025: 1 for opposite collapsed clouds, 0.5 for independent uniform ones, 0 for a perfect
    match."""
    assert measure_geometry(*clouds("antipodal points"))["rmg"] == pytest.approx(1)
    assert measure_geometry(*clouds("identical", n=500))["rmg"] == pytest.approx(0, abs=1e-9)
    independent = measure_geometry(*clouds("random", n=2000, d=64), separable=False)
    assert independent["rmg"] == pytest.approx(0.5, abs=0.005)
    same_point = np.repeat(unit(np.eye(4)[:1]), 9, 0)
    assert measure_geometry(same_point, same_point)["rmg"] == 0


def test_known_answers_of_spread():
    d = 16
    basis = unit(np.concatenate([np.eye(d), -np.eye(d)]))
    even = measure_geometry(basis, basis, separable=False)
    assert even["effective_rank_image"] == pytest.approx(d)
    assert even["uniformity_w2_image"] == pytest.approx(0, abs=1e-6)
    assert even["cka"] == pytest.approx(1)
    assert even["frechet"] == pytest.approx(0, abs=1e-9)
    one_line = unit(np.outer([1, -1, 1, -1], np.eye(d)[3]))
    assert measure_geometry(one_line, one_line)["effective_rank_image"] == pytest.approx(1)
    collapsed = measure_geometry(*clouds("collapsed"))
    assert collapsed["uniformity_w2_image"] == pytest.approx(-math.sqrt(2))
    assert collapsed["effective_rank_image"] == collapsed["cka"] == 0
    assert collapsed["uniformity_text"] == pytest.approx(0, abs=1e-6)
    assert collapsed["mismatched_share"] == 1


def test_mismatched_share_counts_negative_margins():
    x = unit(np.eye(4))
    y = x[[1, 0, 2, 3]]
    assert measure_geometry(x, y)["mismatched_share"] == 0.5


def test_separability_is_exactly_even_for_identical_clouds_and_one_across_a_gap():
    same = measure_geometry(*clouds("identical", n=100))
    assert same["separability"] == same["separability_auc"] == 0.5
    x, y = clouds("gapped", n=100)
    apart = measure_geometry(unit(x + np.eye(12)[0]), unit(y - np.eye(12)[0]))
    assert apart["separability"] == apart["separability_auc"] == 1
    mixed = measure_geometry(*clouds("random", n=2000, d=8))
    assert mixed["separability"] == pytest.approx(0.5, abs=0.06)


def test_one_pair_leaves_out_what_needs_two():
    x, y = clouds("one pair")
    measured = measure_geometry(x, y)
    between_pairs = ("rmg", "mismatched_cosine", "uniformity_image", "uniformity_text", "mismatched_share")
    for name in (*between_pairs, "separability"):
        assert name not in measured
    assert measured["gap"] ** 2 == pytest.approx(measured["alignment"])
    assert measured["uniformity_joint"] == pytest.approx(-2 * measured["alignment"], abs=1e-5)


@pytest.mark.parametrize("fill, words", [(0.0, "zero"), (np.nan, "finite"), (np.inf, "finite")])
def test_broken_rows_are_named(fill, words):
    x, y = clouds("random")
    y = y.copy()
    y[41] = fill
    with pytest.raises(UserError, match=f"text embedding 41 .*{words}"):
        measure_geometry(x, y, chunk=16)


def test_no_pairs_and_unequal_shapes():
    x, y = clouds("random")
    with pytest.raises(UserError, match="no pairs"):
        measure_geometry(x[:0], y[:0])
    with pytest.raises(UserError, match="equal shapes"):
        measure_geometry(x, y[:5])


def test_past_the_limit_pairwise_measures_use_a_seeded_subsample():
    x, y = clouds("gapped", n=300)
    full = measure_geometry(x, y, separable=False)
    part = measure_geometry(x, y, pairwise_limit=100, seed=3, separable=False)
    assert part == measure_geometry(x, y, pairwise_limit=100, seed=3, separable=False)
    chosen = np.sort(np.random.default_rng(3).choice(300, 100, replace=False))
    expected = geometry(x[chosen], y[chosen])["uniformity_image"]
    assert part["uniformity_image"] == pytest.approx(expected, abs=1e-6)
    assert part["uniformity_image"] != full["uniformity_image"]
    assert part["gap"] == full["gap"]


def test_blocks_do_not_change_pairwise_measures():
    x, y = clouds("duplicates", n=150)
    whole, tiled = pairwise_measures(x, y), pairwise_measures(x, y, block=32)
    assert whole["mismatched_share"] == tiled["mismatched_share"]
    for name, value in whole.items():
        assert tiled[name] == pytest.approx(value, abs=1e-9)


def test_moments_of_shards_merge_to_those_of_the_whole(tmp_path):
    x, y = clouds("gapped", n=500, d=20)
    whole, joined = pair_moments(x, y), Moments(20)
    for part in (slice(0, 3), slice(3, 3), slice(3, 400), slice(400, 500)):
        piece = Moments(20)
        if part.stop > part.start:
            piece.add(x[part], y[part])
        joined.merge(piece)
    assert joined.count == 500
    for name in ("mean_x", "mean_y", "cov_x", "cov_y", "cov_xy", "matched"):
        np.testing.assert_allclose(getattr(joined, name), getattr(whole, name), atol=1e-13)
    np.save(tmp_path / "x.npy", x)
    mapped = pair_moments(np.load(tmp_path / "x.npy", mmap_mode="r"), y, chunk=64)
    np.testing.assert_allclose(mapped.cov_xy, np.cov(x.T, y.T, bias=True)[:20, 20:], atol=1e-7)


def test_moments_stay_accurate_when_the_spread_is_tiny():
    """Sums of squares would lose every digit of a variance of 1e-10 around a unit mean."""
    rng = np.random.default_rng(0)
    x = np.eye(6)[0] + 1e-5 * rng.standard_normal((4000, 6))
    m = pair_moments(x, x, chunk=100)
    wide = x / np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(np.trace(m.cov_x), np.trace(np.cov(wide.T, bias=True)), rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(6, 40), st.integers(2, 10))
def test_rotation_and_permutation_do_not_change_any_measure(seed, n, d):
    x, y = clouds("gapped", n=n, d=d, seed=seed)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    order = rng.permutation(n)
    plain = measure_geometry(x, y, separable=False)
    turned = measure_geometry(x @ turn, y @ turn, separable=False)
    permuted = measure_geometry(x[order], y[order], separable=False)
    for name, value in plain.items():
        if name != "mismatched_share":  # a margin of rounding size may fall on either side of 0
            assert turned[name] == pytest.approx(value, abs=1e-5), name
        assert permuted[name] == pytest.approx(value, abs=1e-5), name


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 8))
def test_swapping_the_clouds_swaps_the_one_sided_measures(seed, n, d):
    x, y = clouds("random", n=n, d=d, seed=seed)
    one, other = measure_geometry(x, y, separable=False), measure_geometry(y, x, separable=False)
    symmetric = ("gap", "rmg", "alignment", "cka", "frechet", "uniformity_joint", "mismatched_cosine")
    for name in symmetric:
        assert one[name] == pytest.approx(other[name], abs=1e-6)
    assert one["uniformity_w2_image"] == pytest.approx(other["uniformity_w2_text"], abs=1e-9)
    assert one["effective_rank_text"] == pytest.approx(other["effective_rank_image"], abs=1e-9)


def test_the_auc_of_separability_is_scikit_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.metrics import roc_auc_score

    from gaprun.evaluation import probe, separability

    fitted = {}

    def kept(rows, sides, penalty):
        fitted["model"] = fit_logistic(rows, sides, penalty)
        return fitted["model"]

    fit_logistic = probe.fit_logistic
    monkeypatch.setattr(probe, "fit_logistic", kept)
    x, y = clouds("random", n=200, d=16)
    found = separability.separability(x, y, seed=3)["separability_auc"]
    order = np.random.default_rng(3).permutation(200)[:40]
    rows = np.concatenate([x[order], y[order]]) * 4  # sqrt of 16
    score = rows @ (fitted["model"].weight[:, 1] - fitted["model"].weight[:, 0])
    assert found == pytest.approx(roc_auc_score(np.repeat([0, 1], 40), score), abs=1e-12)
