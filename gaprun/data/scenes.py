"""The drawn scenes data set: captioned pairs to train on, and class pictures for zero-shot and probe.

Sample `i` of a split depends on (seed, split, i) alone: not on how many there are, nor on the others.
"""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from gaprun.data.drawing import draw, encode_png
from gaprun.data.scene import SHAPES, compose
from gaprun.data.scene_captions import TEMPLATES, captions_of
from gaprun.data.shards import Sample
from gaprun.data.write import ItemOutcome, SplitPlan
from gaprun.errors import UserError

DRAWING = 2  # raised when the same seed would give other pictures or captions


def scenes_plans(
    out: Path, train: int, test: int, classes_train: int, classes_test: int, size: int, seed: int
) -> list[SplitPlan]:
    """Plans for `train`, `test` (pairs), `classes-train` and `classes-test` (labels) below `out`; 0: none.

    `size` is the pictures' side in pixels (16..512). Raises UserError on values out of range.
    """
    if not 16 <= size <= 512:
        raise UserError(f"--size {size} is outside 16..512 pixels")
    counts = {"train": train, "test": test, "classes-train": classes_train, "classes-test": classes_test}
    for split, count in counts.items():
        if count < 0:
            raise UserError(f"--{split} {count} is negative")
    if not any(counts.values()):
        raise UserError("every split has 0 pictures: give --train, --test or both a number above 0")
    return [_plan(out / split, split, count, size, seed) for split, count in counts.items() if count]


def _plan(folder: Path, split: str, count: int, size: int, seed: int) -> SplitPlan:
    labelled = split.startswith("classes")
    source = {"kind": "scenes", "drawing": DRAWING, "split": split, "samples": count, "size": size}
    return SplitPlan(
        folder=folder,
        items=range(count),
        make=partial(scene_sample, seed=seed, split=split, size=size),
        source={**source, "seed": seed},
        classes=list(SHAPES) if labelled else None,
        templates=list(TEMPLATES) if labelled else None,
        image_size=size,
    )


def scene_sample(i: int, seed: int, split: str, size: int) -> ItemOutcome:
    """Sample `i` of a split, drawn from its own generator; class pictures go through the shapes in turn."""
    rng = random.Random(f"{seed}/{split}/{i}")
    key = f"{split}-{i:06d}"
    if split.startswith("classes"):
        label = i % len(SHAPES)
        picture = encode_png(draw(compose(rng, SHAPES[label]), size))
        return ItemOutcome(Sample(key, picture, "png", size, size, [], label, i))
    scene = compose(rng)
    captions = captions_of(scene, rng)
    return ItemOutcome(Sample(key, encode_png(draw(scene, size)), "png", size, size, captions, None, i))
