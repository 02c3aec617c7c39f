"""Image-to-image retrieval by class: is the image cloud itself in order, whatever lies between the modalities?

CLIP's loss never compares two images, so a method that closes the gap may change how images lie among each other
without its loss saying so.
"""

from __future__ import annotations

import numpy as np

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Array, unit_rows


def intra_retrieval(images: Array, labels: Array, *, chunk: int = 512) -> dict[str, float]:
    """Each labelled image asks for the others of its class among all other labelled images; in percent.

    images (N, D), labels (N,), negative ones are left out; images that are alone in their class are candidates and
    no queries. `intra_precision@1`: the nearest other image has the query's class; `intra_recall@5`: one of the five
    nearest has; `intra_map`: mean over queries of the average precision over the whole ranking (its expectation under
    a random order is about the class's share). An image of another class ranks first among ties. `intra_recall@5` is
    left out where no query could find five images of other classes first, since any order gives 100. Raises UserError
    where no class has two images, and below two classes.
    """
    known = labels >= 0
    rows, classes = unit_rows(images[known], "image"), labels[known]
    found, counts = np.unique(classes, return_counts=True)
    queries = np.flatnonzero(np.isin(classes, found[counts > 1]))
    if len(queries) == 0:
        raise UserError("image-to-image retrieval needs a class with two images")
    if len(found) < 2:
        raise UserError(
            "image-to-image retrieval needs images of two classes: with one every answer is right"
        )
    first, five, precision = [], [], []
    places = np.arange(1, len(rows))
    for start in range(0, len(queries), chunk):
        own = queries[start : start + chunk]
        # Rounded to 1e-12, so that equal pictures tie whatever a matrix product makes of their last bits.
        scores = np.round(rows[own] @ rows.T, 12)
        for line, query in zip(scores, own, strict=True):
            same = np.delete(classes == classes[query], query)
            order = np.lexsort((same, -np.delete(line, query)))
            right = same[order]
            first.append(right[0])
            five.append(right[:5].any())
            precision.append(float((np.cumsum(right)[right] / places[right]).mean()))
    values = {
        "intra_precision@1": 100.0 * float(np.mean(first)),
        "intra_map": 100.0 * float(np.mean(precision)),
    }
    if len(rows) - counts[counts > 1].min() >= 5:
        values["intra_recall@5"] = 100.0 * float(np.mean(five))
    return values
