"""Pixels of the drawn scenes: shapes, textures and backgrounds, antialiased by drawing four times as large.

Coordinates are fractions of the picture's side (0..1, y downwards), so a scene looks the same at any size.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from gaprun.data.scene import BACKGROUNDS, Scene, Thing

COLOURS = {
    "red": (214, 30, 36),
    "orange": (247, 138, 22),
    "yellow": (250, 226, 40),
    "green": (24, 150, 52),
    "blue": (34, 72, 214),
    "purple": (132, 38, 168),
    "pink": (255, 130, 190),
    "brown": (122, 72, 28),
    "white": (248, 248, 248),
    "black": (18, 18, 20),
}
_OVER = 4  # supersampling in each direction
_VARIANTS = 16  # of each background


def _circle(radius: float = 1.0, x: float = 0.0) -> list[tuple[float, float]]:
    steps = [2 * math.pi * k / 32 for k in range(32)]
    return [(x + radius * math.cos(t), radius * math.sin(t)) for t in steps]


def _heart() -> list[tuple[float, float]]:
    points = []
    for k in range(40):
        t = 2 * math.pi * k / 40
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3 * 1.05, -y / 15.5 - 0.12))
    return points


def _star() -> list[tuple[float, float]]:
    radii = (1.15, 0.45)
    angles = [math.pi * k / 5 - math.pi / 2 for k in range(10)]
    return [(radii[k % 2] * math.cos(t), radii[k % 2] * math.sin(t) + 0.08) for k, t in enumerate(angles)]


_W = 0.34  # half the width of the cross's arms
# Each shape is an outer polygon and, for the ring and the moon, a second one that is cut out of it.
_OUTLINES: dict[str, list[list[tuple[float, float]]]] = {
    "circle": [_circle()],
    "square": [[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)]],
    "triangle": [[(0, -1.0), (1.08, 0.82), (-1.08, 0.82)]],
    "star": [_star()],
    "heart": [_heart()],
    "cross": [
        [(-_W, -1), (_W, -1), (_W, -_W), (1, -_W), (1, _W), (_W, _W)]
        + [(_W, 1), (-_W, 1), (-_W, _W), (-1, _W), (-1, -_W), (-_W, -_W)]
    ],
    "ring": [_circle(), _circle(0.5)],
    "moon": [_circle(1.08), _circle(0.92, 0.62)],
}


def draw(scene: Scene, size: int) -> Image.Image:
    """The scene as an RGB picture of `size` x `size` pixels; equal scenes give equal pixels."""
    kind = BACKGROUNDS.index(scene.background)
    image = Image.fromarray(_backgrounds(size)[kind, scene.variant % _VARIANTS])
    for thing in scene.things:
        _draw_thing(image, thing, size)
    return image


def encode_png(image: Image.Image) -> bytes:
    """Lossless PNG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def _draw_thing(image: Image.Image, thing: Thing, size: int) -> None:
    """Paste the thing's rim and then its textured body, each through an antialiased mask."""
    side = int(2.8 * thing.radius * size) + 3
    left, top = int(thing.x * size - side / 2), int(thing.y * size - side / 2)
    centre = ((thing.x * size - left) * _OVER, (thing.y * size - top) * _OVER)
    base = tuple(min(255, max(0, c + d)) for c, d in zip(COLOURS[thing.colour], thing.tint, strict=True))
    light = 0.3 * base[0] + 0.59 * base[1] + 0.11 * base[2] > 110
    rim, radius = 0.016 * size, thing.radius * size
    outline = _mask(thing, side, centre, radius + rim, cut=radius - rim)
    image.paste((28, 28, 30) if light else (240, 240, 240), (left, top), outline)
    body = _mask(thing, side, centre, radius - rim / 3, cut=radius + rim / 3)
    image.paste(base, (left, top), body)
    if thing.texture != "plain":
        second = tuple(int(0.3 * c + 0.7 * (20 if light else 245)) for c in base)
        pattern = _pattern(thing.texture, side, size, thing.phase)
        image.paste(second, (left, top), Image.fromarray(np.asarray(body) * (pattern > 0)))


def _mask(thing: Thing, side: int, centre: tuple[float, float], radius: float, cut: float) -> Image.Image:
    """Coverage (0..255) of the shape at `radius` pixels with its hole at `cut`, as a `side` x `side` tile."""
    tile = Image.new("L", (side * _OVER, side * _OVER))
    pen = ImageDraw.Draw(tile)
    cos, sin = math.cos(thing.angle), math.sin(thing.angle)
    for ink, scale, polygon in zip((255, 0), (radius, cut), _OUTLINES[thing.shape], strict=False):
        k = scale * _OVER
        turned = [(x * cos - y * sin, x * sin + y * cos) for x, y in polygon]
        pen.polygon([(centre[0] + k * x, centre[1] + k * y) for x, y in turned], ink)
    return tile.reduce(_OVER)


@lru_cache(maxsize=1024)
def _pattern(texture: str, side: int, size: int, phase: int) -> np.ndarray:
    """1 where the second colour goes, uint8 (side, side): diagonal stripes, or checks."""
    unit = size / 32
    rows, columns = np.indices((side, side)) / unit
    if texture == "striped":
        return (((rows + columns + phase) % 4) < 2).astype(np.uint8)
    return ((((rows + phase) % 3) < 2) & (((columns + phase) % 3) < 2)).astype(np.uint8)


@lru_cache(maxsize=4)
def _backgrounds(size: int) -> np.ndarray:
    """All backgrounds, uint8 (kinds, variants, size, size, 3), from fixed generators."""
    kinds = range(len(BACKGROUNDS))
    return np.stack([[_background(kind, size, variant) for variant in range(_VARIANTS)] for kind in kinds])


def _background(kind: int, size: int, variant: int) -> np.ndarray:
    rng = np.random.default_rng((kind, variant))
    fall = np.linspace(0, 1, size)[:, None, None]
    across = np.linspace(0, 1, size)[None, :, None]
    grain = rng.normal(0, 1, (size, size, 1))
    plain = np.zeros((size, size, 3))
    name = BACKGROUNDS[kind]
    if name == "sky":
        pixels = plain + (120, 185, 240) + fall * (70, 45, 15) + 2 * grain
    elif name == "grass":
        pixels = plain + (96, 176, 66) + 16 * grain * (1, 1, 0.6)
    elif name == "sand":
        pixels = plain + (222, 192, 138) + 9 * grain + 8 * np.sin(14 * fall + 3 * across + variant)
    elif name == "snow":
        pixels = plain + (232, 238, 246) + 4 * grain - fall * (14, 10, 4)
    elif name == "night":
        stars = (rng.random((size, size, 1)) < 0.02) * 170
        pixels = plain + (14, 18, 58) + fall * (14, 12, 30) + stars
    else:
        planks = ((np.arange(size) * 4 // size) % 2)[:, None, None] * 16
        seams = ((np.arange(size) * 4 % size) < 4)[:, None, None] * 34
        pixels = plain + (158, 110, 66) + planks - seams + 5 * np.sin(40 * across + 9 * fall + variant)
    return np.clip(pixels + rng.normal(0, 4), 0, 255).astype(np.uint8)
