"""Each transform has a known answer, is fitted on training pairs only, and keeps unit rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.linalg import orthogonal_procrustes

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Embeddings
from gaprun.evaluation.transforms import AnyTransform, Transform

NAMES = (
    "identity",
    "shift",
    "centre",
    "standardise",
    "realign",
    "procrustes",
    "drop-dimensions",
    "drop-components",
)


def transform(name: str, **options: object) -> Transform:
    return TypeAdapter(AnyTransform).validate_python({"name": name, **options})


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def embeddings(x: np.ndarray, y: np.ndarray) -> Embeddings:
    return Embeddings(unit(x).astype(np.float32), unit(y).astype(np.float32), np.arange(len(x)))


def clouds(n: int = 400, d: int = 16, seed: int = 0) -> Embeddings:
    """Matched clouds with an offset of their own each and unequal spread."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, d)) * np.linspace(1.5, 0.3, d)
    x = z + 0.3 * rng.standard_normal((n, d)) + 2.0 * np.eye(d)[0]
    y = 0.6 * z + 0.2 * rng.standard_normal((n, d)) - 1.5 * np.eye(d)[1]
    return embeddings(x, y)


def gap(e: Embeddings) -> float:
    x, y = (unit(rows.astype(np.float64)) for rows in e.pairs())
    return float(np.linalg.norm(x.mean(0) - y.mean(0)))


def cosine(e: Embeddings) -> float:
    return float((e.images.astype(np.float64) * e.texts).sum(1).mean())


@pytest.mark.parametrize("name", NAMES)
def test_rows_stay_unit_and_owners_and_labels_stay(name: str) -> None:
    train = clouds()
    measured = Embeddings(train.images[:50], train.texts[:50], np.arange(50), labels=np.arange(50) % 3)
    moved = transform(name).fit(train).apply(measured)
    for rows in (moved.images, moved.texts):
        assert rows.dtype == np.float32 and np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    assert (moved.owner == measured.owner).all() and (moved.labels == measured.labels).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_measured_does_not_change_the_map(name: str) -> None:
    fitted = transform(name).fit(clouds())
    few, many = clouds(10, seed=5), clouds(60, seed=5)
    few = Embeddings(many.images[:10], many.texts[:10], np.arange(10))
    assert np.array_equal(fitted.apply(few).texts, fitted.apply(many).texts[:10])


def test_identity_and_no_shift_change_nothing() -> None:
    e = clouds()
    assert np.array_equal(transform("identity").fit(e).apply(e).images, e.images)
    assert np.allclose(transform("shift", fraction=0).fit(e).apply(e).texts, e.texts, atol=1e-7)


def test_centring_takes_each_mean_away() -> None:
    e = clouds()
    fitted = transform("centre").fit(e)
    x = e.images.astype(np.float64) - e.images.astype(np.float64).mean(0)
    assert np.allclose(fitted.images(e.images), unit(x), atol=1e-6)
    # The means are 0 before the rows go back to the sphere; what the sphere adds back is small here.
    assert gap(e) > 0.6 and gap(fitted.apply(e)) < 0.06


def test_a_full_shift_lets_the_centroids_meet_before_the_sphere() -> None:
    e = clouds()
    x, y = (unit(rows.astype(np.float64)) for rows in e.pairs())
    g = x.mean(0) - y.mean(0)
    for fraction in (-0.5, 0.5, 1.0, 2.0):
        moved = transform("shift", fraction=fraction).fit(e).apply(e)
        assert np.allclose(moved.images, unit(x - fraction / 2 * g), atol=1e-6)
        assert np.allclose(moved.texts, unit(y + fraction / 2 * g), atol=1e-6)


def test_standardising_equals_scikit_learn() -> None:
    from sklearn.preprocessing import StandardScaler

    e = clouds()
    fitted = transform("standardise").fit(e)
    for rows, moved in ((e.images, fitted.images(e.images)), (e.texts, fitted.texts(e.texts))):
        wide = unit(rows.astype(np.float64))
        assert np.allclose(moved, unit(StandardScaler().fit_transform(wide)), atol=1e-5)


def test_procrustes_undoes_a_rotation_and_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    x = unit(rng.standard_normal((200, 12)))
    rotation = np.linalg.qr(rng.standard_normal((12, 12)))[0]
    e = embeddings(x, x @ rotation)
    moved = transform("procrustes").fit(e).apply(e)
    assert cosine(e) < 0.5 and cosine(moved) == pytest.approx(1, abs=1e-6)
    e = clouds()
    x, y = (unit(rows.astype(np.float64)) for rows in e.pairs())
    assert np.allclose(
        transform("procrustes").fit(e).texts(e.texts), y @ orthogonal_procrustes(y, x)[0], atol=1e-6
    )


def test_procrustes_about_the_means_undoes_a_rotated_and_shifted_cloud() -> None:
    rng = np.random.default_rng(2)
    base = 0.2 * rng.standard_normal((300, 8))
    rotation = np.linalg.qr(rng.standard_normal((8, 8)))[0]
    x, y = base + np.eye(8)[0], base @ rotation - np.eye(8)[1]
    e = embeddings(x, y)
    moved = transform("procrustes", centre=True).fit(e).apply(e)
    assert gap(e) > 1 and gap(moved) < 0.05 and cosine(moved) > 0.97


