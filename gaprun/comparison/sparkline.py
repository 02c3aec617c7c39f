"""Small curves for the terminal, drawn with block characters of an eighth of a line each."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = " ▁▂▃▄▅▆▇█"


def resample(xs: Sequence[float], ys: Sequence[float], width: int) -> list[float]:
    """`ys` over `xs` (ascending) as `width` means over equal parts of the range of xs.

    A part without points takes the value before it, so that densely recorded starts do not stretch the
    picture.
    """
    first, span = xs[0], (xs[-1] - xs[0]) or 1.0
    bins: list[list[float]] = [[] for _ in range(width)]
    for x, y in zip(xs, ys, strict=True):
        bins[min(width - 1, int((x - first) / span * width))].append(y)
    result: list[float] = []
    for values in bins:
        result.append(sum(values) / len(values) if values else result[-1])
    return result


def chart(values: Sequence[float], height: int = 3) -> list[str]:
    """`values` as `height` lines of text, top first, one character a value; the lowest value still shows."""
    low, high = min(values), max(values)
    span = high - low
    units = [1 + (round((value - low) / span * (8 * height - 1)) if span > 0 else 0) for value in values]
    return [
        "".join(BLOCKS[max(0, min(8, unit - 8 * row))] for unit in units) for row in range(height - 1, -1, -1)
    ]
