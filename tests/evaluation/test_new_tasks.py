"""Clustering, mixed retrieval, interchange of modalities and image-to-image retrieval: known answers and references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from gaprun.errors import UserError
from gaprun.evaluation.clustering import cluster_measures
from gaprun.evaluation.embeddings import Embeddings
from gaprun.evaluation.interchange import Side, transfer_measures
from gaprun.evaluation.intra import intra_retrieval
from gaprun.evaluation.mixed import FORMS, build_gallery, mixed_retrieval


def unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def classes_in_space(offset: float, n: int = 60, k: int = 4, d: int = 12, seed: int = 0, noise: float = 0.05):
    """Images and texts of k tight classes; the modalities `offset` apart along an axis of its own."""
    rng = np.random.default_rng(seed)
    centres = np.eye(d)[:k]
    labels = np.arange(n) % k
    side = np.eye(d)[d - 1] * offset
    x = centres[labels] + noise * rng.standard_normal((n, d)) + side
    y = centres[labels] + noise * rng.standard_normal((n, d)) - side
    return unit(x), unit(y), labels


def test_without_a_gap_clusters_are_classes() -> None:
    x, y, labels = classes_in_space(0.0)
    found = cluster_measures(x, y, labels, labels)
    assert found["cluster_v_measure"] == pytest.approx(1) and found["cluster_ari"] == pytest.approx(1)
    assert found["cluster_nmi"] == pytest.approx(found["cluster_v_measure"])
    assert found["cluster_modality"] == pytest.approx(0, abs=1e-9)
    assert found["cluster_purity_modality"] == pytest.approx(0.5)


def test_with_a_wide_gap_clusters_are_modalities() -> None:
    x, y, labels = classes_in_space(3.0, k=2)
    found = cluster_measures(x, y, labels, labels)
    assert found["cluster_purity_modality"] == 1 and found["cluster_modality"] == pytest.approx(1)
    assert found["cluster_v_measure"] == pytest.approx(0, abs=0.05)


def test_clustering_leaves_unlabelled_rows_out_and_needs_classes() -> None:
    x, y, labels = classes_in_space(0.0)
    more = np.concatenate([x, unit(np.ones((7, 12)))])
    assert cluster_measures(more, y, np.concatenate([labels, np.full(7, -1)]), labels) == cluster_measures(
        x, y, labels, labels
    )
    with pytest.raises(UserError, match="two classes"):
        cluster_measures(x, y, labels * 0, labels * 0)
    with pytest.raises(UserError, match="labelled"):
        cluster_measures(x, y, labels * 0 - 1, labels)


def test_clustering_equals_its_formulas_in_float64() -> None:
    """scikit-learn's k-means gives the clusters; every measure is written out from counts."""
    from scipy.special import comb
    from sklearn.cluster import KMeans

    x, y, labels = classes_in_space(0.6, k=5, noise=0.5)
    found = cluster_measures(x, y, labels, labels, seed=3)
    rows = np.concatenate([unit(x), unit(y)]).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    clusters = KMeans(5, n_init=10, random_state=3).fit_predict(rows)

    def counts(truth: np.ndarray) -> np.ndarray:
        return np.array([[(clusters[truth == t] == c).sum() for c in range(5)] for t in np.unique(truth)])

    def shared(table: np.ndarray) -> float:
        """2 I(T; C) / (H(T) + H(C)) of the joint shares."""
        p = table / table.sum()
        inner = p * np.log(np.where(p > 0, p / (p.sum(1, keepdims=True) * p.sum(0)), 1))
        return float(2 * inner.sum() / sum(-(q * np.log(q)).sum() for q in (p.sum(0), p.sum(1))))

    by_class, by_modality = counts(np.tile(labels, 2)), counts(np.repeat([0, 1], 60))
    pairs, of_classes, of_clusters = (comb(n, 2).sum() for n in (by_class, by_class.sum(1), by_class.sum(0)))
    expected = of_classes * of_clusters / comb(120, 2)
    assert found == pytest.approx(
        {
            "cluster_v_measure": shared(by_class),
            "cluster_nmi": shared(by_class),
            "cluster_ari": (pairs - expected) / ((of_classes + of_clusters) / 2 - expected),
            "cluster_modality": shared(by_modality),
            "cluster_purity_modality": by_modality.max(0).sum() / 120,
        }
    )
    assert 0.05 < found["cluster_v_measure"] < 0.9  # neither end, so that the formulas are told apart


