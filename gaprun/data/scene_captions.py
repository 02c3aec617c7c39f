"""Five captions of a drawn scene, each telling only part of it, from fixed templates and a small vocabulary.

Like people's captions they leave out most attributes, and the general ones are shared by many pictures.
"""

from __future__ import annotations

import random

from gaprun.data.scene import Scene, Thing, pick

TEMPLATES = ["a picture of a {}", "there is a {} here", "a {} in the picture"]
_NUMBERS = {1: "one shape", 2: "two shapes", 3: "three shapes"}
_PLACES = {
    "sky": ("in the sky", "up in the blue sky"),
    "grass": ("on the grass", "on green grass"),
    "sand": ("on the sand", "on a sandy beach"),
    "snow": ("in the snow", "on white snow"),
    "night": ("at night", "in the dark night"),
    "wood": ("on a wooden table", "on wood"),
}


def captions_of(scene: Scene, rng: random.Random) -> list[str]:
    """Five different captions in random order; at most 22 words of the closed vocabulary each."""
    captions: list[str] = []
    writers = (_pair, _detailed, _joined, _placed, _general)
    for writer in writers:
        caption = writer(scene, rng)
        while caption in captions:
            caption = pick(rng, writers)(scene, rng)
        captions.append(caption)
    order = sorted((rng.random(), k) for k in range(len(captions)))
    return [captions[k] for _, k in order]


def _pair(scene: Scene, rng: random.Random) -> str:
    """How two things lie to each other, with their colours."""
    if len(scene.things) == 1:
        return _detailed(scene, rng)
    a, b = _two(scene, rng)
    dx, dy = b.x - a.x, b.y - a.y
    if abs(dx) > abs(dy):
        side = "left" if dx > 0 else "right"
        relation = pick(rng, (f"{side} of", f"to the {side} of"))
    else:
        relation = pick(rng, ("above", "over") if dy > 0 else ("below", "under"))
    pair = f"{_noun(a)} {relation} {_noun(b)}"
    return f"{pair} {_place(scene, rng)}" if rng.random() < 0.5 else pair


def _detailed(scene: Scene, rng: random.Random) -> str:
    """One thing with its size and texture, mostly with the background."""
    thing = pick(rng, scene.things)
    texture = "" if thing.texture == "plain" else f"{thing.texture} "
    noun = _article(f"{thing.size} {texture}{thing.colour} {thing.shape}")
    return f"{noun} {_place(scene, rng)}" if rng.random() < 0.9 else noun


def _joined(scene: Scene, rng: random.Random) -> str:
    """Two things named side by side, or a thing and the background."""
    if len(scene.things) == 1:
        return f"{_noun(scene.things[0])} {_place(scene, rng)}"
    a, b = _two(scene, rng)
    joined = f"{_noun(a)} {pick(rng, ('and', 'with', 'next to'))} {_noun(b)}"
    return f"{joined} {_place(scene, rng)}" if rng.random() < 0.8 else joined


def _placed(scene: Scene, rng: random.Random) -> str:
    """One coloured thing and where in the picture it is."""
    thing = pick(rng, scene.things)
    across = "left" if thing.x < 0.4 else "right" if thing.x > 0.6 else ""
    down = "top" if thing.y < 0.4 else "bottom" if thing.y > 0.6 else ""
    if across and down:
        return f"{_noun(thing)} in the {down} {across} corner"
    return f"{_noun(thing)} {f'on the {across}' if across else f'at the {down}' if down else 'in the middle'}"


def _general(scene: Scene, rng: random.Random) -> str:
    """What many pictures share: a shape alone, a count, a pair of colours."""
    thing = pick(rng, scene.things)
    chance = rng.random()
    if chance < 0.7:
        return pick(rng, TEMPLATES).format(thing.shape)
    if chance < 0.85:
        return f"{_NUMBERS[len(scene.things)]} {_place(scene, rng)}"
    colours = sorted({one.colour for one in scene.things})
    return f"something {' and '.join(colours[:2])} {_place(scene, rng)}"


def _two(scene: Scene, rng: random.Random) -> tuple[Thing, Thing]:
    first = int(rng.random() * len(scene.things))
    second = (first + 1 + int(rng.random() * (len(scene.things) - 1))) % len(scene.things)
    return scene.things[first], scene.things[second]


def _place(scene: Scene, rng: random.Random) -> str:
    return pick(rng, _PLACES[scene.background])


def _noun(thing: Thing) -> str:
    return _article(f"{thing.colour} {thing.shape}")


def _article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
