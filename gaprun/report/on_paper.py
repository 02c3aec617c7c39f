"""Figures as files for a paper: PDF, SVG and PNG by matplotlib, and their numbers as CSV.

A figure of up to two panels side by side is as wide as a column of text, with its panels below each other; one of more,
or with many names along its axis, is as wide as two columns.
"""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from gaprun.extras import require
from gaprun.files import check_owned, replace_folder
from gaprun.palette import DARK, GREY, GRID, INK, PAPER, SOFT
from gaprun.report.figure import HEADS, Axis, Bounds, Figure, Mark, Panel, rows
from gaprun.spreadsheet import csv_text
from gaprun.tables.names import shortened

COLUMN, TEXT = 3.15, 6.5  # inches; LaTeX's article in two columns has 3.18 and 6.5
POINTS = 7  # size of the letters
PIXEL = 1 / 130  # inches of a pixel of the page, whose letters are larger
DPI = 300
LETTER = 0.06  # inches of one in a title
NAME = 0.055  # inches of one in a name
MOST_NAME, LEAST_NAME = 0.4, 28  # of the width, and letters in any case, for the names of rows
LINE = 0.15  # inches of a line of the legend
BESIDE = 0.36  # inches beside a panel, for its numbers
MOST_DECADES = 2.6  # of a logarithmic axis that names 2 and 5 too
MOST_NAMES = 5  # along an axis in a column of text
MOST_LINES = 3  # of a panel's title
BAND, BAND_SHARE = GREY, 0.16  # colour of a margin, and how much of it shows
WAY_OUT = "name another --figures"
FORMATS = ("pdf", "svg", "png")
Theme = Literal["light", "dark"]
MARKERS = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "cross": "P",
    "x": "X",
    "star": "*",
    "triangle-down": "v",
    "pentagon": "p",
    "hexagon": "h",
}
STYLE: Any = {  # keys that matplotlib types as literals
    "font.size": POINTS,
    "axes.titlesize": POINTS,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.5,
    "axes.labelsize": POINTS,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "grid.linewidth": 0.4,
    "xtick.labelsize": POINTS - 1,
    "ytick.labelsize": POINTS - 1,
    "xtick.major.width": 0.4,
    "ytick.major.width": 0.4,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.fontsize": POINTS,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "pdf.fonttype": 42,  # letters that stay letters
    "svg.hashsalt": "gaprun",  # the same figure gives the same file
}


def check_figures(folder: Path) -> None:
    """Raise UserError where `write_figures` would: ask before the work."""
    require("matplotlib", "figures")
    if folder.exists():
        check_owned(folder, WAY_OUT)


def write_figures(figures: Iterable[Figure], folder: Path) -> list[Path]:
    """Each figure as NAME.pdf, .svg, .png and .csv in `folder`; returns what stands there.

    A folder that holds nothing but such files of gaprun's is replaced. Raises UserError where it holds anything else
    and where matplotlib is missing.
    """
    check_figures(folder)
    said: dict[str, type[Warning]] = {}

    def make(made: Path) -> None:
        for figure in figures:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                drawn = draw(figure)
                for ending in FORMATS:
                    save(drawn, made / f"{figure.name}.{ending}")
            said.update((str(one.message), one.category) for one in caught)
            (made / f"{figure.name}.csv").write_text(as_csv(figure), encoding="utf-8")

    replace_folder(folder, make, True, WAY_OUT)
    absent = [text for text in said if text.startswith("Glyph ")]
    if absent:
        letters = "".join(chr(int(text.split()[1])) for text in absent)
        warnings.warn(f"boxes in the figures of {folder}: its font has no {letters}", stacklevel=2)
    for text in said.keys() - set(absent):
        warnings.warn(text, said[text], stacklevel=2)
    return sorted(path for path in folder.iterdir() if path.suffix != ".json")


def as_csv(figure: Figure) -> str:
    """A figure's numbers, a row a point."""
    return csv_text([HEADS, *rows(figure)])


def save(drawn: Any, path: Path, theme: Theme = "light") -> None:
    """Write a drawn figure in the format of the name's ending, without the time of writing."""
    import matplotlib as mpl

    no_date = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix)
    with mpl.rc_context(STYLE):
        drawn.savefig(path, dpi=DPI, metadata=no_date, facecolor=_shade(PAPER, theme))


