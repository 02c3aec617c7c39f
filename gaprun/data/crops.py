"""Which part of a picture a training step shows, and how large a decoded picture must be kept for that."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

CROP_ATTEMPTS = 10
RATIO = 4 / 3  # the widest crop, as torchvision and open_clip have it; the narrowest is its inverse
WORTHWHILE = 2 / 3  # a picture is kept smaller only where that leaves no more than this share of its pixels
Crop = Literal["random", "centre"]
Sizes = npt.NDArray[np.float64]


def random_crops(sizes: Sizes, scale: tuple[float, float], random: np.random.Generator) -> Sizes:
    """Random resized crops by torchvision's rule, for a batch at once: (n, 4) fractions left, top, width, height.

    Area uniform in `scale`, log aspect ratio uniform in [log 3/4, log 4/3], at most ten attempts, then the largest
    central crop whose ratio is within those bounds. `sizes`: (n, 2) width and height of the original pictures.
    """
    n = len(sizes)
    width, height = sizes[:, :1], sizes[:, 1:]
    area = random.uniform(*scale, size=(n, CROP_ATTEMPTS)) * width * height
    ratio = np.exp(random.uniform(-np.log(RATIO), np.log(RATIO), size=(n, CROP_ATTEMPTS)))
    corner = random.random((n, 2))
    w, h = np.round(np.sqrt(area * ratio)), np.round(np.sqrt(area / ratio))
    fits = (w > 0) & (h > 0) & (w <= width) & (h <= height)
    first = fits.argmax(1)
    rows = np.arange(n)
    w, h = w[rows, first], h[rows, first]
    none = np.asarray(~fits.any(1))
    central = np.round(_central(sizes))
    w, h = np.where(none, central[:, 0], w), np.where(none, central[:, 1], h)
    room = np.stack([sizes[:, 0] - w, sizes[:, 1] - h], 1)
    left_top = np.where(none[:, None], room / 2, np.floor(corner * (room + 1)))
    return np.concatenate([left_top, w[:, None], h[:, None]], 1) / np.tile(sizes, 2)


def _central(sizes: Sizes) -> Sizes:
    """Width and height (n, 2) of the largest crop whose ratio is allowed."""
    return np.minimum(sizes, sizes[:, ::-1] * RATIO)


def kept_sizes(
    sizes: Sizes, image_size: int, scale: tuple[float, float], margin: float, crop: Crop = "random"
) -> npt.NDArray[np.int64]:
    """Width and height (n, 2) at which decoded pictures are kept, so that no crop has to be enlarged.

    A side is as long as needed for the narrowest crop of `random_crops` (the square of `central_boxes` for `centre`) to
    have margin * image_size pixels there, and never longer than in the original (`sizes`, (n, 2) width and height);
    where that saves little, the original is kept.
    """
    if crop == "centre":
        narrowest = np.repeat(sizes.min(1, keepdims=True), 2, 1)
    else:
        area = scale[0] * sizes.prod(1, keepdims=True)
        longest = np.minimum(sizes, np.sqrt(area * RATIO))
        narrowest = np.minimum(area / longest[:, ::-1], _central(sizes))
    kept = np.minimum(np.ceil(margin * image_size * sizes / narrowest), sizes)
    saves = kept.prod(1, keepdims=True) <= WORTHWHILE * sizes.prod(1, keepdims=True)
    return np.where(saves, kept, sizes).astype(np.int64)


def central_boxes(kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Boxes (n, 4) of the largest central squares of pictures of `kept` (n, 2) size, placed as torchvision's CenterCrop
    does: an odd pixel over goes to the side that rounding half to even names."""
    side = kept.min(1, keepdims=True)
    first = np.round((kept - side) / 2).astype(np.int64)
    return np.concatenate([first, first + side], 1)


def in_pixels(crops: Sizes, kept: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Boxes (n, 4) left, top, right, bottom: `crops` (fractions) in whole pixels of pictures of `kept` (n, 2) size."""
    first = np.clip(np.round(crops[:, :2] * kept), 0, kept - 1)
    last = np.clip(np.round((crops[:, :2] + crops[:, 2:]) * kept), first + 1, kept)
    return np.concatenate([first, last], 1).astype(np.int64)
