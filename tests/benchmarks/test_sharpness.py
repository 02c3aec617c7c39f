"""benchmarks/sharpness.py: what each way of resampling does to a fine pattern and to a plain picture."""

import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import REPO

sys.path.insert(0, str(REPO / "benchmarks"))
from sharpness import WAYS, resized


@pytest.mark.parametrize("way", WAYS)
def test_a_plain_picture_stays_as_it_is(way: str) -> None:
    picture = Image.new("RGB", (96, 96), (200, 100, 50))
    assert np.array_equal(resized(picture, 64, way), np.broadcast_to([200, 100, 50], (64, 64, 3)))


def test_single_pixels_are_sharper_and_a_detour_is_softer() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    spread = {way: float(resized(Image.fromarray(noise), 64, way).std()) for way in WAYS}
    assert spread["nearest"] == pytest.approx(noise.std(), rel=0.02)  # pixels of the picture itself
    assert spread["nearest"] > spread["bilinear"] > spread["to 3/4"] > spread["to 1/2"]
    assert spread["own"] > spread["to 3/4"]
