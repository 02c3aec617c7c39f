"""Crop boxes by torchvision's rule, how large pictures are kept for them, and crops against torchvision's own."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.functional import resized_crop

from gaprun.data import resample
from gaprun.data.crops import in_pixels, kept_sizes, random_crops
from gaprun.data.decode import decode_rgb, stage
from gaprun.data.resample import Interpolation, Pictures, crop_and_normalise, picture_interpolation

ZEROS, ONES = torch.zeros(3), torch.ones(3)
SIZES = [(97, 97), (64, 48), (60, 80), (200, 120), (40, 40)]


def test_crops_follow_torchvisions_distribution() -> None:
    sizes = np.tile([640.0, 480.0], (4000, 1))
    ours = random_crops(sizes, (0.3, 1.0), np.random.default_rng(0))
    torch.manual_seed(0)
    blank = torch.zeros(1, 480, 640)
    theirs = np.array([RandomResizedCrop.get_params(blank, [0.3, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)])
    theirs = theirs[:, [1, 0, 3, 2]] / np.array([640, 480, 640, 480])
    for column in range(4):
        for q in (0.1, 0.5, 0.9):
            assert np.quantile(ours[:, column], q) == pytest.approx(
                np.quantile(theirs[:, column], q), abs=0.025
            )
    assert np.all(ours[:, :2] >= 0) and np.all(ours[:, :2] + ours[:, 2:] <= 1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 3000)), min_size=1, max_size=20),
    st.integers(8, 336),
    st.floats(0.05, 1.0),
    st.floats(1.0, 2.0),
)
def test_no_crop_of_a_kept_picture_is_smaller_than_needed(sizes, side, low, margin) -> None:
    originals = np.array(sizes, dtype=float)
    kept = kept_sizes(originals, side, (low, 1.0), margin)
    assert np.all(kept >= 1) and np.all(kept <= originals)
    boxes = random_crops(originals, (low, 1.0), np.random.default_rng(0)) * np.tile(kept, 2)
    originally = boxes[:, 2:] * originals / kept
    # Two pixels for the rounding of a crop to the original's and to the kept picture's pixels.
    assert np.all(boxes[:, 2:] >= np.minimum(margin * side, originally) - 2 * np.maximum(1, kept / originals))
    whole = np.all(kept == originals, axis=1)
    assert np.all(whole | (kept.prod(1) <= originals.prod(1) / 1.5))


def test_sizes_at_which_pictures_are_kept() -> None:
    sizes = np.array([[96, 96], [640, 480], [480, 640], [1280, 480], [500, 20]], dtype=float)
    assert kept_sizes(sizes, 64, (0.9, 1.0), 1.125).tolist()[0] == [96, 96]  # 81 x 81 has 0.71 of them
    # 640 x 480: the narrowest crop is 0.9 of the width, the lowest 0.949 of the height.
    assert kept_sizes(sizes, 224, (0.9, 1.0), 1.25).tolist()[1:3] == [[312, 296], [296, 312]]
    # 1280 x 480: always the central 640 x 480.
    assert kept_sizes(sizes, 224, (0.9, 1.0), 1.25).tolist()[3:] == [[560, 280], [500, 20]]


def packed(pictures: list[np.ndarray], boxes: np.ndarray) -> Pictures:
    pixels = np.concatenate([picture.reshape(-1) for picture in pictures])
    sizes = np.array([picture.shape[1::-1] for picture in pictures])
    return Pictures.joined(torch.from_numpy(pixels), torch.from_numpy(sizes), torch.from_numpy(boxes))


def photographs(rng: np.random.Generator, noise: bool) -> list[np.ndarray]:
    """Pictures of SIZES: hard black-and-white noise, or smooth ones."""
    if noise:
        return [(rng.integers(0, 2, (h, w, 3)) * 255).astype(np.uint8) for w, h in SIZES]
    small = rng.integers(0, 256, (len(SIZES), 9, 12, 3), dtype=np.uint8)
    smooth = Image.Resampling.BICUBIC
    return [np.array(Image.fromarray(s).resize(size, smooth)) for s, size in zip(small, SIZES, strict=True)]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("way", ["_resize_bytes", "_resize_batch"])
@pytest.mark.parametrize("scale", [(0.9, 1.0), (0.02, 0.1)])
@pytest.mark.parametrize("noise", [False, True])
def test_crops_are_torchvisions_to_one_grey_level(
    interpolation: Interpolation, way: str, scale: tuple[float, float], noise: bool, monkeypatch
) -> None:
    monkeypatch.setattr(resample, "CHUNK", 3)
    rng = np.random.default_rng(1)
    pictures = photographs(rng, noise)
    sizes = np.array(SIZES)
    boxes = in_pixels(random_crops(sizes.astype(float), scale, rng), sizes)
    found = torch.cat([*getattr(resample, way)(packed(pictures, boxes), 32, interpolation)]).float()
    for picture, (left, top, right, bottom), ours in zip(pictures, boxes.tolist(), found, strict=True):
        box, filter_ = (top, left, bottom - top, right - left), InterpolationMode(interpolation)
        # On pictures torchvision asks Pillow, and so does measuring. (On tensors it asks torch, which rounds once
        # at the end and so is up to 28 levels from Pillow on such noise.)
        wanted = np.array(resized_crop(Image.fromarray(picture), *box, [32, 32], filter_))
        difference = np.abs(ours.permute(1, 2, 0).numpy() - wanted)
        assert difference.max() <= 1 and difference.mean() < 0.1


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("noise", [False, True])
def test_a_gpus_crops_are_the_cpus_but_for_rounding(interpolation: Interpolation, noise: bool) -> None:
    """The bound that docs/gpu.md states: no value is more than two levels away, few are at all."""
    rng = np.random.default_rng(3)
    sizes = np.array(SIZES)
    boxes = in_pixels(random_crops(sizes.astype(float), (0.3, 1.0), rng), sizes)
    batch = packed(photographs(rng, noise), boxes)
    on_cpu = torch.cat([*resample._resize_bytes(batch, 32, interpolation)]).float()
    difference = (torch.cat([*resample._resize_batch(batch, 32, interpolation)]) - on_cpu).abs()
    assert difference.max() <= 2 and (difference > 1).float().mean() < 1e-3
    assert (difference > 0).float().mean() < 0.03


def test_parts_of_a_batch_are_cropped_as_the_whole() -> None:
    rng = np.random.default_rng(2)
    sizes = np.array(SIZES)
    boxes = in_pixels(random_crops(sizes.astype(float), (0.5, 1.0), rng), sizes)
    batch = packed(photographs(rng, True), boxes)
    whole = crop_and_normalise(batch, 16, "bicubic", ZEROS, ONES)
    parts = [crop_and_normalise(part, 16, "bicubic", ZEROS, ONES) for part in batch.split(2)]
    assert [len(part) for part in parts] == [2, 2, 1] and torch.equal(torch.cat(parts), whole)


def test_a_whole_picture_of_the_right_size_is_itself_normalised() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.1])
    batch = packed([picture], np.array([[0, 0, 8, 8]]))
    found = crop_and_normalise(batch, 8, "bicubic", mean, std)[0]
    wanted = (torch.from_numpy(picture).permute(2, 0, 1) / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_the_models_own_filter_unless_the_recipe_names_another() -> None:
    for named, expected in (("bicubic", "bicubic"), ("bilinear", "bilinear"), ("random", "bicubic")):
        assert picture_interpolation("model", {"interpolation": named}) == expected
        assert picture_interpolation("bilinear", {"interpolation": named}) == "bilinear"


def sharpness(pixels: np.ndarray) -> float:
    """Standard deviation of the Laplacian of the grey picture."""
    grey = pixels.astype(np.float64).mean(2)
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.std(4 * grey[1:-1, 1:-1] - around))


def kept_then_cropped(data: bytes, side: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """A central crop of nine tenths by way of the kept picture, and straight from the original by Pillow."""
    image = decode_rgb(data)
    size = np.array([image.size])
    kept = kept_sizes(size.astype(float), side, (0.9, 1.0), margin)
    crop = np.array([[0.025, 0.025, 0.95, 0.95]])
    batch = packed([stage(data, *kept[0].tolist())], in_pixels(crop, kept))
    by_way = crop_and_normalise(batch, side, "bicubic", ZEROS, ONES)[0].permute(1, 2, 0).numpy() * 255
    left, top, right, bottom = (crop[0] * np.tile(size[0], 2)).tolist()
    box = (left, top, left + right, top + bottom)
    return by_way, np.asarray(image.resize((side, side), Image.Resampling.BICUBIC, box=box))


def test_keeping_a_photograph_smaller_does_not_soften_its_crops(real_data) -> None:
    found: list[tuple[float, float]] = []
    for path in sorted((real_data / "coco_sample" / "images").glob("*.jpg"))[:40]:
        by_way, direct = kept_then_cropped(path.read_bytes(), 160, 1.125)
        found.append((sharpness(by_way) / sharpness(direct), np.abs(by_way - direct).mean()))
    sharp, error = np.mean(found, 0)
    assert 0.94 < sharp < 1.03 and error < 2.5


def test_keeping_a_drawing_smaller_does_not_soften_it(make_picture) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (300, 300, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.resize((600, 600), Image.Resampling.BICUBIC).save(buffer, "PNG")
    by_way, direct = kept_then_cropped(buffer.getvalue(), 160, 1.125)
    assert 0.9 < sharpness(by_way) / sharpness(direct) < 1.07
