"""Compositional reasoning scores: does the model know which caption belongs to which picture?

SugarCrepe: one image, its caption and a foil. Winoground: two images, two captions of the same words.
MMVP-VLM: two images that look alike to CLIP, a statement for each. A tie is a miss, so a model that sees no
difference scores 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaprun.errors import UserError
from gaprun.evaluation.composition_data import CompositionSet
from gaprun.evaluation.embeddings import Array


@dataclass(frozen=True)
class CompositionResult:
    """metrics by name, in percent; correct: bool arrays, one entry a question, by score name."""

    metrics: dict[str, float]
    correct: dict[str, Array]


def score_composition(questions: CompositionSet, images: Array, texts: Array) -> CompositionResult:
    """Score `questions` from unit rows of its `images` (n, D) and `texts` (m, D), in its own order.

    sugarcrepe (the mean over categories) and sugarcrepe_<category>; winoground_text, winoground_image and
    winoground_group (Thrush et al. 2022); mmvp (the mean over visual patterns) and mmvp_<pattern> (Tong et
    al. 2024).
    """
    if (len(images), len(texts)) != (len(questions.images), len(questions.texts)):
        raise UserError(
            f"{questions.name}: {len(images)} image and {len(texts)} text embeddings for "
            f"{len(questions.images)} pictures and {len(questions.texts)} texts"
        )
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):
        raise UserError(f"{questions.name}: embeddings are not finite: the model is broken")
    if questions.name == "sugarcrepe":
        return _by_category(questions, "sugarcrepe", foil_scores(questions, images, texts))
    text, image = pair_scores(questions, images, texts)
    if questions.name == "mmvp":
        return _by_category(questions, "mmvp", image)
    correct = {"winoground_text": text, "winoground_image": image, "winoground_group": text & image}
    return CompositionResult({name: 100.0 * float(hits.mean()) for name, hits in correct.items()}, correct)


def foil_scores(questions: CompositionSet, images: Array, texts: Array) -> Array:
    """bool (items,): the image is nearer to its caption than to the foil."""
    rows = images[[item.images[0] for item in questions.items]]
    captions = texts[[item.texts[0] for item in questions.items]]
    foils = texts[[item.texts[1] for item in questions.items]]
    return _cosine(rows, captions) > _cosine(rows, foils)


def pair_scores(questions: CompositionSet, images: Array, texts: Array) -> tuple[Array, Array]:
    """(text score, image score), bool (items,), of questions with two images i and two captions c.

    text: each image prefers its own caption, s(c0,i0) > s(c1,i0) and s(c1,i1) > s(c0,i1). image: each
    caption prefers its own image, s(c0,i0) > s(c0,i1) and s(c1,i1) > s(c1,i0). MMVP-VLM's score of a pair
    is the image score.
    """
    x = [images[[item.images[side] for item in questions.items]] for side in (0, 1)]
    y = [texts[[item.texts[side] for item in questions.items]] for side in (0, 1)]
    right = [_cosine(x[side], y[side]) for side in (0, 1)]
    image0_caption1, image1_caption0 = _cosine(x[0], y[1]), _cosine(x[1], y[0])
    text = (right[0] > image0_caption1) & (right[1] > image1_caption0)
    image = (right[0] > image1_caption0) & (right[1] > image0_caption1)
    return text, image


def _cosine(left: Array, right: Array) -> Array:
    return np.einsum("ij,ij->i", left, right)


def _by_category(questions: CompositionSet, name: str, correct: Array) -> CompositionResult:
    categories = np.array([item.category for item in questions.items])
    parts = {
        f"{name}_{category.lower().replace(' ', '_')}": 100.0 * float(correct[categories == category].mean())
        for category in sorted(set(categories.tolist()))
    }
    return CompositionResult({name: float(np.mean(list(parts.values()))), **parts}, {name: correct})
