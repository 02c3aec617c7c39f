"""The drawn scenes: reproducible, distinguishable, captions that are true, short, partial and partly shared."""

from __future__ import annotations

import io
import random
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from gaprun.data.decode import decode_rgb
from gaprun.data.drawing import COLOURS, draw
from gaprun.data.scene import BACKGROUNDS, COLOUR_NAMES, RADII, SHAPES, Scene, Thing, compose
from gaprun.data.scene_captions import TEMPLATES, captions_of
from gaprun.data.scenes import scene_sample, scenes_plans
from gaprun.data.split import open_split
from gaprun.data.write import write_splits
from gaprun.errors import UserError


@pytest.fixture(scope="module")
def scenes():
    """600 composed scenes with their captions."""
    made = []
    for i in range(600):
        rng = random.Random(f"test/{i}")
        scene = compose(rng)
        made.append((scene, captions_of(scene, rng)))
    return made


def test_a_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path):
    sums = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_splits(scenes_plans(tmp_path / name, 30, 10, 16, 8, 32, seed))
        sums.append(
            [open_split(tmp_path / name / split).fingerprint for split in ("train", "test", "classes-train")]
        )
    assert sums[0] == sums[1]
    assert not set(sums[0]) & set(sums[2])


def test_a_sample_does_not_depend_on_how_many_there_are(tmp_path):
    write_splits(scenes_plans(tmp_path / "few", 5, 0, 0, 0, 32, 0))
    write_splits(scenes_plans(tmp_path / "many", 9, 0, 0, 0, 32, 0))
    few, many = (open_split(tmp_path / name / "train") for name in ("few", "many"))
    assert many.captions[:5] == few.captions
    assert [many.read_image(i) for i in range(5)] == [few.read_image(i) for i in range(5)]


def test_pictures_are_lossless_and_of_the_asked_size():
    for size in (16, 32, 96):
        sample = scene_sample(3, 0, "train", size).sample
        assert (sample.width, sample.height, sample.extension) == (size, size, "png")
        rng = random.Random("0/train/3")
        assert np.array_equal(np.asarray(decode_rgb(sample.image)), np.asarray(draw(compose(rng), size)))


def test_class_pictures_go_through_the_shapes_and_are_never_small():
    for i in range(40):
        sample = scene_sample(i, 0, "classes-test", 32).sample
        assert sample.label == i % 8 and sample.captions == []
    for i in range(200):
        scene = compose(random.Random(i), "heart")
        assert [(one.shape, one.size != "small") for one in scene.things] == [("heart", True)]


def test_things_fit_the_picture_and_hardly_overlap(scenes):
    counts = Counter(len(scene.things) for scene, _ in scenes)
    assert set(counts) == {1, 2, 3} and min(counts.values()) > 60
    overlaps = 0
    for scene, _ in scenes:
        for i, a in enumerate(scene.things):
            assert RADII[a.size] < a.x < 1 - RADII[a.size] and RADII[a.size] < a.y < 1 - RADII[a.size]
            for b in scene.things[:i]:
                overlaps += np.hypot(a.x - b.x, a.y - b.y) < RADII[a.size] + RADII[b.size]
    assert overlaps <= 6


def test_every_caption_is_true_of_its_scene(scenes):
    for scene, captions in scenes:
        nouns = {f"{thing.colour} {thing.shape}" for thing in scene.things}
        for caption in captions:
            words = (
                caption.replace("blue sky", "sky")
                .replace("green grass", "grass")
                .replace("white snow", "snow")
            )
            for colour, shape in re.findall(rf"({'|'.join(COLOUR_NAMES)}) ({'|'.join(SHAPES)})\b", words):
                assert f"{colour} {shape}" in nouns
            for shape in re.findall(rf"\b({'|'.join(SHAPES)})\b", words):
                assert shape in {thing.shape for thing in scene.things}
            for word, names in (("grass", "grass"), ("sand", "sand"), ("snow", "snow"), ("night", "night")):
                assert word not in words or scene.background == names
            found = re.fullmatch(
                r"an? (\w+) (\w+) (?:to the )?(left of|right of|above|over|below|under) an? (\w+) (\w+)",
                words,
            )
            if found:
                assert _relation_holds(scene, found.groups())


