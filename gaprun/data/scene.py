"""What a drawn scene contains, before any pixel or word: one to three things before one of six backgrounds.

Every choice comes from `random.Random(...).random()` alone, whose sequence Python promises to keep.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")
COLOUR_NAMES = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black")
RADII = {"small": 0.15, "medium": 0.215, "large": 0.3}
TEXTURES = ("plain", "plain", "plain", "plain", "striped", "checked")
BACKGROUNDS = ("sky", "grass", "sand", "snow", "night", "wood")

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Thing:
    """One shape: what captions may say (shape, colour, size, texture) and where and how it is drawn."""

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float
    radius: float
    angle: float
    tint: tuple[int, int, int]
    phase: int


@dataclass(frozen=True)
class Scene:
    """A background (with its variant) and the things before it."""

    background: str
    variant: int
    things: tuple[Thing, ...]


def pick(rng: random.Random, options: Sequence[Choice]) -> Choice:
    """One of `options`, uniformly."""
    return options[int(rng.random() * len(options))]


def between(rng: random.Random, low: float, high: float) -> float:
    """A uniform number in [low, high)."""
    return low + (high - low) * rng.random()


def compose(rng: random.Random, shape: str | None = None) -> Scene:
    """A random scene of 1-3 things; with `shape`, of one thing of that shape, never small."""
    background = pick(rng, BACKGROUNDS)
    variant = int(rng.random() * 16)
    if shape is not None:
        size = pick(rng, ("medium", "large"))
        return Scene(background, variant, (_thing(rng, shape, size, _spot(rng, RADII[size])),))
    count = pick(rng, (1, 1, 2, 2, 2, 3))
    sizes = _sizes(rng, count)
    spots = _spots(rng, [RADII[size] for size in sizes])
    shapes = [pick(rng, SHAPES) for _ in range(count)]
    things = [_thing(rng, *args) for args in zip(shapes, sizes, spots, strict=True)]
    return Scene(background, variant, tuple(things))


def _sizes(rng: random.Random, count: int) -> list[str]:
    """Sizes that fit side by side: beside a large thing only a small one, of three things one small at least."""
    if count == 1:
        return [pick(rng, tuple(RADII))]
    first = pick(rng, tuple(RADII)) if count == 2 else pick(rng, ("small", "medium"))
    second = "small" if first == "large" else pick(rng, ("small", "medium"))
    return [first, second, "small"][:count]


def _spot(rng: random.Random, radius: float) -> tuple[float, float]:
    margin = radius + 0.03
    return between(rng, margin, 1 - margin), between(rng, margin, 1 - margin)


def _spots(rng: random.Random, radii: list[float]) -> list[tuple[float, float]]:
    """Centres at which the things do not overlap; of 200 drawn layouts the first that fits, else the best."""
    best, widest = [], -math.inf
    for _ in range(200):
        spots = [_spot(rng, radius) for radius in radii]
        slack = min(
            (
                math.dist(spots[i], spots[j]) / (radii[i] + radii[j])
                for i in range(len(radii))
                for j in range(i)
            ),
            default=math.inf,
        )
        if slack > widest:
            best, widest = spots, slack
        if slack >= 1.08:
            break
    return best


def _thing(rng: random.Random, shape: str, size: str, spot: tuple[float, float]) -> Thing:
    colour, texture = pick(rng, COLOUR_NAMES), pick(rng, TEXTURES)
    tint = (int(between(rng, -7, 8)), int(between(rng, -7, 8)), int(between(rng, -7, 8)))
    radius = RADII[size] * between(rng, 0.94, 1.06)
    phase = int(rng.random() * 4)
    return Thing(shape, colour, size, texture, *spot, radius, between(rng, -0.2, 0.2), tint, phase)
