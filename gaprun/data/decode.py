"""From the bytes of a picture file to pixels: RGB pictures, and the small squared form that training keeps.

Colours follow open_clip's own loading (`convert("RGB")`, EXIF rotation ignored), so that a model sees here
what it saw elsewhere; 16-bit greyscale is scaled to 8 bits first, which plain `convert` would clip to white.
"""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from gaprun.data.errors import DamagedSample

Pixels = npt.NDArray[np.uint8]


def open_image(data: bytes) -> Image.Image:
    """The picture with its header read and its pixels not yet decoded; DamagedSample where no format fits."""
    try:
        return Image.open(io.BytesIO(data))
    except Exception as error:  # Pillow's plug-ins raise many types on hostile bytes
        raise DamagedSample(None, None, _reason(error, data)) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Decode all pixels of `image` and bring them to 8-bit RGB. Raises DamagedSample."""
    try:
        image.load()
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # the same colours as the direct way, which warns
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:
        raise DamagedSample(None, None, _reason(error, None)) from error


def decode_rgb(data: bytes) -> Image.Image:
    """The whole picture as 8-bit RGB at its own size. Raises DamagedSample."""
    return to_rgb(open_image(data))


def stage(data: bytes, size: int) -> Pixels:
    """The whole picture squashed to `size` x `size` (bicubic, antialiased): uint8 (size, size, 3), 0..255.

    A large JPEG is decoded at a reduced scale (never below twice the target), which is several times faster and
    differs by rounding only. Raises DamagedSample.
    """
    import torch

    image = open_image(data)
    pixels = _fast_jpeg(data, size) if image.format == "JPEG" and image.mode in ("RGB", "L") else None
    if pixels is None:
        pixels = np.array(to_rgb(image), dtype=np.uint8)
    if pixels.shape == (size, size, 3):
        return pixels
    # Within one grey level of Pillow's own resize, and several times faster.
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    squashed = torch.nn.functional.interpolate(planes, (size, size), mode="bicubic", antialias=True)
    return np.ascontiguousarray(squashed[0].permute(1, 2, 0).numpy())


def _fast_jpeg(data: bytes, size: int) -> Pixels | None:
    """Pillow's pixels at nearly twice its speed, at least 2 * size a side where the picture has so many; None for
    damage, whose reason Pillow words better."""
    import simplejpeg

    try:
        return simplejpeg.decode_jpeg(data, "RGB", min_height=2 * size, min_width=2 * size)
    except ValueError:
        return None


def _reason(error: Exception, data: bytes | None) -> str:
    if data is not None and not data:
        return "it is empty"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "no known picture format" if "cannot identify image" in text else text
