"""Zero-shot: class vectors by hand, CLIP_benchmark's accuracy, ties, classes that are absent; templates."""

import numpy as np
import pytest
from measure_reference import unit

from gaprun.errors import UserError
from gaprun.evaluation.templates import prompts, templates
from gaprun.evaluation.zeroshot import class_vectors, zero_shot


def test_class_vector_is_the_normalised_mean_of_normalised_prompts():
    prompt_rows = np.array([[2, 0], [0, 5], [0, -1], [0, -3]], dtype=np.float32)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(class_vectors(prompt_rows, 2), [[half, half], [0, -1]], atol=1e-7)


def test_hand_checked_metrics():
    vectors = np.eye(7, dtype=np.float32)
    images = unit(np.eye(7)[[0, 0, 0, 1, 2]] + [[0], [0], [0], [0], [0]])
    labels = np.array([0, 0, 3, 1, 1])  # two of class 0 right, class 3's only wrong, class 1 half
    found = zero_shot(images, vectors, labels)
    assert found.metrics["zeroshot_top1"] == 60
    assert found.metrics["zeroshot_mean_class"] == pytest.approx(100 * (1 + 0 + 0.5) / 3)
    np.testing.assert_array_equal(found.correct, [True, True, False, True, False])
    np.testing.assert_array_equal(found.rank, [1, 1, 7, 1, 7])  # ties at score 0 count against the model


def test_equal_to_topk():
    """The field's usual way of counting, a top-k of the logits, gives the same numbers where nothing ties."""
    rng = np.random.default_rng(0)
    vectors = unit(rng.standard_normal((20, 16)))
    labels = rng.integers(0, 20, 500)
    images = unit(vectors[labels] + 0.5 * rng.standard_normal((500, 16)))
    top = np.argsort(-(images @ vectors.T), axis=1)
    found = zero_shot(images, vectors, labels, chunk=64).metrics
    assert found["zeroshot_top1"] == pytest.approx(100 * (top[:, 0] == labels).mean())
    assert found["zeroshot_top5"] == pytest.approx(100 * (top[:, :5] == labels[:, None]).any(1).mean())
    assert 20 < found["zeroshot_top1"] < found["zeroshot_top5"] < 100


def test_a_model_that_answers_alike_scores_nothing():
    images = np.repeat(unit(np.ones((1, 8))), 30, 0)
    vectors = np.repeat(unit(np.ones((1, 8))), 10, 0)
    found = zero_shot(images, vectors, np.arange(30) % 10).metrics
    assert found.pop("zeroshot_chance") == 10 and set(found.values()) == {0}


def test_top5_is_absent_where_it_says_nothing():
    assert "zeroshot_top5" not in zero_shot(np.eye(5), np.eye(5), np.arange(5)).metrics
    assert "zeroshot_top5" in zero_shot(np.eye(6), np.eye(6), np.arange(6)).metrics


def test_unlabelled_images_are_left_out():
    found = zero_shot(np.eye(3), np.eye(3), np.array([0, -1, 1]))
    assert found.metrics["zeroshot_top1"] == 50
    np.testing.assert_array_equal(found.correct, [True, False, False])


def test_bad_requests():
    eye = np.eye(3)
    for call, words in [
        (lambda: zero_shot(eye, eye, np.array([0, 1, 3])), "label 3 has no class vector"),
        (lambda: zero_shot(eye, eye, np.full(3, -1)), "no image has a class label"),
        (lambda: zero_shot(eye, eye, np.arange(2)), "2 labels for 3 images"),
        (lambda: zero_shot(eye * np.nan, eye, np.arange(3)), "not finite"),
        (
            lambda: zero_shot(eye, eye[:1], np.zeros(3, dtype=int)),
            "at least two classes, the data set names 1",
        ),
        (lambda: class_vectors(np.eye(5), 2), "do not divide"),
        (lambda: class_vectors(np.array([[1.0, 0], [-1, 0]]), 1), "cancel out"),
        (lambda: class_vectors(np.zeros((2, 3)), 2), "prompt embedding 0"),
    ]:
        with pytest.raises(UserError, match=words):
            call()


def test_named_templates_are_open_clips():
    assert len(templates("openai")) == 80 and len(templates("simple")) == 7
    assert "a photo of the large {}." in templates("simple")
    assert templates("plain") == templates("none") == ["{}"]
    assert templates(["a {}", "the {} there"]) == ["a {}", "the {} there"]


def test_prompts_go_class_by_class():
    assert prompts(["cat", "fire_truck"], ["a {}", "two {}s"]) == [
        "a cat",
        "two cats",
        "a fire truck",
        "two fire trucks",
    ]


@pytest.mark.parametrize("choice", ["opennai", [], ["a photo"], ["{} and {}"]])
def test_bad_templates(choice):
    with pytest.raises(UserError):
        templates(choice)
