"""How a table fits the page of a fresh LaTeX article: size of letters, widths of columns, which stand below others."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile

from gaprun.tables.tex import BOLD, longest_word, width
from gaprun.tables.value import Cell, Table

TEXT = 345.0  # points: article's text at 10 points
SIZES = (("", 1.0, 12.0), (r"\small", 0.925, 11.0), (r"\footnotesize", 0.85, 9.5))  # scale, height of a line
GAP = 8.0  # points between columns
LEAST = 60.0  # of a column of sentences at 10 points
NAMES = 0.4  # share of the width that names may take where columns stand below each other


@dataclass(frozen=True)
class PageColumn:
    """One column of numbers or of sentences (`wraps`); `wide`: of its longest cell, at 10 points."""

    place: int
    part: str
    cells: tuple[Cell, ...]
    wraps: bool
    wide: float
    least: float


@dataclass(frozen=True)
class PageLayout:
    """The size of letters, the width of each column at that size, and the columns of each block."""

    name: str
    scale: float
    line: float
    widths: tuple[float, ...]
    blocks: tuple[tuple[int, ...], ...]


def laid_out(table: Table) -> tuple[list[PageColumn], PageLayout]:
    """In the largest letters in which all columns stand side by side, as they are or else with broken sentences.

    Where there are none, in the smallest, in blocks.
    """
    columns = list(_columns(table))
    gaps = GAP * (len(columns) - 1)
    for breaks in (False, True):
        for name, scale, line in SIZES:
            widths = _widths(columns, TEXT / scale if breaks else math.inf, 0.0, scale)
            if sum(widths) + gaps <= TEXT:
                return columns, PageLayout(name, scale, line, tuple(widths), (tuple(range(len(columns))),))
    widths = _widths(columns, TEXT / scale, NAMES, scale)
    return columns, PageLayout(name, scale, line, tuple(widths), tuple(_blocks(columns, widths)))


def blocks(table: Table) -> int:
    """In how many blocks of columns the table stands below itself on a page."""
    return len(laid_out(table)[1].blocks)


def _columns(table: Table) -> Iterator[PageColumn]:
    """What stands beside each other: the lines of a cell of numbers; those of a cell of words stay in it."""
    for place, head in enumerate(table.heads):
        cells = [row[place] for row in table.rows]
        parts = max([1, *(len(cell.lines) for cell in cells)]) if head.right else 1
        for part in range(parts):
            name = head.parts[part] if head.right and part < len(head.parts) else ""
            own = cells
            if head.right:
                own = [
                    Cell((cell.lines[part] if part < len(cell.lines) else "",), "" if part else cell.style)
                    for cell in cells
                ]
                if part and not any(cell.lines[0] for cell in own):
                    continue
            texts = [line for cell in own for line in cell.lines]
            heads = [name, *(head.text.split("\n") if not part else ())]
            bold = BOLD if any(cell.style == "best" for cell in own) else 1.0
            longest = max([0.0, *map(width, heads)])
            wide = max([longest, *(bold * width(text) for text in texts)])
            least = max([longest, *(bold * longest_word(text) for text in texts)])
            yield PageColumn(place, name, tuple(own), not head.right, wide, least)


def _widths(columns: Sequence[PageColumn], room: float, names: float, scale: float) -> list[float]:
    """Points at `scale` of each column of `room` at 10 points: what its cells need, and for words what is left.

    names: the share of the room that they get at least.
    """
    found = [column.wide for column in columns]
    words = [place for place, column in enumerate(columns) if column.wraps]
    gaps = GAP / scale * (len(columns) - 1)
    left = room - gaps - sum(found[place] for place in range(len(columns)) if place not in words)
    left = max(left, names * room)
    for number, place in enumerate(sorted(words, key=lambda place: found[place])):
        share = max(LEAST, left / (len(words) - number), columns[place].least)
        found[place] = min(found[place], share)
        left -= found[place]
    return [scale * one for one in found]


def _blocks(columns: Sequence[PageColumn], widths: Sequence[float]) -> list[tuple[int, ...]]:
    """Columns that fit beside those that name the rows, which stand in each block; those of one head stay together
    where they fit.
    """
    named = sum(1 for _ in takewhile(lambda column: column.wraps, columns))
    first = max((n for n in range(1, named + 1) if sum(widths[:n]) + GAP * n <= TEXT / 2), default=1)
    lead = list(range(first))
    start = sum(widths[:first]) + GAP * (first - 1)
    found, used = [list(lead)], start
    for _, own in groupby(range(first, len(columns)), key=lambda place: columns[place].place):
        unit = list(own)
        whole = sum(widths[place] + GAP for place in unit)
        if len(found[-1]) > first and used + whole > TEXT and start + whole <= TEXT:
            found.append(list(lead))
            used = start
        for place in unit:
            if len(found[-1]) > first and used + GAP + widths[place] > TEXT:
                found.append(list(lead))
                used = start
            found[-1].append(place)
            used += GAP + widths[place]
    return [tuple(block) for block in found]
