"""What is said beside measured values: captions of several pictures, recalls that a gallery is too small for."""

from __future__ import annotations

import numpy as np

from gaprun.cli.cautions import cautions
from gaprun.evaluation.retrieval import ranks


def rows(images: int, split: str = "test", protocol: str = "full", **more: float) -> list[dict[str, object]]:
    eye = np.eye(images, dtype=np.float32)
    values = ranks(eye, eye, np.arange(images)).metrics() | more
    place = {"dataset": "coco", "split": split, "protocol": protocol, "task": "retrieval"}
    return [place | {"metric": name, "value": value} for name, value in values.items()]


def test_what_is_left_out_of_a_small_gallery_is_said_by_split_and_protocol() -> None:
    other = [
        {
            "dataset": "coco",
            "split": "val",
            "protocol": "full",
            "task": "gap",
            "metric": "image_gap",
            "value": 0.1,
        }
    ]
    assert cautions([*rows(11), *rows(11, protocol="pool512"), *other]) == []
    assert cautions([*rows(11), *rows(10, protocol="pool10"), *rows(5, split="few")]) == [
        "coco/test (pool10): image_recall@10, text_recall@10 left out, among so few candidates 100 by definition",
        "coco/few (full): image_recall@5, image_recall@10, text_recall@5, text_recall@10 left out, among so few "
        "candidates 100 by definition",
    ]


def test_captions_of_several_pictures_are_said() -> None:
    (said,) = cautions(rows(11, repeated_captions=3.0))
    assert said.startswith("coco/test: 3 captions stand with several pictures")
