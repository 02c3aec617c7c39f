"""Labelled sets: values and splits of every source, and each way in which they can be wrong."""

from __future__ import annotations

import numpy as np
import pytest

from gaprun.data.classes import CIFAR_TEMPLATES, class_plans
from gaprun.data.decode import decode_rgb
from gaprun.data.split import open_split
from gaprun.data.write import write_splits
from gaprun.errors import UserError


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "images": rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8),
        "labels": np.repeat(np.arange(3), 20),
        "class_names": np.array(["cat", "dog", "sea horse"]),
        "split": np.array(["train", "test"] * 30),
    }


def test_an_npz_with_splits_keeps_pixels_labels_and_names(tmp_path, arrays):
    np.savez(tmp_path / "set.npz", **arrays)
    write_splits(class_plans(str(tmp_path / "set.npz"), tmp_path / "out"))
    for name, rows in (("train", slice(0, 60, 2)), ("test", slice(1, 60, 2))):
        split = open_split(tmp_path / "out" / name)
        assert (
            split.classes == ["cat", "dog", "sea horse"] and split.templates is None and split.image_size == 8
        )
        assert split.labels.tolist() == arrays["labels"][rows].tolist()
        pixels = np.stack([np.asarray(decode_rgb(split.read_image(i))) for i in range(split.samples)])
        assert np.array_equal(pixels, arrays["images"][rows])
        assert split.captions == [[]] * 30


def test_a_set_without_splits_is_divided_within_each_class(tmp_path, arrays):
    del arrays["split"], arrays["class_names"]
    arrays["images"] = arrays["images"][..., :1]
    np.savez(tmp_path / "set.npz", **arrays)
    plans = class_plans(str(tmp_path / "set.npz"), tmp_path / "out", test_share=0.25, seed=3)
    [(train, _), (test, _)] = write_splits(plans)
    assert (train["samples"], test["samples"]) == (45, 15) and train["classes"] == ["0", "1", "2"]
    assert train["report"] == {"greyscale": 45, "numbered_classes": 1}
    held = open_split(tmp_path / "out" / "test")
    assert np.bincount(held.labels).tolist() == [5, 5, 5]
    keys = {
        key.split("-")[1] for name in ("train", "test") for key in open_split(tmp_path / "out" / name).keys
    }
    assert len(keys) == 60
    again = class_plans(str(tmp_path / "set.npz"), tmp_path / "out", test_share=0.25, seed=3)
    assert [written for _, written in write_splits(again)] == [False, False]
    other = class_plans(str(tmp_path / "set.npz"), tmp_path / "b", test_share=0.25, seed=4)
    write_splits(other)
    assert open_split(tmp_path / "b" / "test").keys != held.keys


def test_digits_need_no_download_and_have_their_values(tmp_path):
    from sklearn.datasets import load_digits

    write_splits(class_plans("digits", tmp_path / "digits"))
    train, test = (open_split(tmp_path / "digits" / name) for name in ("train", "test"))
    digits = load_digits()
    assert train.samples + test.samples == 1797 and train.classes == [str(n) for n in range(10)]
    assert test.templates == ['a photo of the number: "{}".']
    for i in (0, 100, 350):
        row = int(test.keys[i].split("-")[1])
        assert test.labels[i] == digits.target[row]
        wanted = np.round(digits.images[row] * 255 / 16)
        assert np.array_equal(np.asarray(decode_rgb(test.read_image(i)))[..., 0], wanted)


def test_class_folders_are_read_with_and_without_splits(tmp_path, make_picture):
    for number, name in enumerate(("cat", "sea_horse")):
        for i in range(5):
            for base in ("plain", "split/train", "split/test"):
                (tmp_path / base / name).mkdir(parents=True, exist_ok=True)
                (tmp_path / base / name / f"{i}.jpg").write_bytes(make_picture(10 * number + i, kind="JPEG"))
    (tmp_path / "plain" / "cat" / "0.jpg").write_bytes(b"broken")
    results = write_splits(class_plans(str(tmp_path / "plain"), tmp_path / "a", test_share=0.4))
    assert [index["samples"] for index, _ in results] == [5, 4] or [
        index["samples"] for index, _ in results
    ] == [6, 3]
    assert sum(index["report"].get("undecodable", 0) for index, _ in results) == 1
    results = write_splits(class_plans(str(tmp_path / "split"), tmp_path / "b"))
    split = open_split(tmp_path / "b" / "train")
    assert [index["samples"] for index, _ in results] == [10, 10]
    assert split.classes == ["cat", "sea horse"] and split.labels.tolist() == [0] * 5 + [1] * 5
    assert split.keys[0] == "cat-0" and split.read_image(7) == make_picture(12, kind="JPEG")
    (tmp_path / "split" / "other").mkdir()
    with pytest.raises(UserError, match="mixes the splits"):
        class_plans(str(tmp_path / "split"), tmp_path / "c")


