"""From picture files to samples: checked, maybe made smaller."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import ExifTags, Image

from gaprun.data.decode import MAX_BYTES, is_sixteen_bit, open_image, to_rgb
from gaprun.data.errors import DamagedSample
from gaprun.data.shards import Sample
from gaprun.data.write import ItemOutcome

EXTENSIONS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp"}
_GREY = {"1", "L", "LA", "I", "I;16", "F"}


@dataclass(frozen=True)
class Picture:
    """One picture to write: its file, its key in the shards, and what is known about it."""

    path: str
    key: str
    captions: tuple[str, ...] = ()
    label: int | None = None
    id: int | str | None = None


def picture_outcome(picture: Picture, size: int | None, quality: int) -> ItemOutcome:
    """Read and check one picture: its own bytes, or as JPEG with its shorter side brought down to `size`.

    Left out and counted: `unreadable`, `undecodable`, `too_large`, `float_pixels`, `integer_pixels`. Kept and counted:
    `greyscale`, `alpha`, `cmyk` (RGB when read), `sixteen_bit` (scaled when read), `animated` (its first frame),
    `turned` (EXIF says so; shown as stored), `recoded` (a format other than JPEG, PNG, WebP, now PNG), `not_enlarged`
    (already below `size`).
    """
    name = os.path.basename(picture.path)
    try:
        if os.stat(picture.path).st_size > MAX_BYTES:
            return ItemOutcome(None, ("too_large",), name)
        data = Path(picture.path).read_bytes()
    except OSError:
        return ItemOutcome(None, ("unreadable",), name)
    try:
        image = open_image(data)
        reasons = _remarks(image)
        width, height = image.size
        extension = EXTENSIONS.get(image.format or "")
        if size is not None and min(width, height) > size:
            image.draft("RGB", (2 * size, 2 * size))  # a JPEG decodes at a fraction, never below twice `size`
            width, height = _shrunk(width, height, size)
            data, extension = _jpeg(to_rgb(image), width, height, quality), "jpg"
        else:
            if size is not None and min(width, height) < size:
                reasons.append("not_enlarged")
            if extension is None:
                data, extension = _png(to_rgb(image)), "png"
                reasons.append("recoded")
            else:
                image.draft("RGB", (1, 1))  # a whole JPEG at an eighth shows damage at a third of the cost
                to_rgb(image)
    except DamagedSample as error:
        return ItemOutcome(None, (error.kind,), name)
    captions = list(picture.captions)
    sample = Sample(picture.key, data, extension, width, height, captions, picture.label, picture.id)
    return ItemOutcome(sample, tuple(reasons), name)


def _remarks(image: Image.Image) -> list[str]:
    """What is worth counting of a picture whose header was read."""
    reasons = []
    if is_sixteen_bit(image):
        reasons.append("sixteen_bit")
    if image.mode in _GREY:
        reasons.append("greyscale")
    elif "A" in image.mode or "transparency" in image.info:
        reasons.append("alpha")
    elif image.mode == "CMYK":
        reasons.append("cmyk")
    if _is_turned(image):
        reasons.append("turned")
    try:
        if image.format != "MPO" and getattr(image, "is_animated", False):  # a camera's MPO holds a preview
            reasons.append("animated")
    except Exception as error:  # looking for a second frame reads the file on
        raise DamagedSample(None, None, str(error)) from error
    return reasons


def _is_turned(image: Image.Image) -> bool:
    """Whether the EXIF data, where there are readable ones, ask for the picture to be turned or mirrored."""
    if "exif" not in image.info or image.format == "TIFF":  # Pillow turns a TIFF by itself
        return False
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
    except Exception:  # broken EXIF data say nothing, and the picture is whole
        return False


def file_size(path: str) -> int:
    """Length of a picture file in bytes; -1 where it cannot be looked at (reading then counts it)."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def newest(paths: Iterable[str]) -> int:
    """When the newest of the files was last changed, in ns since 1970; times in the future do not count. 0 for none."""
    now, latest = time.time_ns(), 0
    for path in paths:
        try:
            changed = os.stat(path).st_mtime_ns
        except OSError:
            continue
        latest = max(latest, changed if changed <= now else 0)
    return latest


def _shrunk(width: int, height: int, size: int) -> tuple[int, int]:
    scale = size / min(width, height)
    return max(size, round(width * scale)), max(size, round(height * scale))


def _jpeg(image: Image.Image, width: int, height: int, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()