def test_realign_matches_centroid_and_spread_and_leaves_the_images() -> None:
    e = clouds()
    moved = transform("realign").fit(e).apply(e)
    assert np.array_equal(moved.images, e.images)
    assert gap(e) > 0.6 and gap(moved) < 0.01
    # Against the published three steps written out.
    x, y = (unit(rows.astype(np.float64)) for rows in e.pairs())
    s = np.sqrt(np.trace(np.cov(x.T)) / np.trace(np.cov(y.T)))
    step = unit(x.mean(0) + s * (y - y.mean(0)))
    assert np.allclose(moved.texts, unit(step - step.mean(0) + x.mean(0)), atol=1e-6)


def test_dropping_the_one_dimension_that_carries_the_gap_closes_it() -> None:
    rng = np.random.default_rng(3)
    z = rng.standard_normal((500, 10))
    x, y = z.copy(), z.copy()
    x[:, 4], y[:, 4] = 3.0, -3.0
    e = embeddings(x, y)
    for name in ("drop-dimensions", "drop-components"):
        moved = transform(name, k=1).fit(e).apply(e)
        assert gap(e) > 1 and gap(moved) < 1e-5, name
        assert np.abs(moved.images[:, 4]).max() < 1e-4, name


@pytest.mark.parametrize("name", ["drop-dimensions", "drop-components"])
def test_not_all_dimensions_can_go(name: str) -> None:
    with pytest.raises(UserError, match="16 dimensions"):
        transform(name, k=16).fit(clouds())


def test_a_row_on_the_origin_is_an_error_and_no_number() -> None:
    e = embeddings(np.ones((5, 3)), np.eye(5, 3) + 1)
    with pytest.raises(UserError, match="moved image"):
        transform("centre").fit(e).apply(e)


def test_fitting_needs_captions() -> None:
    empty = Embeddings(np.eye(3, dtype=np.float32), np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    with pytest.raises(UserError, match="captioned"):
        transform("centre").fit(empty)


def test_real_embeddings_close_on_pairs_that_were_held_out(real_data: Path) -> None:
    found = np.load(real_data / "embeddings" / "clip_vit_coco500.npz")
    whole = embeddings(found["images"], found["texts"])
    train = Embeddings(whole.images[:250], whole.texts[:250], np.arange(250))
    test = Embeddings(whole.images[250:], whole.texts[250:], np.arange(250))
    assert gap(whole) == pytest.approx(0.8514, abs=1e-4)
    # On the rows it is fitted on centring leaves nothing but what going back to the sphere adds.
    for rows in (train.images, train.texts):
        wide = unit(rows.astype(np.float64))
        assert np.abs((wide - wide.mean(0)).mean(0)).max() < 1e-15
    assert gap(transform("centre").fit(train).apply(train)) == pytest.approx(0.027, abs=1e-3)
    # On other rows each map leaves what two halves differ by from sampling: sqrt(2 tr Cov(x' - y') / 250), once for the
    # rows that are measured and once for those that the map was fitted on. 0.05 would take about 1,100 pairs in each.
    left = {}
    for name in ("centre", "realign", "shift"):
        moved = transform(name).fit(train).apply(test)
        spread = np.trace(np.cov((moved.images.astype(np.float64) - moved.texts).T))
        left[name] = (gap(moved), np.sqrt(2 * spread / 250))
        assert gap(moved) == pytest.approx(left[name][1], rel=0.2), left
    assert {name: tuple(np.round(pair, 3)) for name, pair in left.items()} == {
        "centre": (0.123, 0.104),
        "realign": (0.076, 0.071),
        "shift": (0.085, 0.079),
    }
    rng, held_out = np.random.default_rng(0), []
    for _ in range(20):
        order = rng.permutation(500)
        one, other = (
            Embeddings(whole.images[i], whole.texts[i], np.arange(250)) for i in (order[:250], order[250:])
        )
        held_out.append(gap(transform("centre").fit(one).apply(other)))
    assert np.mean(held_out) == pytest.approx(0.108, abs=0.006) and np.std(held_out) < 0.015


def test_dropped_components_are_those_of_a_singular_value_decomposition() -> None:
    """In float64, by numpy alone; also how many coordinates go."""
    e = clouds()
    x, y = (unit(rows.astype(np.float64)) for rows in e.pairs())
    for k in (1, 3):
        _, _, vt = np.linalg.svd(x - y, full_matrices=False)
        kept = np.eye(16) - vt[:k].T @ vt[:k]
        moved = transform("drop-components", k=k).fit(e).apply(e)
        np.testing.assert_allclose(moved.images, unit(x @ kept), atol=1e-6)
        np.testing.assert_allclose(moved.texts, unit(y @ kept), atol=1e-6)
        gone = np.argsort(-np.abs(x.mean(0) - y.mean(0)))[:k]
        x_less, y_less = x.copy(), y.copy()
        x_less[:, gone] = y_less[:, gone] = 0
        moved = transform("drop-dimensions", k=k).fit(e).apply(e)
        np.testing.assert_allclose(moved.images, unit(x_less), atol=1e-6)
        np.testing.assert_allclose(moved.texts, unit(y_less), atol=1e-6)
