"""Cropping and resizing a batch of training pictures as Pillow, and so measuring, resizes: antialiased, in bytes.

A filter of the output pixel's width where a picture shrinks and of the input pixel's where it grows, first along rows
and then along columns, each time rounded to whole grey levels. On the CPU that is torch's own byte resize, picture by
picture; on a GPU two matrix products of a chunk of pictures, whose weights are zero outside a picture's box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

Interpolation = Literal["bicubic", "bilinear"]
Resize = Literal["model", "bicubic", "bilinear"]
CHUNK = 64  # pictures that a GPU pads to one size at a time


@dataclass(frozen=True)
class Pictures:
    """Pictures of differing sizes in one tensor, and the box of each that is shown.

    `pixels`: uint8 (n,), RGB, a picture row by row from its place in `starts` (int64 (B,)) on; what else lies there is
    not looked at. `sizes`: int64 (B, 2) width and height; `boxes`: int64 (B, 4) left, top, right, bottom in pixels. All
    but the pixels stay in the CPU's memory.
    """

    pixels: Tensor
    starts: Tensor
    sizes: Tensor
    boxes: Tensor

    @classmethod
    def joined(cls, pixels: Tensor, sizes: Tensor, boxes: Tensor) -> Pictures:
        """Pictures that lie one after the other in `pixels`."""
        lengths = 3 * sizes.prod(1)
        return cls(pixels, lengths.cumsum(0) - lengths, sizes, boxes)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.sizes)

    def to(self, device: torch.device, non_blocking: bool = False) -> Pictures:
        """The same with the pixels on `device`."""
        return replace(self, pixels=self.pixels.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Pictures:
        """The same with the pixels in memory that a GPU copies from by itself; those of a GPU stay there."""
        return self if self.pixels.is_cuda else replace(self, pixels=self.pixels.pin_memory())

    def split(self, count: int) -> Iterator[Pictures]:
        """Parts of `count` pictures, the last one perhaps smaller."""
        for first in range(0, len(self), count):
            rows = slice(first, first + count)
            yield Pictures(self.pixels, self.starts[rows], self.sizes[rows], self.boxes[rows])


def picture_interpolation(resize: Resize, preprocessing: dict[str, Any]) -> Interpolation:
    """The filter that a recipe's `data.resize` names; `model` is what open_clip's evaluation uses for the model."""
    if resize != "model":
        return resize
    return "bilinear" if preprocessing["interpolation"] == "bilinear" else "bicubic"


def crop_and_normalise(
    pictures: Pictures, size: int, interpolation: Interpolation, mean: Tensor, std: Tensor
) -> Tensor:
    """Each picture's box at size x size: float32 (B, 3, size, size) on the pixels' device, normalised by mean and std
    (3,) given in 0..1 units."""
    device = pictures.pixels.device
    scale, shift = (1 / (255 * std)).view(3, 1, 1), (mean / std).view(3, 1, 1)
    out = torch.empty(len(pictures), 3, size, size, device=device)
    done = 0
    for part in _resized(pictures, size, interpolation):
        # While the part is in the processor's cache.
        out[done : done + len(part)].copy_(part).mul_(scale).sub_(shift)
        done += len(part)
    return out


def cropped(pictures: Pictures, size: int, interpolation: Interpolation) -> Tensor:
    """Each picture's box at size x size as bytes: uint8 (B, size, size, 3) on the pixels' device. Shown whole, they
    give what the pictures give."""
    out = torch.empty(len(pictures), size, size, 3, dtype=torch.uint8, device=pictures.pixels.device)
    done = 0
    for part in _resized(pictures, size, interpolation):
        out[done : done + len(part)].copy_(part.permute(0, 2, 3, 1))
        done += len(part)
    return out


def _resized(pictures: Pictures, size: int, interpolation: Interpolation) -> Iterator[Tensor]:
    """Whole grey levels (b, 3, size, size), part after part."""
    resize = _resize_bytes if pictures.pixels.device.type == "cpu" else _resize_batch
    return resize(pictures, size, interpolation)


def _resize_bytes(pictures: Pictures, size: int, interpolation: Interpolation) -> Iterator[Tensor]:
    """uint8 (1, 3, size, size), picture after picture."""
    origin = pictures.pixels.storage_offset()
    columns = (pictures.starts, pictures.sizes[:, 0], pictures.boxes)
    for start, width, (left, top, right, bottom) in zip(*(c.tolist() for c in columns), strict=True):
        # The box's rows as they lie in memory, copied as such: torch would copy them pixel by pixel.
        shape, strides = (bottom - top, 3 * (right - left)), (3 * width, 1)
        rows = pictures.pixels.as_strided(shape, strides, origin + start + 3 * (top * width + left))
        box = rows.contiguous().view(1, bottom - top, right - left, 3).permute(0, 3, 1, 2)
        yield interpolate(box, (size, size), mode=interpolation, antialias=True)


def _resize_batch(pictures: Pictures, size: int, interpolation: Interpolation) -> Iterator[Tensor]:
    """float32 (b, 3, size, size) of whole levels, chunk after chunk."""
    # All numbers travel at once, from pinned memory: the host does not wait for them.
    table = torch.cat([pictures.starts[:, None] // 3, pictures.sizes[:, :1], pictures.boxes], 1)
    if pictures.pixels.is_cuda:
        table = table.pin_memory()
    whole, pixels = table.to(pictures.pixels.device, non_blocking=True), pictures.pixels.view(-1, 3)
    done = 0
    for part in pictures.split(CHUNK):
        device, rows_of = part.pixels.device, whole[done : done + len(part)]
        starts, widths, boxes = rows_of[:, 0], rows_of[:, 1], rows_of[:, 2:]
        left_top, lengths = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        longest = (part.boxes[:, 2:] - part.boxes[:, :2]).amax(0).tolist()
        # Columns and rows of each box; past its end the last one again, whose weight there is zero.
        x, y = (
            left_top[:, k, None] + torch.arange(longest[k], device=device).minimum(lengths[:, k, None] - 1)
            for k in range(2)
        )
        places = starts[:, None, None] + y[:, None, :] * widths[:, None, None] + x[:, :, None]
        box = pixels[places].float()  # (b, columns, rows, 3)
        across, down = (_weights(lengths[:, k], longest[k], size, interpolation) for k in range(2))
        rows = _levels(torch.bmm(across, box.flatten(2)))  # (b, size, rows * 3)
        yield _levels(torch.einsum("byr,bxrc->bcyx", down, rows.view(len(part), size, longest[1], 3)))
        done += len(part)


def _levels(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)


def _weights(lengths: Tensor, longest: int, size: int, interpolation: Interpolation) -> Tensor:
    """float32 (b, size, longest): what each of a box's `lengths` (b,) pixels gives to each output pixel."""
    scale = (lengths / size)[:, None, None]
    centres = (torch.arange(size, device=lengths.device)[:, None] + 0.5) * scale
    pixels = torch.arange(longest, device=lengths.device)
    far = ((pixels + 0.5 - centres) / scale.clamp(min=1)).abs()
    if interpolation == "bilinear":
        weights = (1 - far).clamp(min=0)
    else:  # Keys 1981 with a = -1/2, Pillow's
        near, tail = (1.5 * far - 2.5) * far**2 + 1, ((-0.5 * far + 2.5) * far - 4) * far + 2
        weights = torch.where(far < 1, near, torch.where(far < 2, tail, 0.0))
    weights = weights * (pixels < lengths[:, None, None])
    return weights / weights.sum(2, keepdim=True)