def test_cifar_without_a_download_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="--download"):
        class_plans("cifar10", tmp_path / "cifar10")
    assert not (tmp_path / "cifar10").exists()
    assert len(set(CIFAR_TEMPLATES)) == 18 and all(one.count("{}") == 1 for one in CIFAR_TEMPLATES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "no array 'labels'"),
        ({"images": np.zeros((60, 8, 8, 3))}, "float64"),
        ({"images": np.zeros((60, 8), np.uint8)}, "expected uint8"),
        ({"images": np.zeros((60, 8, 8, 5), np.uint8)}, "expected uint8"),
        ({"labels": np.arange(59)}, "expected 60 whole numbers"),
        ({"labels": np.linspace(0, 1, 60)}, "float64"),
        ({"labels": np.full(60, -1)}, "counted from 0"),
        ({"labels": np.full(60, 3)}, "no name among 3"),
        ({"split": np.array(["train"])}, "'split' has shape"),
        ({"split": np.array(["../../x"] * 60)}, "cannot be a split's name"),
        ({"class_names": np.array("cat")}, "'class_names' must be a list of names"),
        ({"class_names": np.array(["cat", "", "dog"])}, "empty or no text: number 1"),
        ({"class_names": None, "labels": np.full(60, 2**33)}, "label 8589934592 without 'class_names'"),
        ({"class_names": np.array([object()], dtype=object)}, "cannot be read as npz"),
    ],
)
def test_a_wrong_npz_is_one_clear_error(tmp_path, arrays, change, message):
    content = {name: value for name, value in {**arrays, **change}.items() if value is not None}
    np.savez(tmp_path / "set.npz", **content)
    with pytest.raises(UserError, match=message):
        write_splits(class_plans(str(tmp_path / "set.npz"), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_names_in_bytes_templates_and_splits_of_an_npz_are_read(tmp_path, arrays):
    texts = {"class_names": [b"cat", b"d\xc3\xb6g", b"sea horse"], "split": [b"train", b"test"] * 30}
    odd = {name: np.array(value) for name, value in texts.items()}
    found = []
    for templates in (["a photo of {c}", "{}"], ["{} here"]):
        np.savez(tmp_path / "set.npz", **arrays | odd, templates=np.array(templates), ids=np.arange(60))
        [(train, _), (test, _)] = write_splits(
            class_plans(str(tmp_path / "set.npz"), tmp_path / "out"), force=bool(found)
        )
        assert train["classes"] == test["classes"] == ["cat", "dög", "sea horse"]
        assert train["examples"] == {"unknown_array": ["ids"]} and test["report"] == {}
        found.append((test["templates"], test["fingerprint"]))
    assert [templates for templates, _ in found] == [["a photo of {}", "{}"], ["{} here"]]
    assert found[0][1] != found[1][1]
    np.savez(tmp_path / "set.npz", **arrays | odd, templates=np.array(["{c} and {}"]))
    with pytest.raises(UserError, match="must hold {} once"):
        class_plans(str(tmp_path / "set.npz"), tmp_path / "out")
    np.savez(tmp_path / "set.npz", **arrays | odd, templates=np.array(["{} here"]))
    assert [
        written for _, written in write_splits(class_plans(str(tmp_path / "set.npz"), tmp_path / "out"))
    ] == [False] * 2


def test_classes_that_zero_shot_would_answer_oddly_are_counted(tmp_path, arrays, make_picture):
    arrays |= {"class_names": np.array(["cat", "owl", "cat", "dog"]), "labels": np.repeat([0, 2, 3], 20)}
    np.savez(tmp_path / "set.npz", **arrays)
    [(train, _), (test, _)] = write_splits(class_plans(str(tmp_path / "set.npz"), tmp_path / "out"))
    for index in (train, test):
        assert index["examples"] == {"repeated_class_name": ["cat"], "class_without_picture": ["owl"]}
        assert index["report"] == {"repeated_class_name": 2, "class_without_picture": 1}
    for name in ("train/cat", "train/dog", "val/cat", "val/wolf", "val/sea_horse", "val/sea horse"):
        (tmp_path / "folders" / name).mkdir(parents=True)
        (tmp_path / "folders" / name / "0.jpg").write_bytes(make_picture(1, kind="JPEG"))
    [(train, _), (val, _)] = write_splits(class_plans(str(tmp_path / "folders"), tmp_path / "b"))
    assert val["examples"] == {"repeated_class_name": ["sea horse"], "class_without_picture": ["dog"]}
    assert train["examples"]["class_without_picture"] == ["sea horse", "sea horse", "wolf"]


def test_single_pictures_of_each_class_cannot_be_divided(tmp_path, arrays):
    np.savez(tmp_path / "set.npz", images=arrays["images"][:3], labels=np.arange(3))
    with pytest.raises(UserError, match="every class has a single picture: none can be held out"):
        class_plans(str(tmp_path / "set.npz"), tmp_path / "out")


def test_sources_that_are_none_are_refused(tmp_path):
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 nothing")
    for source, message in (
        (str(tmp_path / "bad.npz"), "cannot be read as npz"),
        (str(tmp_path / "absent.npz"), "cannot be read as npz"),
        ("imagenet", "is not cifar10"),
        (str(tmp_path), "no class folders"),
    ):
        with pytest.raises(UserError, match=message):
            class_plans(source, tmp_path / "out")
    with pytest.raises(UserError, match="--test-share 1"):
        class_plans("digits", tmp_path / "out", test_share=1.0)