def captioned(x: np.ndarray, *texts: np.ndarray) -> Embeddings:
    order = np.argsort(np.concatenate([np.arange(len(t)) for t in texts]), kind="stable")
    return Embeddings(
        x, np.concatenate(texts)[order], np.concatenate([np.arange(len(t)) for t in texts])[order]
    )


def test_a_query_is_never_in_its_own_gallery() -> None:
    rng = np.random.default_rng(0)
    x, a, b = (unit(rng.standard_normal((31, 8))) for _ in range(3))
    gallery = build_gallery(captioned(x, a, b), seed=3)
    assert sorted(np.bincount(gallery.form)) == [10, 10, 11]
    assert np.allclose(gallery.queries, b) and (gallery.target == np.arange(31)).all()
    single = build_gallery(captioned(x, a), seed=3)
    assert set(single.form) == {0, 1} and (single.form[single.target] == 0).all()
    assert np.allclose(single.documents[single.target], x[single.target])


def reference_mixed(e: Embeddings, seed: int) -> dict[str, float]:
    """One query at a time, from the definitions."""
    g = build_gallery(e, seed)
    ranks, gains, top = [], [], []
    for query, target in zip(g.queries, g.target, strict=True):
        scores = [math.fsum(query * document) for document in g.documents]
        ranks.append(1 + sum(s > scores[target] for i, s in enumerate(scores) if i != target))
        gains.append(1 / math.log2(1 + ranks[-1]) if ranks[-1] <= 10 else 0.0)
        top += [FORMS[g.form[i]] for i in sorted(range(len(scores)), key=lambda i: -scores[i])[:10]]
    found = {f"mixed_recall@{k}": 100 * np.mean([r <= k for r in ranks]) for k in (1, 5, 10)}
    found["mixed_ndcg@10"] = 100 * np.mean(gains)
    for name in FORMS:
        share = np.mean(g.form == FORMS.index(name))
        if share:
            found[f"mixed_top10_{name}"] = top.count(name) / len(top) / share
            asked = [r <= 10 for r, t in zip(ranks, g.target, strict=True) if FORMS[g.form[t]] == name]
            if asked:
                found[f"mixed_recall@10_{name}"] = 100 * np.mean(asked)
    return found


@pytest.mark.parametrize("captions", [1, 2])
def test_mixed_retrieval_against_a_loop(captions: int) -> None:
    rng = np.random.default_rng(captions)
    z = rng.standard_normal((50, 10))
    x, *texts = (unit(z + 0.8 * rng.standard_normal((50, 10))) for _ in range(captions + 1))
    found, expected = mixed_retrieval(captioned(x, *texts), seed=5), reference_mixed(captioned(x, *texts), 5)
    assert found.keys() == expected.keys()
    assert found == pytest.approx(expected)


def test_a_wide_gap_fills_the_first_places_with_texts() -> None:
    rng = np.random.default_rng(0)
    z, side = rng.standard_normal((90, 10)), 8 * np.eye(10)[0]
    x, a, b = (unit(z + s + 0.1 * rng.standard_normal((90, 10))) for s in (side, -side, -side))
    found = mixed_retrieval(captioned(x, a, b))
    assert found["mixed_top10_text"] == pytest.approx(3) and found["mixed_top10_image"] == 0
    assert found["mixed_recall@10_text"] == 100 > found["mixed_recall@10_image"] == 0


