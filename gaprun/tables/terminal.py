"""A table for the terminal: as many columns as fit, then the next below; no name is broken inside a word, and one that
leaves no room for a column beside it loses its middle."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from gaprun.tables.names import shortened
from gaprun.tables.value import Cell, Heading, Table

GAP = 2
LEAST = 24  # characters of a column of sentences
MARK = " ◂"
WHOLE_NAMES = "Long names are shortened: --format csv or json has them whole."
STYLES = {
    "best": "bold green",
    "strong": "bold",
    "faint": "dim",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
}


def show(console: Console, table: Table, width: int | None = None) -> None:
    """Print `table` on `console`. A line that is longer than the terminal (a long word) is left for it to break."""
    for line in lines(table, width or console.width):
        console.print(line, soft_wrap=True, highlight=False)


def lines(table: Table, width: int) -> list[Text]:
    """Title, the columns in as many blocks as the width asks for (the first column stands in each), and the legend."""
    whole = table.stacked()
    table = _fitted(whole, width)
    hints = [*table.hints, WHOLE_NAMES] if table != whole else table.hints
    result = [Text(part, style="bold") for part in wrapped(table.title, width)]
    if table.rows:
        widths = _widths(table, width)
        for number, block in enumerate(_blocks(widths, width)):
            if number:
                result.append(Text(""))
            result += _block(table, block, widths, width)
    result += [Text(part, style="dim") for line in (*table.legend, *hints) for part in wrapped(line, width)]
    return result


def blocks(table: Table, width: int) -> int:
    """In how many blocks of columns the table stands below itself at `width`."""
    table = _fitted(table, width)
    return len(_blocks(_widths(table, width), width))


def wrapped(text: str, width: int) -> list[str]:
    """`text` in lines of `width`, broken between words only."""
    return [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(line, max(width, 1), break_long_words=False, break_on_hyphens=False)
    ]


def _fitted(table: Table, width: int) -> Table:
    """`table` with its names shortened where the first column and another one do not fit beside each other.

    Numbers are not, nor what stands in sentences (a path is wanted whole), nor names that would then look alike.
    """
    if not table.rows:
        return table
    names = [place for place, head in enumerate(table.heads) if not place or not head.wrap]
    least = {
        place: _longest_word(table, place) if table.heads[place].wrap else _natural(table, place)
        for place in names
    }
    if (
        least[0] + GAP + max([LEAST * (len(names) < len(table.heads)), *(least[p] for p in names[1:])])
        <= width
    ):
        return table
    beside = [least.get(place, LEAST) + GAP for place in range(1, len(table.heads))]
    all_fit = width - sum(beside) >= LEAST
    first = min(least[0], width - sum(beside) if all_fit else max(width // 2, width - 2 * LEAST))
    room = {place: max(LEAST, width - GAP - first) if place else first for place in names}
    columns = [
        _shortened(table, place, room[place])
        if place in room
        else (table.heads[place], [row[place] for row in table.rows])
        for place in range(len(table.heads))
    ]
    heads = tuple(head for head, _ in columns)
    return replace(table, heads=heads, rows=tuple(zip(*(cells for _, cells in columns), strict=True)))


def _shortened(table: Table, place: int, room: int) -> tuple[Heading, list[Cell]]:
    """The head and the cells of a column with names of `room` characters."""
    head, cells = table.heads[place], [row[place] for row in table.rows]

    def short(line: str) -> str:
        return (
            re.sub(r"\S+", lambda word: shortened(word[0], room), line)
            if head.wrap
            else shortened(line, room)
        )

    def lines(text: str) -> str:
        return "\n".join(map(short, text.split("\n")))

    told = {line for cell in cells for line in cell.lines}
    if not head.right and len(set(map(lines, told))) == len(told):
        cells = [replace(cell, lines=tuple(map(lines, cell.lines))) for cell in cells]
    return replace(head, text=lines(head.text)), cells


def _widths(table: Table, width: int) -> list[int]:
    """The width of each column: of its longest line, and for sentences what is left, shared out."""
    natural = [_natural(table, place) for place in range(len(table.heads))]
    sentences = [place for place, head in enumerate(table.heads) if head.wrap]
    left = (
        width - sum(natural[p] for p in range(len(natural)) if p not in sentences) - GAP * (len(natural) - 1)
    )
    for number, place in enumerate(sorted(sentences, key=lambda p: natural[p])):
        share = max(LEAST, left // (len(sentences) - number), _longest_word(table, place))
        natural[place] = min(natural[place], share)
        left -= natural[place]
    return natural


def _natural(table: Table, place: int) -> int:
    cells = [row[place] for row in table.rows]
    longest = max(cell_len(line) for line in table.heads[place].text.split("\n"))
    longest = max(
        [longest, *(cell_len(part) for cell in cells for line in cell.lines for part in line.split("\n"))]
    )
    return longest + (len(MARK) if _marks(cells) else 0)


def _longest_word(table: Table, place: int) -> int:
    texts = (line for row in table.rows for line in row[place].lines)
    return max((cell_len(word) for text in texts for word in text.split()), default=0)


def _marks(cells: Sequence[Cell]) -> bool:
    return any(cell.style == "best" for cell in cells)


def _blocks(widths: Sequence[int], width: int) -> list[list[int]]:
    if widths[0] > width // 2:  # a long path: the terminal breaks the line, rather than one column a block
        width = max(width, widths[0] + 2 * LEAST)
    blocks: list[list[int]] = [[0]]
    used = widths[0]
    for place in range(1, len(widths)):
        if len(blocks[-1]) > 1 and used + GAP + widths[place] > width:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(place)
        used += GAP + widths[place]
    return blocks


def _block(table: Table, places: Sequence[int], widths: Sequence[int], width: int) -> list[Text]:
    heads = [table.heads[place] for place in places]
    tall = max(len(head.text.split("\n")) for head in heads)
    found = []
    for number in range(tall if any(head.text for head in heads) else 0):
        top = [(_from_below(head, number, tall), "bold") for head in heads]
        found.append(_line(top, heads, [widths[p] for p in places]))
    marked = [_marks([row[place] for row in table.rows]) for place in places]
    above = dict(table.above)
    for place, row in enumerate(table.rows):
        found += [Text(part, style="bold") for part in wrapped(above.get(place, ""), width)]
        cells = [
            _cell(row[place], table.heads[place], widths[place], mark)
            for place, mark in zip(places, marked, strict=True)
        ]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else ("", "") for cell in cells]
            found.append(_line(parts, heads, [widths[p] for p in places]))
    return found


def _from_below(head: Heading, number: int, tall: int) -> str:
    """The `number`-th of `tall` lines of a head, the last of which stands on the cells."""
    own = head.text.split("\n")
    place = number - (tall - len(own))
    return own[place] if place >= 0 else ""


def _cell(cell: Cell, head: Heading, width: int, mark: bool) -> list[tuple[str, str]]:
    """The lines of a cell with their styles; the lines below the first are small print."""
    found: list[tuple[str, str]] = []
    for number, line in enumerate(cell.lines):
        if number and not line:
            continue
        style = STYLES.get(cell.style, "") if not number else "dim"
        pad = (MARK if cell.style == "best" and not number else " " * len(MARK)) if mark else ""
        parts = wrapped(line, width) if head.wrap else line.split("\n")
        found += [(part + pad, style) for part in parts or [""]]
    return found


def _line(parts: Sequence[tuple[str, str]], heads: Sequence[Heading], widths: Sequence[int]) -> Text:
    line = Text()
    for number, ((part, style), head, width) in enumerate(zip(parts, heads, widths, strict=True)):
        space = " " * max(0, width - cell_len(part))
        line.append(" " * GAP if number else "")
        line.append(space if head.right else "")
        line.append(part, style=style)
        line.append("" if head.right else space)
    line.rstrip()
    return line
