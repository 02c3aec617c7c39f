"""SugarCrepe, Winoground and MMVP-VLM: tiny sets in the published layouts, hand-made answers, damaged
files."""

import json

import numpy as np
import pytest
from PIL import Image

from gaprun.errors import UserError
from gaprun.evaluation.catalogue import declared
from gaprun.evaluation.composition import score_composition
from gaprun.evaluation.composition_data import read_composition


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)


def sugarcrepe(folder):
    """Two categories; both use the first picture."""
    for name in ("000000000001.jpg", "000000000002.jpg"):
        picture(folder / "val2017" / name)

    def entry(name, caption, foil):
        return {"filename": name, "caption": caption, "negative_caption": foil}

    one = {
        "0": entry("000000000001.jpg", "a dog", "a red dog"),
        "1": entry("000000000002.jpg", "a cat", "a hat"),
    }
    two = {"0": entry("000000000001.jpg", "dog bites man", "man bites dog")}
    (folder / "add_att.json").write_text(json.dumps(one, indent=4))
    (folder / "swap_obj.json").write_text(json.dumps(two, indent=4))
    return folder


def winoground(folder, count=2):
    lines = []
    for number in range(count):
        names = [f"ex_{number}_img_{side}" for side in (0, 1)]
        for name in names:
            picture(folder / "images" / f"{name}.png")
        lines.append(
            {
                "id": number,
                "image_0": names[0],
                "image_1": names[1],
                "caption_0": "an old person kisses a young person",
                "caption_1": "a young person kisses an old person",
                "tag": "Adjective-Age",
                "secondary_tag": "",
                "num_main_preds": 1,
                "collapsed_tag": "Object",
            }
        )
    (folder / "examples.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    return folder


def mmvp(folder):
    rows = ["Question ID,Type,Statement"]
    for number, kind in enumerate(["Color", "Camera Perspective"]):
        for side in (0, 1):
            question = 2 * number + side + 1
            picture(folder / "MLLM_VLM Images" / kind / f"{question}.jpg")
            rows.append(f'{question},{kind},"a thing, seen {side}"')
    (folder / "Questions.csv").write_text("\ufeff" + "\r\n".join(rows) + "\r\n", encoding="utf-8")
    return folder


def test_sugarcrepe_layout_and_scores(tmp_path):
    questions = read_composition("sugarcrepe", sugarcrepe(tmp_path))
    assert [path.name for path in questions.images] == ["000000000001.jpg", "000000000002.jpg"]
    assert questions.texts == ["a dog", "a red dog", "a cat", "a hat", "dog bites man", "man bites dog"]
    images = np.eye(2, dtype=np.float32)
    texts = np.array([[1, 0], [0, 1], [1, 0], [0, 1], [0, 1], [0, 1]], dtype=np.float32)  # hit, miss, tie
    found = score_composition(questions, images, texts)
    assert found.metrics == {"sugarcrepe": 25.0, "sugarcrepe_add_att": 50.0, "sugarcrepe_swap_obj": 0.0}
    np.testing.assert_array_equal(found.correct["sugarcrepe"], [True, False, False])


def test_sugarcrepe_as_the_repository_lays_it_out_with_images_elsewhere(tmp_path):
    source = sugarcrepe(tmp_path / "source")
    (tmp_path / "repo" / "data").mkdir(parents=True)
    for path in source.glob("*.json"):
        path.rename(tmp_path / "repo" / "data" / path.name)
    questions = read_composition("sugarcrepe", tmp_path / "repo", source / "val2017")
    assert len(questions.items) == 3


@pytest.mark.parametrize("inside", ["", "data"])
def test_winoground_layout(tmp_path, inside):
    winoground(tmp_path / inside if inside else tmp_path)
    questions = read_composition("winoground", tmp_path)
    assert questions.images[1].name == "ex_0_img_1.png"
    assert questions.items[1].images == (2, 3) and questions.items[1].texts == (2, 3)
    assert questions.items[0].category == "Object"


def test_winoground_text_image_and_group(tmp_path):
    questions = read_composition("winoground", winoground(tmp_path, count=4))
    # Scores of (image 0, image 1) x (caption 0, caption 1), one block a question, made by one-hot text rows.
    blocks = np.array(
        [
            [[2, 1], [1, 2]],  # both right
            [[3, 1], [4, 5]],  # each image finds its caption, caption 0 prefers image 1
            [[3, 4], [1, 5]],  # each caption finds its image, image 0 prefers caption 1
            [[1, 1], [1, 1]],  # no difference seen
        ],
        dtype=np.float32,
    )
    texts = np.eye(8, dtype=np.float32)
    images = np.zeros((8, 8), dtype=np.float32)
    for number, block in enumerate(blocks):
        images[2 * number : 2 * number + 2, 2 * number : 2 * number + 2] = block
    found = score_composition(questions, images, texts)
    np.testing.assert_array_equal(found.correct["winoground_text"], [True, True, False, False])
    np.testing.assert_array_equal(found.correct["winoground_image"], [True, False, True, False])
    assert found.metrics == {"winoground_text": 50.0, "winoground_image": 50.0, "winoground_group": 25.0}


def test_mmvp_layout_and_pair_score(tmp_path):
    questions = read_composition("mmvp", mmvp(tmp_path))
    assert questions.texts[0] == "a photo of a thing, seen 0"
    assert questions.images[2].parts[-2:] == ("Camera Perspective", "3.jpg")
    images = np.eye(4, dtype=np.float32)
    found = score_composition(
        questions, images, images[[0, 1, 2, 2]]
    )  # the second pair's statement 4 is wrong
    assert found.metrics == {"mmvp": 50.0, "mmvp_camera_perspective": 0.0, "mmvp_color": 100.0}


def test_every_metric_has_a_registered_name(tmp_path):
    for name, make in (("sugarcrepe", sugarcrepe), ("winoground", winoground), ("mmvp", mmvp)):
        questions = read_composition(name, make(tmp_path / name))
        images = np.ones((len(questions.images), 3), dtype=np.float32)
        texts = np.ones((len(questions.texts), 3), dtype=np.float32)
        metrics = score_composition(questions, images, texts).metrics
        assert set(metrics) <= set(declared())
        assert set(metrics.values()) == {0.0}  # a model that sees no difference


def test_bad_folders(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        ("winogrand", empty, "unknown composition benchmark"),
        ("mmvp", tmp_path / "nowhere", "no such folder"),
        ("mmvp", empty, "Questions.csv: not found"),
        ("winoground", empty, "examples.jsonl: not found"),
        ("sugarcrepe", empty, "none of SugarCrepe's files"),
    ]
    for name, folder, words in cases:
        with pytest.raises(UserError, match=words):
            read_composition(name, folder)


def test_damaged_files_are_named_with_the_place(tmp_path):
    folder = winoground(tmp_path / "w")
    with (folder / "examples.jsonl").open("a") as file:
        file.write('{"id": 3, "image_0": "x"}\n')
    with pytest.raises(UserError, match="examples.jsonl: line 3 is not in the format"):
        read_composition("winoground", folder)

    folder = sugarcrepe(tmp_path / "s")
    (folder / "add_att.json").write_text("{")
    with pytest.raises(UserError, match="add_att.json: not valid JSON"):
        read_composition("sugarcrepe", folder)
    (folder / "add_att.json").write_text('{"0": {"filename": "a.jpg"}}')
    with pytest.raises(UserError, match="add_att.json: entry 0 is not in the format"):
        read_composition("sugarcrepe", folder)

    folder = mmvp(tmp_path / "m")
    (folder / "MLLM_VLM Images" / "Color" / "2.jpg").unlink()
    with pytest.raises(UserError, match=r"Color/2.jpg: picture is missing \(1 of 4 are\)"):
        read_composition("mmvp", folder)
    with (folder / "Questions.csv").open("a") as file:
        file.write("5,Text,alone\n")
    with pytest.raises(UserError, match="5 questions, but"):
        read_composition("mmvp", folder)


def test_embeddings_of_another_set_are_refused(tmp_path):
    questions = read_composition("winoground", winoground(tmp_path))
    with pytest.raises(UserError, match="4 pictures and 4 texts"):
        score_composition(questions, np.eye(3), np.eye(4))
    with pytest.raises(UserError, match="not finite"):
        score_composition(questions, np.full((4, 2), np.nan), np.ones((4, 2)))
