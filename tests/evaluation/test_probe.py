"""Linear probe: scikit-learn's own optimum and accuracy, the choice of penalty, few-shot, bad requests."""

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from measure_reference import unit
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from gaprun.errors import UserError
from gaprun.evaluation.probe import few_shot, fit_logistic, fit_path, linear_probe, validation_split


def blobs(n, classes=4, d=10, seed=0, noise=0.6):
    """Unit rows around class centres, off the origin and stretched, as embeddings are."""
    centres = np.random.default_rng(7).standard_normal((classes, d))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    stretch = np.arange(1, d + 1) ** -0.5
    return unit((centres[labels] + noise * rng.standard_normal((n, d))) * stretch + 0.7), labels


def objective(weight, bias, rows, labels, penalty):
    scores = rows.astype(np.float64) @ weight + bias
    top = scores.max(1)
    losses = np.log(np.exp(scores - top[:, None]).sum(1)) + top - scores[np.arange(len(labels)), labels]
    return losses.mean() + 0.5 / (penalty * len(labels)) * (weight**2).sum()


def sklearn_fit(rows, labels, penalty):
    model = LogisticRegression(C=penalty, max_iter=20_000, tol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(rows.astype(np.float64), labels)


@pytest.mark.parametrize("penalty", [0.1, 10.0, 1000.0])
def test_reaches_scikit_learns_optimum(penalty):
    rows, labels = blobs(800)
    ours, theirs = fit_logistic(rows, labels, penalty), sklearn_fit(rows, labels, penalty)
    best = objective(theirs.coef_.T, theirs.intercept_, rows, labels, penalty)
    assert objective(ours.weight, ours.bias, rows, labels, penalty) == pytest.approx(best, rel=1e-5, abs=1e-6)
    test_rows, test_labels = blobs(2000, seed=1)
    hits = ours.correct(test_rows, test_labels).mean()
    assert hits == pytest.approx(theirs.score(test_rows, test_labels), abs=0.002)


def test_two_classes_agree_with_scikit_learns_binary_model_at_the_same_penalty():
    rows, labels = blobs(500, classes=2, noise=1.5)
    ours, theirs = fit_logistic(rows, labels, 5.0), sklearn_fit(rows, labels, 5.0)
    np.testing.assert_allclose(ours.weight[:, 1] - ours.weight[:, 0], theirs.coef_[0], rtol=2e-2, atol=2e-2)


def test_warm_starts_reach_the_cold_optimum():
    rows, labels = blobs(600)
    penalties = (0.1, 1.0, 10.0, 100.0)
    for penalty, model in zip(penalties, fit_path(rows, labels, penalties), strict=True):
        cold = fit_logistic(rows, labels, penalty)
        warm_value = objective(model.weight, model.bias, rows, labels, penalty)
        assert warm_value == pytest.approx(objective(cold.weight, cold.bias, rows, labels, penalty), rel=1e-5)


def digits():
    rows, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(rows))
    rows, labels = unit(rows + 1e-3)[order], labels[order]
    return rows[:1200], labels[:1200], rows[1200:], labels[1200:]


def test_digits_within_half_a_point_of_scikit_learn():
    train_rows, train_labels, test_rows, test_labels = digits()
    found = linear_probe(train_rows, train_labels, test_rows, test_labels)
    theirs = sklearn_fit(train_rows, train_labels, found.penalty).score(test_rows, test_labels)
    assert found.top1 == pytest.approx(100 * theirs, abs=0.5)
    assert found.top1 > 93
    assert found.top1 == 100 * found.correct.mean()
    guess = 100 * np.bincount(test_labels).max() / len(test_labels)
    assert found.metrics == {"probe_top1": found.top1, "probe_chance": guess, "probe_penalty": found.penalty}