def _relation_holds(scene: Scene, words: tuple[str, ...]) -> bool:
    first = [one for one in scene.things if (one.colour, one.shape) == words[:2]]
    second = [one for one in scene.things if (one.colour, one.shape) == words[3:]]
    holds = {
        "left of": lambda a, b: a.x < b.x,
        "right of": lambda a, b: a.x > b.x,
        "above": lambda a, b: a.y < b.y,
        "over": lambda a, b: a.y < b.y,
        "below": lambda a, b: a.y > b.y,
        "under": lambda a, b: a.y > b.y,
    }[words[2]]
    return any(holds(a, b) for a in first for b in second)


def test_five_different_captions_each_leaving_something_out(scenes):
    for scene, captions in scenes:
        assert len(set(captions)) == 5
        facts = {
            fact for thing in scene.things for fact in (thing.shape, thing.colour, thing.size, thing.texture)
        }
        facts = {fact for fact in facts if fact != "plain"} | {
            scene.background,
            "corner|left|right|top|bottom|middle",
        }
        for caption in captions:
            assert not all(re.search(fact, caption) for fact in facts), caption


def test_captions_are_partly_shared_and_name_each_class_in_the_templates(scenes):
    images_of = Counter(caption for _, captions in scenes for caption in set(captions))
    shared = sum(count for count in images_of.values() if count > 1) / sum(images_of.values())
    assert 0.2 < shared < 0.6 and len(images_of) > 1500
    for shape in SHAPES:
        assert any(images_of[template.format(shape)] for template in TEMPLATES)


def test_captions_fit_a_context_of_24_tokens(scenes):
    import open_clip

    tokenizer = open_clip.SimpleTokenizer()
    longest = max(len(tokenizer.encode(caption)) + 2 for _, captions in scenes for caption in captions)
    assert longest <= 24


def _alone(
    shape: str, colour: str, texture: str = "plain", background: str = "grass", angle: float = 0.0
) -> Scene:
    thing = Thing(shape, colour, "medium", texture, 0.5, 0.5, RADII["medium"], angle, (0, 0, 0), 0)
    return Scene(background, 0, (thing,))


def _pixels(scene: Scene) -> np.ndarray:
    return np.asarray(draw(scene, 32)).astype(int)


def test_shapes_colours_textures_and_backgrounds_can_be_told_apart_at_32_pixels():
    for kinds in (
        [_alone(shape, "red") for shape in SHAPES],
        [_alone("circle", colour) for colour in COLOURS],
        [_alone("square", "blue", texture) for texture in ("plain", "striped", "checked")],
        [_alone("star", "red", background=background) for background in BACKGROUNDS],
    ):
        pictures = [_pixels(kind) for kind in kinds]
        for i, one in enumerate(pictures):
            for other in pictures[:i]:
                assert (np.abs(one - other).max(axis=2) > 40).sum() >= 20


def test_a_linear_look_at_class_pictures_is_above_chance_and_below_perfect():
    """Nearest class mean on grey pixels: the labels are in the pictures, yet not in a trivial statistic."""
    samples = [scene_sample(i, 0, "classes-train", 32).sample for i in range(800)]
    x = np.stack(
        [np.asarray(Image.open(io.BytesIO(one.image)).convert("L"), float).ravel() for one in samples]
    )
    y = np.array([one.label for one in samples])
    means = np.stack([x[:600][y[:600] == label].mean(axis=0) for label in range(8)])
    guess = ((x[600:, None] - means[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert 0.08 < (guess == y[600:]).mean() < 0.6


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 0, 0, 0, 32), "every split has 0"),
        ((-1, 5, 0, 0, 32), "--train -1"),
        ((5, 5, 0, 0, 4), "--size 4"),
        ((5, 5, 0, 0, 5000), "--size 5000"),
    ],
)
def test_impossible_numbers_are_refused(tmp_path, numbers, message):
    with pytest.raises(UserError, match=message):
        scenes_plans(tmp_path, *numbers, 0)
