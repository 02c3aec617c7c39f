"""Retrieval from a mixed gallery: documents that are an image, a text, or both, and queries that are texts.

With a wide modality gap a text query finds texts first whatever they say (Liang et al. 2022 show the two cones; mixed
search is where it hurts). Each item of the gallery appears once, in one form drawn by seed, so that the form says
nothing about the answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array, Embeddings, unit_rows

KS = (1, 5, 10)
TOP = 10
FORMS = ("image", "text", "mixture")


@dataclass(frozen=True)
class Gallery:
    """One document an item and one text query an item that has one.

    documents: float64 (N, D) unit rows; form: (N,) index into FORMS; queries: (Q, D); target: (Q,) the item that each
    query means. An item with two captions or more is a third each image (its picture), text (its first caption) and
    mixture `unit(x + y)` of both, and is asked for by its second caption. With a single caption, the query itself must
    not lie in the gallery: such items are half images, asked for by the caption, and half texts, which only distract.
    """

    documents: Array
    form: Array
    queries: Array
    target: Array


def build_gallery(embeddings: Embeddings, seed: int) -> Gallery:
    """The gallery of a split, forms drawn by `seed`. Raises UserError where no image has a caption."""
    order = np.argsort(embeddings.owner, kind="stable")
    items, first, count = np.unique(embeddings.owner[order], return_index=True, return_counts=True)
    if len(items) == 0:
        raise UserError("mixed retrieval needs captioned images: the split has none")
    x = unit_rows(embeddings.images[items], "image")
    y = unit_rows(embeddings.texts[order[first]], "text")
    several = count > 1
    form = np.zeros(len(items), dtype=np.int64)
    shuffled = np.random.default_rng(seed).permutation(len(items))
    for kind, forms in ((several, 3), (~several, 2)):
        chosen = shuffled[kind[shuffled]]
        form[chosen] = np.arange(len(chosen)) % forms
    documents = np.where((form == 0)[:, None], x, y)
    mixture = form == 2
    documents[mixture] = unit_rows(x[mixture] + y[mixture], "mixture")
    target = np.flatnonzero(several | (form == 0))
    asked = first[target] + several[target]  # the second caption where there is one
    return Gallery(documents, form, unit_rows(embeddings.texts[order[asked]], "text"), target)


def mixed_retrieval(embeddings: Embeddings, *, seed: int = 0, chunk: int = 1024) -> dict[str, float]:
    """Recall and NDCG@10 in percent, and what the first ten places hold, for the gallery of a split.

    `mixed_recall@k`: share of queries whose item is in the top k; `mixed_recall@10_image`, `_text`, `_mixture`: of the
    queries whose item has that form. `mixed_ndcg@10`: mean of 1 / log2(1 + rank) up to rank 10 (one right answer a
    query; Jarvelin & Kekalainen 2002). `mixed_top10_image`, `_text`, `_mixture`: share of the ten first places that a
    form holds, over its share of the gallery: 1 is no preference. A tie ranks above the answer. A form that the
    gallery lacks is left out, and so is what any order would give: recall@k in a gallery of k documents or fewer, the
    shares in one of ten. Raises UserError below two documents.
    """
    gallery = build_gallery(embeddings, seed)
    if len(gallery.documents) < 2:
        raise UserError(
            "mixed retrieval needs at least two captioned images: with one every query finds its item"
        )
    rank = np.empty(len(gallery.target), dtype=np.int64)
    top = min(TOP, len(gallery.documents))
    places = np.zeros(len(FORMS))
    for start in range(0, len(rank), chunk):
        part = slice(start, start + chunk)
        scores = gallery.queries[part] @ gallery.documents.T
        own = np.take_along_axis(scores, gallery.target[part][:, None], axis=1)
        # Equal documents must tie whatever a matrix product makes of them: its last bits are rounding.
        rank[part] = (scores >= own - 1e-12).sum(1)
        first = np.argpartition(-scores, top - 1, axis=1)[:, :top]
        places += np.bincount(gallery.form[first].ravel(), minlength=len(FORMS))
    values = {
        f"mixed_recall@{k}": 100.0 * float((rank <= k).mean()) for k in KS if k < len(gallery.documents)
    }
    gain = np.where(rank <= TOP, 1.0 / np.log2(1.0 + rank), 0.0)
    values[f"mixed_ndcg@{TOP}"] = 100.0 * math.fsum(gain) / len(gain)
    share = np.bincount(gallery.form, minlength=len(FORMS)) / len(gallery.form)
    asked = gallery.form[gallery.target]
    for number, name in enumerate(FORMS):
        if (asked == number).any() and len(gallery.documents) > TOP:
            values[f"mixed_recall@{TOP}_{name}"] = 100.0 * float((rank[asked == number] <= TOP).mean())
        if share[number] > 0 and len(gallery.documents) > TOP:
            values[f"mixed_top{TOP}_{name}"] = float(places[number] / places.sum() / share[number])
    return values
