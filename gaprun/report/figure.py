"""A figure as a value: panels of marks, with titles and units. The page, paper and CSV are drawn from it alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["line", "points", "both", "words"]
Bounds = tuple[Sequence[float], Sequence[float]]  # the low ends and the high ends


@dataclass(frozen=True)
class Ink:
    """How a mark looks: a colour of `palette`, a symbol, the dash of its line."""

    colour: str
    symbol: str = "circle"
    dash: Literal["solid", "dash"] = "solid"


@dataclass(frozen=True)
class Mark:
    """One series: x and y (N,), ends of intervals along either, N texts to point at (`words` writes them).

    faint: a single run behind its mean; listed: it stands in the legend under `name`; size: of symbols in pixels (a
    faint one's line is thin).
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    ink: Ink
    kind: Kind = "points"
    x_ends: Bounds | None = None
    y_ends: Bounds | None = None
    text: Sequence[str] = ()
    faint: bool = False
    listed: bool = False
    size: float = 9


@dataclass(frozen=True)
class Axis:
    """What an axis shows, with its unit. `names`: the words at given places instead of numbers; zero: a line there.

    margin: the band from its negative to it is shaded.
    """

    words: str
    log: bool = False
    zero: bool = False
    names: Sequence[tuple[float, str]] = ()
    ends: tuple[float, float] | None = None  # on a logarithmic axis too the values themselves
    margin: float | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes with its marks."""

    title: str
    x: Axis
    y: Axis
    marks: Sequence[Mark]


@dataclass(frozen=True)
class Figure:
    """Panels in reading order, `columns` of them side by side where there is room for `least` pixels each.

    name: of files and of the page's elements; alt: what it says, for those who cannot see it; shared: the axes that all
    panels have in common; switches: the axes whose scale the reader can change; square: both axes to one scale;
    hover: the mark that is pointed at stands out; where: the set-up, in a few words; note: how to read it, beside it.
    """

    name: str
    title: str
    alt: str
    panels: Sequence[Panel]
    columns: int = 1
    least: int = 250
    height: int = 300  # pixels of one panel
    shared: Sequence[Literal["x", "y"]] = ()
    switches: Sequence[Literal["x", "y"]] = ()
    square: bool = False
    hover: bool = False
    where: str = ""
    note: str = ""


def as_json(figure: Figure) -> str:
    """What the page's script draws from; numbers to five digits, what is not finite is null."""
    document = {
        "name": figure.name,
        "title": f"{figure.title} ({figure.where})" if figure.where else figure.title,
        "columns": figure.columns,
        "least": figure.least,
        "height": figure.height,
        "shared": list(figure.shared),
        "square": figure.square,
        "hover": figure.hover,
        "panels": [
            {
                "title": panel.title,
                "x": _axis(panel.x),
                "y": _axis(panel.y),
                "marks": [_mark(mark) for mark in panel.marks],
            }
            for panel in figure.panels
        ],
    }
    text = json.dumps(document, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c")  # a label must not be able to end the script element


def numbers(values: Sequence[float], digits: int = 5) -> list[float | None]:
    """Values to so many significant digits; what is not finite becomes null."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values]


HEADS = ("panel", "series", "x", "x_low", "x_high", "y", "y_low", "y_high", "text")


def rows(figure: Figure) -> Iterator[tuple[Any, ...]]:
    """The figure's numbers as they are, a row a point, under HEADS; words that only label lines are left out."""
    for panel in figure.panels:
        if (size := panel.x.margin) is not None:
            yield panel.title, "margin", 0.0, -size, size, None, None, None, ""
        for mark in panel.marks:
            if mark.kind == "words":
                continue
            for i, (x, y) in enumerate(zip(mark.x, mark.y, strict=True)):
                text = mark.text[i] if mark.text else ""
                yield panel.title, mark.name, x, *_ends(mark.x_ends, i), y, *_ends(mark.y_ends, i), text


def _ends(bounds: Bounds | None, place: int) -> tuple[float | None, float | None]:
    return (bounds[0][place], bounds[1][place]) if bounds else (None, None)


def _axis(axis: Axis) -> dict[str, Any]:
    found: dict[str, Any] = {"words": axis.words}
    if axis.log:
        found["log"] = True
    if axis.zero:
        found["zero"] = True
    if axis.names:
        found["names"] = [[place, name] for place, name in axis.names]
    if axis.margin is not None:
        found["margin"] = axis.margin
    if axis.ends:
        found["ends"] = numbers(axis.ends)
    return found


def _mark(mark: Mark) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": mark.name,
        "x": numbers(mark.x),
        "y": numbers(mark.y),
        "colour": mark.ink.colour,
        "symbol": mark.ink.symbol,
        "kind": mark.kind,
        "size": mark.size,
    }
    if mark.ink.dash != "solid":
        found["dash"] = mark.ink.dash
    for key, bounds in (("x_ends", mark.x_ends), ("y_ends", mark.y_ends)):
        if bounds:
            found[key] = [numbers(bounds[0]), numbers(bounds[1])]
    if mark.text:
        found["text"] = list(mark.text)
    for flag in ("faint", "listed"):
        if getattr(mark, flag):
            found[flag] = True
    return found
