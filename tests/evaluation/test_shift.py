"""Liang's shift and centring as transforms: closed forms at fraction 0 and 1, means of other data, collapsed clouds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from measure_reference import clouds

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Embeddings
from gaprun.evaluation.geometry import measure_geometry
from gaprun.evaluation.transforms import Centre, Shift

FRACTIONS = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)


def gapped(seed=0, n=200):
    x, y = clouds("gapped", n=n, seed=seed)
    return Embeddings(x, y, np.arange(n))


def gap_of(embeddings):
    return measure_geometry(*embeddings.pairs(), separable=False)["gap"]


def moved(embeddings, fraction):
    return Shift(fraction=fraction).fit(embeddings).apply(embeddings)


def test_the_step_is_half_the_gap_that_the_gap_metric_measures():
    embeddings = gapped()
    (step,) = Shift().fit(embeddings).text_steps
    assert 2 * np.linalg.norm(step.offset) == pytest.approx(gap_of(embeddings), abs=1e-12)


def test_fraction_zero_changes_nothing_and_one_moves_by_half_the_gap_each():
    embeddings = gapped()
    np.testing.assert_allclose(moved(embeddings, 0.0).images, embeddings.images, atol=1e-7)
    gap = embeddings.images.astype(np.float64).mean(0) - embeddings.texts.astype(np.float64).mean(0)
    by_hand = embeddings.images - gap / 2
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(moved(embeddings, 1.0).images, by_hand, atol=1e-6)
    by_hand = embeddings.texts + gap / 2
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(moved(embeddings, 1.0).texts, by_hand, atol=1e-6)
    assert moved(embeddings, 1.0).owner is embeddings.owner


def test_the_gap_falls_towards_one_and_returns_beyond():
    embeddings = gapped()
    gaps = [gap_of(moved(embeddings, fraction)) for fraction in FRACTIONS]
    assert int(np.argmin(gaps)) == FRACTIONS.index(1.0)
    assert gaps[0] > gap_of(embeddings) > gaps[FRACTIONS.index(1.0)]
    assert gaps[FRACTIONS.index(1.0)] < 0.2 * gap_of(embeddings)


def test_centring_with_the_means_of_other_data():
    train, test = gapped(seed=1), gapped(seed=2)
    centred = Centre().fit(train).apply(test)
    by_hand = test.texts - train.texts.astype(np.float64).mean(0)
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    np.testing.assert_allclose(centred.texts, by_hand, atol=1e-6)
    assert gap_of(centred) < 0.2 * gap_of(test)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(-2, 3))
def test_rows_stay_unit_float32(seed, fraction):
    found = moved(gapped(seed, n=30), fraction)
    assert found.images.dtype == found.texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.images, axis=1), 1, atol=1e-6)


def test_a_collapsed_cloud_cannot_be_centred():
    x, y = clouds("collapsed")
    embeddings = Embeddings(x, y, np.arange(len(x)))
    with pytest.raises(UserError, match="moved image embedding 0 has no direction"):
        Centre().fit(embeddings).apply(embeddings)
    with pytest.raises(UserError, match="no captioned images"):
        Centre().fit(Embeddings(x, y[:0], np.arange(0)))
