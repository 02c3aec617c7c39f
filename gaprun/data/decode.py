"""From the bytes of a picture file to pixels: RGB pictures, and the smaller form that training keeps.

Colours follow open_clip's own loading (`convert("RGB")`, EXIF rotation ignored), so that a model sees here
what it saw elsewhere; 16-bit greyscale is scaled to 8 bits first, which plain `convert` would clip to white.
Floating-point and 32-bit integer pixels are refused: nothing in the file tells their range, and `convert` would make
them black or white.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import numpy.typing as npt
from PIL import Image

from gaprun.data.errors import DamagedSample

Pixels = npt.NDArray[np.uint8]
MAX_BYTES = 2**28
_SIXTEEN_BITS = {"PNG", "PPM"}  # formats whose mode "I" holds 0..65535
# Pillow refuses pictures of twice the size at which it warns; those are counted and named, the others are used.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)  # the pixels are whole


def open_image(data: bytes) -> Image.Image:
    """The picture with its header read and its pixels not yet decoded; DamagedSample where no format fits."""
    try:
        return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise DamagedSample(None, None, _reason(error, data), "too_large") from error
    except Exception as error:  # Pillow's plug-ins raise many types on hostile bytes
        raise DamagedSample(None, None, _reason(error, data)) from error


def is_sixteen_bit(image: Image.Image) -> bool:
    """Whether the picture is greyscale of 16 bits, which `to_rgb` scales to 8."""
    return image.mode.startswith("I;16") or image.mode == "I" and image.format in _SIXTEEN_BITS


def to_rgb(image: Image.Image) -> Image.Image:
    """Decode all pixels of `image`, to 8-bit RGB. Raises DamagedSample, also for float and 32-bit integer pixels."""
    sixteen = is_sixteen_bit(image)
    if image.mode == "F":
        raise DamagedSample(None, None, "floating-point pixels of unknown range", "float_pixels")
    if image.mode == "I" and not sixteen:
        raise DamagedSample(None, None, "32-bit integer pixels of unknown range", "integer_pixels")
    try:
        image.load()
        if sixteen:
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")  # the same colours as the direct way, which warns
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:
        raise DamagedSample(None, None, _reason(error, None)) from error


def decode_rgb(data: bytes) -> Image.Image:
    """The whole picture as 8-bit RGB at its own size. Raises DamagedSample."""
    return to_rgb(open_image(data))


def stage(data: bytes, width: int, height: int) -> Pixels:
    """The whole picture brought to `width` x `height`: uint8 (height, width, 3), 0..255.

    Shrunk by a Lanczos filter, because it is resized once more when it is cropped: a bicubic one would leave the crop
    visibly softer than one straight from the original. A large JPEG is decoded at a reduced scale (never below twice
    the target), which is several times faster and differs by rounding only. Raises DamagedSample.
    """
    image = open_image(data)
    pixels = (
        _fast_jpeg(data, width, height) if image.format == "JPEG" and image.mode in ("RGB", "L") else None
    )
    if pixels is None:
        pixels = np.array(to_rgb(image), dtype=np.uint8)
    return pixels if pixels.shape == (height, width, 3) else _resize(pixels, width, height)


def _resize(pixels: Pixels, width: int, height: int) -> Pixels:
    import torch

    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    try:
        # Within one grey level of Pillow's own resize, and ten times faster.
        resized = torch.nn.functional.interpolate(planes, (height, width), mode="lanczos", antialias=True)
    except (NotImplementedError, ValueError):  # an older torch, which says it in one way or the other
        image = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
        return np.array(image, dtype=np.uint8)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def _fast_jpeg(data: bytes, width: int, height: int) -> Pixels | None:
    """Pillow's pixels at nearly twice its speed, at least twice the target a side where the picture has so many; None
    for damage, whose reason Pillow words better, and where simplejpeg is not installed."""
    try:
        import simplejpeg
    except ImportError:
        return None
    try:
        return simplejpeg.decode_jpeg(data, "RGB", min_height=2 * height, min_width=2 * width)
    except ValueError:
        return None


def _reason(error: Exception, data: bytes | None) -> str:
    if data is not None and not data:
        return "it is empty"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return "no known picture format" if "cannot identify image" in text else text
