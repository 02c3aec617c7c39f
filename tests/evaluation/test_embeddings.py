"""Embeddings: which caption stands for an image, seeded pools, and the checks on what belongs to what."""

import numpy as np
import pytest
from measure_reference import unit

from gaprun.errors import UserError
from gaprun.evaluation.embeddings import Embeddings


def split(owner, images=4, labels=None):
    rng = np.random.default_rng(0)
    owner = np.asarray(owner)
    return Embeddings(
        unit(rng.standard_normal((images, 3))), unit(rng.standard_normal((len(owner), 3))), owner, labels
    )


def test_first_caption_of_each_image_and_images_without_any_drop_out():
    image_index, text_index = split([3, 0, 3, 0, 1]).pair_index()
    np.testing.assert_array_equal(image_index, [0, 1, 3])
    np.testing.assert_array_equal(text_index, [1, 4, 0])


def test_seeded_captions_are_own_captions_and_every_one_is_drawn():
    embeddings = split(np.repeat(np.arange(4), 5)[np.random.default_rng(1).permutation(20)])
    seen = set()
    for seed in range(80):
        image_index, text_index = embeddings.pair_index(seed)
        np.testing.assert_array_equal(embeddings.owner[text_index], image_index)
        seen.update(text_index.tolist())
    assert seen == set(range(20))
    np.testing.assert_array_equal(embeddings.pair_index(7)[1], embeddings.pair_index(7)[1])


def test_pairs_of_a_one_caption_split_are_the_arrays_themselves():
    embeddings = split([0, 1, 2, 3])
    images, texts = embeddings.pairs()
    assert images is embeddings.images and texts is embeddings.texts


def test_draws_are_distinct_images_fixed_by_seed_and_number():
    labels = np.arange(50)
    embeddings = split(np.repeat(np.arange(50), 2), images=50, labels=labels)
    drawn = embeddings.draw(20, seed=3, number=1)
    assert len(set(drawn.labels.tolist())) == 20
    np.testing.assert_array_equal(drawn.images, embeddings.images[drawn.labels])
    np.testing.assert_array_equal(drawn.texts, embeddings.draw(20, seed=3, number=1).texts)
    assert not np.array_equal(drawn.images, embeddings.draw(20, seed=3, number=2).images)
    assert len(embeddings.draw(500, seed=3).images) == 50


def test_what_does_not_fit_together_is_refused():
    eye = np.eye(3, dtype=np.float32)
    for arguments, words in [
        ((eye, eye, np.array([0, 1, 3])), "0..2, found 0..3"),
        ((eye, eye, np.array([0, 1])), "2 owners for 3 captions"),
        ((eye, eye[:, :2], np.arange(3)), "different models"),
        ((eye, eye, np.arange(3), np.arange(2)), "2 labels for 3 images"),
        ((eye[0], eye, np.arange(3)), "two-dimensional"),
    ]:
        with pytest.raises(UserError, match=words):
            Embeddings(*arguments)
