"""Small picture folders and splits that the data tests share."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gaprun.data.shards import Sample
from gaprun.data.write import ItemOutcome, SplitPlan, write_splits


def picture_bytes(
    seed: int, width: int = 40, height: int = 30, mode: str = "RGB", kind: str = "PNG"
) -> bytes:
    """A random picture file; smooth enough for JPEG to keep it recognisable."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def make_picture() -> Callable[..., bytes]:
    """The function `picture_bytes`."""
    return picture_bytes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`pictures/` with five good files (a..e; c greyscale, d PNG with alpha), a broken and a short one."""
    root = tmp_path / "pictures"
    root.mkdir()
    (root / "a.jpg").write_bytes(picture_bytes(1, kind="JPEG"))
    (root / "b.jpg").write_bytes(picture_bytes(2, 30, 60, kind="JPEG"))
    (root / "c.jpg").write_bytes(picture_bytes(3, mode="L", kind="JPEG"))
    (root / "d.png").write_bytes(picture_bytes(4, mode="RGBA"))
    (root / "e.bmp").write_bytes(picture_bytes(5, kind="BMP"))
    (root / "broken.jpg").write_bytes(b"this is no picture")
    (root / "short.jpg").write_bytes(picture_bytes(6, 200, 200, kind="JPEG")[:-400])
    return root


def plan_of(folder: Path, count: int, captions: int = 2, **source: object) -> SplitPlan:
    """A plan of `count` small PNG pictures with `captions` captions each; every seventh item is undecodable."""

    def make(i: int) -> ItemOutcome:
        if i % 7 == 6:
            return ItemOutcome(None, ("undecodable",), f"item{i}")
        texts = [f"caption {k} of {i}, é" for k in range(captions)]
        return ItemOutcome(Sample(f"s{i:04d}", picture_bytes(i, 9, 8), "png", 9, 8, texts, i % 3, i))

    return SplitPlan(
        folder, range(count), make, {"kind": "made", "count": count, **source}, classes=["x", "y", "z"]
    )


@pytest.fixture
def make_plan() -> Callable[..., SplitPlan]:
    """The function `plan_of`."""
    return plan_of


@pytest.fixture
def split_folder(tmp_path: Path) -> Path:
    """A finished split of 18 samples (21 items, 3 undecodable) with captions and labels."""
    write_splits([plan_of(tmp_path / "made" / "train", 21)])
    return tmp_path / "made" / "train"
