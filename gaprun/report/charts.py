"""Charts as plotly.js specifications (data and layout), drawn by the page's script; one look for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]
# Okabe and Ito's colours (told apart by colour-blind readers), then darker ones; symbols change as well.
COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#8C564B", "#6A3D9A", "#B15928",
)  # fmt: skip
SYMBOLS = (
    "circle",
    "square",
    "diamond",
    "triangle-up",
    "cross",
    "x",
    "star",
    "triangle-down",
    "pentagon",
    "hexagon",
)
IMAGE, TEXT = "#0072B2", "#D55E00"


@dataclass(frozen=True)
class Chart:
    """One chart: its spec, what it says for those who cannot see it, and the axes whose scale can be switched."""

    name: str
    alt: str
    data: Sequence[Spec]
    layout: Spec
    switches: tuple[str, ...] = ()
    title: str = ""


def layout(x: str, y: str, **more: Any) -> Spec:
    """The common look: legend below, thin grid, room for phone widths."""
    axis = {
        "gridcolor": "#e8ecef",
        "zerolinecolor": "#c5cdd4",
        "automargin": True,
        "linecolor": "#8a959f",
        "ticks": "outside",
    }
    result: Spec = {
        "xaxis": {**axis, "title": {"text": x, "standoff": 8}, **more.pop("xaxis", {})},
        "yaxis": {**axis, "title": {"text": y, "standoff": 8}, **more.pop("yaxis", {})},
        "margin": {"l": 52, "r": 12, "t": 12, "b": 46},
        "legend": {"orientation": "h", "y": -0.24, "x": 0, "font": {"size": 11}},
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#1c2733"},
        "plot_bgcolor": "#ffffff",
        "paper_bgcolor": "#ffffff",
        "hovermode": "closest",
    }
    return result | more


def right_axis(look: Spec, words: str, colour: str) -> Spec:
    """`look` with a second y axis (y2) on the right, from zero, in its curve's colour."""
    title = {"text": words, "standoff": 8}
    own = {
        "overlaying": "y",
        "side": "right",
        "showgrid": False,
        "rangemode": "tozero",
        "color": colour,
        "tickmode": "auto",
    }
    return look | {"yaxis2": {**look["yaxis"], **own, "title": title}}


def style(index: int) -> tuple[str, str]:
    """Colour and symbol of the `index`-th row."""
    return COLOURS[index % len(COLOURS)], SYMBOLS[index % len(SYMBOLS)]


def numbers(values: Sequence[float], digits: int = 5) -> list[float | None]:
    """Values to so many significant digits; what is not finite becomes null."""
    return [float(f"{v:.{digits}g}") if math.isfinite(v) else None for v in values]


def curves(paths: Mapping[str, Sequence[Sequence[tuple[float, float]]]]) -> list[Spec]:
    """For each row a thick mean line over thin lines, one a run; each run is a list of (x, y)."""
    data: list[Spec] = []
    for index, (name, runs) in enumerate(paths.items()):
        colour, _ = style(index)
        if len(runs) > 1:
            data += [_line(run, name, colour, 1, 0.3, legend=False) for run in runs]
        shared = set.intersection(*({x for x, _ in run} for run in runs))
        sums: dict[float, float] = dict.fromkeys(sorted(shared), 0.0)
        for run in runs:
            for x, y in run:
                if x in sums:
                    sums[x] += y / len(runs)
        data.append(_line(list(sums.items()), name, colour, 2.5, 1.0, legend=True))
    return data


def points(rows: Mapping[str, Sequence[tuple[float, float, str]]], families: Mapping[str, str]) -> list[Spec]:
    """For each row its runs as small points (x, y, hover text) and their mean as a large one.

    Rows of one family (by row) share a look and an entry of the legend.
    """
    data: list[Spec] = []
    looks = {family: style(index) for index, family in enumerate(dict.fromkeys(families[r] for r in rows))}
    named: set[str] = set()
    for row, runs in rows.items():
        name = families[row]
        colour, symbol = looks[name]
        x, y, text = [run[0] for run in runs], [run[1] for run in runs], [run[2] for run in runs]
        if len(runs) > 1:
            small = {"color": colour, "symbol": symbol, "size": 6, "opacity": 0.45}
            data.append(
                _markers(x, y, name, small) | {"text": text, "showlegend": False, "legendgroup": name}
            )
        big = {"color": colour, "symbol": symbol, "size": 12, "line": {"color": "#ffffff", "width": 1}}
        mean = _markers([sum(x) / len(x)], [sum(y) / len(y)], name, big)
        shown = name not in named
        named.add(name)
        data.append(
            mean | {"legendgroup": name, "showlegend": shown, "text": [f"{row}, mean of {len(runs)}"]}
        )
    return data


def straight(x: Sequence[float], y: Sequence[float], name: str, colour: str, dash: str = "dash") -> Spec:
    """A dashed line through given points."""
    return _line(list(zip(x, y, strict=True)), name, colour, 2, 1.0, legend=True) | {
        "line": {"color": colour, "width": 2, "dash": dash}
    }


def errors(x: Sequence[float], y: Sequence[float], spread: Sequence[float], name: str, index: int) -> Spec:
    """A line with markers and error bars of one standard deviation."""
    colour, symbol = style(index)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": numbers(x),
        "y": numbers(y),
        "error_y": {"type": "data", "array": numbers(spread), "visible": True, "thickness": 1.5},
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "symbol": symbol, "size": 9},
    }


def cloud(
    images: Sequence[Sequence[float]], texts: Sequence[Sequence[float]], names: Sequence[str]
) -> list[Spec]:
    """Two clouds in the plane with a grey line between each matched pair."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for image, text in zip(images, texts, strict=True):
        xs += [*numbers([image[0], text[0]], 4), None]
        ys += [*numbers([image[1], text[1]], 4), None]
    pairs: Spec = {
        "type": "scatter",
        "mode": "lines",
        "name": "matched pairs",
        "x": xs,
        "y": ys,
        "hoverinfo": "skip",
    }
    pairs["line"] = {"color": "rgba(90,100,110,0.22)", "width": 1}
    data = [pairs]
    for rows, name, colour, symbol in (
        (images, "images", IMAGE, "circle"),
        (texts, "texts", TEXT, "diamond"),
    ):
        marker = {"color": colour, "symbol": symbol, "size": 5, "opacity": 0.8}
        data.append(
            _markers([r[0] for r in rows], [r[1] for r in rows], name, marker) | {"text": list(names)}
        )
    return data


def _line(
    run: Sequence[tuple[float, float]], name: str, colour: str, width: float, opacity: float, legend: bool
) -> Spec:
    spec: Spec = {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "legendgroup": name,
        "showlegend": legend,
        "x": numbers([x for x, _ in run]),
        "y": numbers([y for _, y in run]),
        "line": {"color": colour, "width": width},
        "opacity": opacity,
    }
    return spec if legend else spec | {"hoverinfo": "skip"}


def _markers(x: Sequence[float], y: Sequence[float], name: str, marker: Spec) -> Spec:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": numbers(x),
        "y": numbers(y),
        "marker": marker,
    }