def draw(figure: Figure, theme: Theme = "light", width: float | None = None) -> Any:
    """A matplotlib Figure of `figure` (its title belongs into the caption), `width` inches wide."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    columns = min(figure.columns, len(figure.panels))
    columns = 1 if len(figure.panels) <= 2 else columns  # below each other in a column of text
    lines = -(-len(figure.panels) // columns)
    crowded = any(len(panel.x.names) > MOST_NAMES for panel in figure.panels)
    width = width or (COLUMN if columns == 1 and not crowded else TEXT)
    letters = int((width / columns - BESIDE) / LETTER)  # of a panel's title in one line
    ink, soft = _shade(INK, theme), _shade(SOFT, theme)
    colours = {
        "text.color": ink,
        "axes.labelcolor": ink,
        "axes.edgecolor": soft,
        "axes.facecolor": _shade(PAPER, theme),
        "xtick.color": soft,
        "ytick.color": soft,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "grid.color": _shade(GRID, theme),
    }
    with mpl.rc_context(STYLE | colours):
        entries = {mark.name for panel in figure.panels for mark in panel.marks if mark.listed}
        room = max((len(name) for name in entries), default=0) * NAME + 0.3  # of an entry of the legend
        side_by_side = max(1, int(width / room))
        above = -(-len(entries) // side_by_side) if any(panel.y.names for panel in figure.panels) else 0
        more = max(0, above - 2)  # lines of a legend over rows, whose places are close together
        height = lines * (figure.height * PIXEL + 0.35) + 0.3 + LINE * more
        canvas = Canvas(figsize=(width, height), layout="constrained")
        grid = canvas.subplots(
            lines, columns, squeeze=False, sharex="x" in figure.shared, sharey="y" in figure.shared
        )
        handles: dict[str, Any] = {}
        for place in range(lines * columns):
            axes = grid[place // columns][place % columns]
            if place >= len(figure.panels):
                axes.set_axis_off()
                continue
            panel = figure.panels[place]
            axes.set_title(textwrap.fill(panel.title, letters, max_lines=MOST_LINES, placeholder=" …"))
            panel = _named(panel, max(LEAST_NAME, int(MOST_NAME * width / NAME)))
            _axes(axes, figure, panel, place % columns == 0, place + columns >= len(figure.panels))
            for mark in panel.marks:
                drawn = _mark(axes, mark, theme)
                if mark.listed:
                    handles.setdefault(mark.name, _handle(drawn, mark))
        if len(handles) > 1:
            canvas.legend(
                list(handles.values()),
                [shortened(name, int((width - 0.4) / NAME)) for name in handles],
                loc="outside upper left",
                ncols=side_by_side,
                handletextpad=0.4,
                columnspacing=1,
            )
        _thin(canvas, figure)
    return canvas


def _thin(canvas: Any, figure: Figure) -> None:
    """Fewer numbers below panels where they would stand on each other."""
    canvas.set_layout_engine("none")  # which would come out a little different for having been asked twice
    for axes, panel in zip(canvas.axes, figure.panels, strict=False):
        for most in (3, 2, 1) if not (panel.x.log or panel.x.names) else ():
            canvas.draw_without_rendering()
            boxes = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_visible()]
            if all(left.x1 < right.x0 for left, right in pairwise(boxes)):
                break
            axes.locator_params(axis="x", nbins=most)
    canvas.set_layout_engine("constrained")


def _named(panel: Panel, most: int) -> Panel:
    """The panel with the names along its y axis in so many letters."""
    return replace(
        panel, y=replace(panel.y, names=[(at, shortened(name, most)) for at, name in panel.y.names])
    )


def _axes(axes: Any, figure: Figure, panel: Panel, first: bool, last: bool) -> None:
    axes.grid(True)
    bins = 3 if figure.columns > 3 else 5  # numbers along an axis, at most one more
    for axis, letter in ((panel.x, "x"), (panel.y, "y")):
        labelled = letter not in figure.shared or (first if letter == "y" else last)
        panels = figure.panels if letter in figure.shared else [panel]
        values = [
            v for one in panels for mark in one.marks for v in (mark.x if letter == "x" else mark.y) if v > 0
        ]
        _axis(axes, axis, letter, labelled, bins, (min(values), max(values)) if values else (1.0, 1.0))
    if figure.square:
        axes.set_aspect("equal", adjustable="datalim")


def _axis(axes: Any, axis: Axis, letter: str, labelled: bool, bins: int, ends: tuple[float, float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    own = getattr(axes, f"{letter}axis")
    if labelled and axis.words:
        own.set_label_text(axis.words)
    if axis.log:
        getattr(axes, f"set_{letter}scale")("log")
        decades = math.log10(ends[1] / ends[0])
        own.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < MOST_DECADES else (1,)))
        if sum(ends[0] <= n * 10.0**power <= ends[1] for power in range(-12, 13) for n in (1, 2, 5)) < 2:
            own.set_major_locator(MaxNLocator(bins))  # less than such numbers can tell apart
        own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        own.set_minor_formatter(NullFormatter())
    else:
        axes.locator_params(axis=letter, nbins=bins) if not axis.names else None
    if axis.zero:
        line = axes.axvline if letter == "x" else axes.axhline
        line(0, color=axes.spines["left"].get_edgecolor(), lw=0.7)
    if axis.margin is not None:
        axes.axvspan(-axis.margin, axis.margin, color=BAND, alpha=BAND_SHARE, lw=0, zorder=0)
    if axis.names:
        own.set_ticks([place for place, _ in axis.names], [name for _, name in axis.names])
        if letter == "x":
            axes.tick_params(axis="x", rotation=20)
        getattr(axes, f"set_{letter}lim")(0.3, max(place for place, _ in axis.names) + 0.7)
        own.set_tick_params(length=0)
    if axis.ends:
        getattr(axes, f"set_{letter}lim")(*axis.ends)


def _mark(axes: Any, mark: Mark, theme: Theme) -> Any:
    colour = _shade(mark.ink.colour, theme)
    if mark.kind == "words":
        from matplotlib.patheffects import withStroke

        halo = [withStroke(linewidth=2, foreground=_shade(PAPER, theme))]  # what keeps words legible on lines
        for x, y, text in zip(mark.x, mark.y, mark.text, strict=True):
            axes.annotate(
                text, (x, y), xytext=(2, 0), textcoords="offset points", va="center", fontsize=POINTS - 1.5,
                color=colour, annotation_clip=False, path_effects=halo,
            )  # fmt: skip
        return None
    symbol = mark.ink.symbol.removesuffix("-open")
    hollow = symbol != mark.ink.symbol
    line = {"points": "none"}.get(mark.kind, {"solid": "-", "dash": "--"}[mark.ink.dash])
    return axes.errorbar(
        mark.x,
        mark.y,
        xerr=_lengths(mark.x, mark.x_ends),
        yerr=_lengths(mark.y, mark.y_ends),
        color=colour,
        linestyle=line,
        linewidth=(0.5 if mark.faint else 1.2),
        marker="none" if mark.kind == "line" else MARKERS[symbol],
        markersize=mark.size * 0.5,
        markerfacecolor="none" if hollow else colour,
        markeredgewidth=0.7,
        elinewidth=0.7,
        capsize=1.2,
        capthick=0.7,
        alpha=0.4 if mark.faint else 1,
    )


def _handle(drawn: Any, mark: Mark) -> Any:
    """What stands for a mark in the legend: a symbol alone is filled and has no interval."""
    if mark.kind != "points":
        return drawn
    from matplotlib.lines import Line2D

    line = drawn.lines[0]
    return Line2D(
        [],
        [],
        color=line.get_color(),
        linestyle="none",
        marker=line.get_marker(),
        markersize=line.get_markersize(),
    )


def _lengths(values: Any, ends: Bounds | None) -> list[list[float]] | None:
    if ends is None:
        return None
    low, high = ends
    return [
        [max(0.0, v - a) for v, a in zip(values, low, strict=True)],
        [max(0.0, b - v) for v, b in zip(values, high, strict=True)],
    ]


def _shade(colour: str, theme: Theme) -> str:
    return DARK.get(colour, colour) if theme == "dark" else colour
