"""Shift and centring: closed forms at fraction 0 and 1, leakage-free means, collapsed clouds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_reference import clouds

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Embeddings
from gaprun.evaluation.geometry import measure_geometry
from gaprun.evaluation.shift import FRACTIONS, Centre, Means, Shift, fit_means, move


def gapped(seed=0, n=200):
    x, y = clouds("gapped", n=n, seed=seed)
    return Embeddings(x, y, np.arange(n))


def gap_of(embeddings):
    return measure_geometry(*embeddings.pairs(), separable=False)["gap"]


def test_means_are_those_of_the_gap_metric():
    embeddings = gapped()
    means = fit_means(embeddings, chunk=33)
    assert np.linalg.norm(means.gap) == pytest.approx(gap_of(embeddings), abs=1e-12)
    np.testing.assert_allclose(means.image, embeddings.images.mean(0), atol=1e-6)


def test_fraction_zero_changes_nothing_and_one_moves_by_half_the_gap_each():
    embeddings = gapped()
    means = fit_means(embeddings)
    np.testing.assert_allclose(move(embeddings, Shift(means, 0.0)).images, embeddings.images, atol=1e-7)
    moved = move(embeddings, Shift(means, 1.0))
    by_hand = embeddings.images - means.gap / 2
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(moved.images, by_hand, atol=1e-6)
    by_hand = embeddings.texts + means.gap / 2
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(moved.texts, by_hand, atol=1e-6)
    assert moved.owner is embeddings.owner


def test_the_gap_falls_towards_one_and_returns_beyond():
    embeddings = gapped()
    means = fit_means(embeddings)
    gaps = [gap_of(move(embeddings, Shift(means, fraction))) for fraction in FRACTIONS]
    assert int(np.argmin(gaps)) == FRACTIONS.index(1.0)
    assert gaps[0] > gap_of(embeddings) > gaps[FRACTIONS.index(1.0)]
    assert gaps[FRACTIONS.index(1.0)] < 0.2 * gap_of(embeddings)


def test_centring_with_the_means_of_other_data():
    train, test = gapped(seed=1), gapped(seed=2)
    centred = move(test, Centre(fit_means(train)))
    by_hand = test.texts - train.texts.astype(np.float64).mean(0)
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(centred.texts, by_hand, atol=1e-6)
    assert gap_of(centred) < 0.2 * gap_of(test)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(-2, 3))
def test_rows_stay_unit_float32(seed, fraction):
    embeddings = gapped(seed, n=30)
    moved = move(embeddings, Shift(fit_means(embeddings), fraction))
    assert moved.images.dtype == moved.texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(moved.images, axis=1), 1, atol=1e-6)


def test_a_collapsed_cloud_cannot_be_centred():
    x, y = clouds("collapsed")
    embeddings = Embeddings(x, y, np.arange(len(x)))
    with pytest.raises(UserError, match="moved image embedding 0 has no direction"):
        move(embeddings, Centre(fit_means(embeddings)))
    with pytest.raises(UserError, match="no captioned images"):
        fit_means(Embeddings(x, y[:0], np.arange(0)))


def test_prompt_rows_move_like_captions():
    means = Means(np.array([0.5, 0.0]), np.array([-0.5, 0.0]))
    np.testing.assert_allclose(Shift(means, 1.0).texts(np.array([[-0.5, 1.0]])), [[0.0, 1.0]], atol=1e-7)
    np.testing.assert_allclose(Centre(means).texts(np.array([[-0.5, 1.0]])), [[0.0, 1.0]], atol=1e-7)
