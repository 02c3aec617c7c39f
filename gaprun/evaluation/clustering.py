"""Clustering of images and texts together: do clusters follow the class, or the modality?

k-means over the pooled rows of both modalities with as many clusters as there are classes. In a space without a gap
the images and the texts of a class share a cluster; with a wide gap each modality is cut up by itself.
"""

from __future__ import annotations

import numpy as np

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array, unit_rows

RESTARTS = 10


def cluster_measures(
    images: Array, texts: Array, image_labels: Array, text_labels: Array, *, seed: int = 0
) -> dict[str, float]:
    """Agreement of k-means clusters with classes and with modalities, over images (N, D) and texts (M, D).

    image_labels (N,), text_labels (M,): class of each row; rows with a negative label are left out. k is the number
    of classes, RESTARTS seeded starts, the best kept. All in 0..1 but for the adjusted Rand index, which is 0 for a
    random labelling and may be negative:

    `cluster_v_measure` (Rosenberg & Hirschberg 2007), `cluster_nmi` (arithmetic mean in the denominator; equal to the
    V-measure by definition, kept since both names are asked for), `cluster_ari` (Hubert & Arabie 1985): clusters
    against classes; `cluster_modality`: normalised mutual information of clusters and modality, 0 where every cluster
    has both modalities in their overall shares, near its ceiling where each cluster holds one only;
    `cluster_purity_modality`: mean share of the larger modality in a row's cluster (0.5 mixed, 1 apart, at equal
    counts). Raises UserError below two classes, or where a modality has no labelled row.
    """
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, v_measure_score

    keep_x, keep_y = image_labels >= 0, text_labels >= 0
    if not keep_x.any() or not keep_y.any():
        raise UserError("clustering needs labelled images and labelled texts")
    rows = np.concatenate([unit_rows(images[keep_x], "image"), unit_rows(texts[keep_y], "text")])
    classes = np.concatenate([image_labels[keep_x], text_labels[keep_y]])
    modality = np.repeat([0, 1], [int(keep_x.sum()), int(keep_y.sum())])
    k = len(np.unique(classes))
    if k < 2:
        raise UserError(f"clustering needs at least two classes, the labels hold {k}")
    found = KMeans(k, n_init=RESTARTS, random_state=seed).fit_predict(rows)
    table = np.zeros((k, 2))
    np.add.at(table, (found, modality), 1)
    return {
        "cluster_v_measure": float(v_measure_score(classes, found)),
        "cluster_nmi": float(normalized_mutual_info_score(classes, found)),
        "cluster_ari": float(adjusted_rand_score(classes, found)),
        "cluster_modality": float(normalized_mutual_info_score(modality, found)),
        "cluster_purity_modality": float(table.max(1).sum() / len(rows)),
    }


def balanced(image_labels: Array, text_labels: Array, seed: int) -> tuple[Array, Array]:
    """Sorted indices of as many images as texts a class, drawn by `seed`: the smaller of the two counts, each class."""
    generator = np.random.default_rng(seed)
    chosen: tuple[list[Array], list[Array]] = ([], [])
    for label in np.unique(image_labels[image_labels >= 0]):
        members = [np.flatnonzero(labels == label) for labels in (image_labels, text_labels)]
        count = min(map(len, members))
        for found, rows in zip(chosen, members, strict=True):
            found.append(generator.choice(rows, count, replace=False))
    x, y = (np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64) for found in chosen)
    return x, y