def test_equal_documents_give_a_collapsed_model_no_credit() -> None:
    same = unit(np.ones((40, 5)))
    found = mixed_retrieval(captioned(same, same, same))
    assert found["mixed_recall@10"] == 0 and found["mixed_ndcg@10"] == 0


def side(rows: np.ndarray, labels: np.ndarray) -> Side:
    return Side(rows[::2], labels[::2], rows[1::2], labels[1::2])


def test_transfer_equals_scikit_learn() -> None:
    x, y, labels = classes_in_space(0.6, n=240, k=3, noise=0.5, seed=4)
    # Every other row of a class order of three still holds all classes on both halves.
    images, texts = side(x, labels), side(y, labels)
    found = transfer_measures(images, texts, penalty=10.0)
    for source, fitted in (("image", images), ("text", texts)):
        model = LogisticRegression(C=10.0, max_iter=10_000, tol=1e-10).fit(fitted.fit_rows, fitted.fit_labels)
        for target, tested in (("image", images), ("text", texts)):
            expected = 100 * model.score(tested.test_rows, tested.test_labels)
            assert found[f"transfer_{source}_to_{target}"] == pytest.approx(expected, abs=1.0)


def test_transfer_is_whole_without_a_gap_and_lost_where_classes_trade_places() -> None:
    x, y, labels = classes_in_space(0.0, k=3)
    found = transfer_measures(side(x, labels), side(y, labels))
    assert found["transfer_kept"] == pytest.approx(1) and found["transfer_text_to_image"] == 100
    turned = transfer_measures(side(x, labels), side(y, (labels + 1) % 3))
    assert turned["transfer_text_to_image"] == 0 and turned["transfer_kept"] == 0


def test_intra_equals_scikit_learns_average_precision() -> None:
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 5, 70)
    rows = unit(rng.standard_normal((70, 6)) + np.eye(6)[labels])
    found = intra_retrieval(rows, labels, chunk=16)
    wide = rows.astype(np.float64) / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    scores = wide @ wide.T
    expected, first = [], []
    for i in range(70):
        others = np.arange(70) != i
        expected.append(average_precision_score(labels[others] == labels[i], scores[i, others]))
        first.append(labels[others][scores[i, others].argmax()] == labels[i])
    assert found["intra_map"] == pytest.approx(100 * np.mean(expected))
    assert found["intra_precision@1"] == pytest.approx(100 * np.mean(first))


def test_intra_of_separate_classes_is_perfect_and_of_one_point_nothing() -> None:
    x, _, labels = classes_in_space(0.0)
    assert intra_retrieval(x, labels)["intra_map"] == pytest.approx(100)
    same = unit(np.ones((20, 4)))
    assert intra_retrieval(same, np.arange(20) % 4)["intra_precision@1"] == 0
    with pytest.raises(UserError, match="two images"):
        intra_retrieval(x[:4], np.arange(4))
    with pytest.raises(UserError, match="two classes"):
        intra_retrieval(x[:4], np.zeros(4, dtype=int))


def test_what_every_order_would_give_is_left_out() -> None:
    """A collapsed model would have 100 there, which nothing can be learnt from."""
    same = unit(np.ones((12, 4)))
    labels = np.array(
        [0, 0, 0, 1, 1, 1, 1, 1, -1]
    )  # five others lie before class 0's own, three before class 1's
    assert intra_retrieval(same[:9], labels)["intra_recall@5"] == pytest.approx(100 * 5 / 8)
    assert "intra_recall@5" not in intra_retrieval(same[:7], labels[:7])  # four at most
    for size, known in ((11, {1, 5, 10}), (10, {1, 5}), (5, {1}), (2, {1})):
        found = mixed_retrieval(captioned(same[:size], same[:size], same[:size]))
        recalls = [name.removeprefix("mixed_recall@").partition("_")[0] for name in found if "recall" in name]
        assert set(map(int, recalls)) == known
        assert any(name.startswith("mixed_top10") for name in found) == (size > 10)
    with pytest.raises(UserError, match="two captioned images"):
        mixed_retrieval(captioned(same[:1], same[:1]))