def test_cifar10_pixels_within_half_a_point_of_scikit_learn():
    folder = os.environ.get("GAPRUN_TEST_DATA")
    if not folder:
        pytest.skip("GAPRUN_TEST_DATA is not set: no CIFAR-10 sample to measure")
    data = np.load(Path(folder) / "cifar10_sample" / "cifar10_subset.npz")
    # 8 x 8 means keep the fit short; what is compared is the classifier, not the features.
    pixels = data["images"].reshape(-1, 8, 4, 8, 4, 3).mean((2, 4)).reshape(len(data["images"]), -1) / 255
    train = data["split"] == "train"
    rows, labels = (pixels - pixels[train].mean(0)).astype(np.float32), data["labels"]
    found = linear_probe(rows[train], labels[train], rows[~train], labels[~train], penalties=(0.01, 0.1))
    theirs = sklearn_fit(rows[train], labels[train], found.penalty).score(rows[~train], labels[~train])
    assert found.top1 == pytest.approx(100 * theirs, abs=0.5)
    assert found.top1 > 30


def test_penalty_is_the_best_on_validation_and_refitted_on_everything():
    rows, labels = blobs(400, noise=2.0)
    found = linear_probe(rows, labels, *blobs(300, seed=1, noise=2.0), penalties=(1e-4, 1.0, 1e6))
    best = max(value for _, value in found.path)
    assert found.penalty == next(penalty for penalty, value in found.path if value == best)
    refitted = fit_logistic(rows, labels, found.penalty)
    np.testing.assert_allclose(found.model.weight, refitted.weight, rtol=0.05, atol=0.05)
    again = linear_probe(rows, labels, *blobs(300, seed=1, noise=2.0), penalties=(1e-4, 1.0, 1e6))
    assert again.top1 == found.top1 and again.path == found.path


def test_labels_need_not_be_contiguous_and_unknown_ones_are_misses():
    rows, labels = blobs(300, noise=0.1)
    names = np.array([3, 17, 40, 99])
    found = linear_probe(rows, names[labels], rows[:4], np.array([*names[labels[:3]], 55]))
    np.testing.assert_array_equal(found.correct, [True, True, True, False])


def test_unlabelled_rows_are_left_out():
    rows, labels = blobs(300, noise=0.1)
    some = np.where(np.arange(300) % 3 == 0, -1, labels)
    found = linear_probe(rows, some, rows, some)
    assert len(found.correct) == 200 and found.top1 > 99


def test_few_shot_takes_k_a_class_seeded():
    _, labels = blobs(300)
    index = few_shot(labels, 5, seed=1)
    assert (np.bincount(labels[index]) == 5).all()
    np.testing.assert_array_equal(index, few_shot(labels, 5, seed=1))
    assert not np.array_equal(index, few_shot(labels, 5, seed=2))
    rows, labels = blobs(300, noise=0.2)
    one = linear_probe(rows, labels, *blobs(200, seed=1, noise=0.2), shots=1, penalties=(1.0, 10.0, 100.0))
    assert one.path == [] and one.penalty == 10.0 and one.top1 > 60


def test_validation_split_is_stratified_and_leaves_single_rows_in_training():
    labels = np.array([0] * 10 + [1] * 5 + [2])
    train, valid = validation_split(labels, 0.2, seed=0)
    assert sorted([*train, *valid]) == list(range(16))
    np.testing.assert_array_equal(np.bincount(labels[valid], minlength=3), [2, 1, 0])


def test_a_model_that_sees_no_difference_scores_nothing():
    rows = np.ones((40, 6), dtype=np.float32) / np.sqrt(6).astype(np.float32)
    labels = np.arange(40) % 4
    assert linear_probe(rows, labels, rows, labels).top1 <= 25


def test_bad_requests():
    rows, labels = blobs(60)
    for arguments, options, words in [
        ((rows, labels * 0, rows, labels), {}, "at least two classes"),
        ((rows, labels, rows, labels), {"shots": 50}, "has .* images, 50 were asked for"),
        ((rows, labels, rows, labels * 0 - 1), {}, "test split has no class labels"),
        ((rows[:5], labels, rows, labels), {}, "5 feature rows but 60 labels"),
        ((rows * np.nan, labels, rows, labels), {}, "not finite"),
    ]:
        with pytest.raises(UserError, match=words):
            linear_probe(*arguments, **options)
