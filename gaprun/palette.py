"""The colours of every page and figure: told apart by colour-blind readers, each with its twin for a dark page.

Okabe and Ito's colours for methods, each with a symbol of its own; grey for what the others are compared with; for
ordered values a part of viridis in which more stands out more, on a light page and a dark one. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence

GREY = "#5b6875"  # the baseline, and what was published
INK, PAPER, GRID, SOFT = "#1c2733", "#ffffff", "#e3e8ec", "#5b6876"
FAINT = "#8a949e"  # thin lines behind the others, on a light page and a dark one
COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c564b", "#6a3d9a", "#999933", "#882255",
)  # fmt: skip
SYMBOLS = (
    "circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down", "pentagon", "hexagon",
)  # fmt: skip
RAMP = ("#86d549", "#4cc26c", "#25ac82", "#20938c", "#297a8e", "#34618d", "#404588", "#482576", "#440154")
IMAGE, TEXT = COLOURS[0], COLOURS[4]
_DARK_COLOURS = (
    "#4fa8e0", "#f0b32e", "#2fc497", "#e09ac0", "#f58345", "#86cdf7", "#c08b7e", "#ad8fdc", "#c2c25c", "#d4659f",
)  # fmt: skip
_DARK_RAMP = (
    "#375a8c", "#2d718e", "#24868e", "#1e9c89", "#2cb17e", "#52c569", "#87d64a", "#c2df23", "#fde725",
)  # fmt: skip
# A colour of a light page -> its twin on a dark one.
DARK = {
    GREY: "#a3afba",
    INK: "#e4eaf0",
    PAPER: "#12181f",
    GRID: "#28323c",
    SOFT: "#9fabb7",
    **dict(zip(COLOURS, _DARK_COLOURS, strict=True)),
    **dict(zip(RAMP, _DARK_RAMP, strict=True)),
}


def ordered(count: int) -> Sequence[str]:
    """Colours of `count` ordered values, the least first."""
    if count == 1:
        return [RAMP[len(RAMP) // 2]]
    return [RAMP[round(place * (len(RAMP) - 1) / (count - 1))] for place in range(count)]
