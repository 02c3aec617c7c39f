"""A table as a value: heads, cells, what a reader must know, and the records behind it with their full precision.

The records are what CSV and JSON carry; cells are text for people, rounded once, when they are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

Style = Literal["", "best", "strong", "faint", "good", "warn", "bad"]


@dataclass(frozen=True)
class Cell:
    """What stands in one place: its lines, the first of which counts; `sort` is what a page sorts it by.

    `hint` says more on a page that can show it where the cell is pointed at.
    """

    lines: tuple[str, ...]
    style: Style = ""
    sort: float | str | None = None
    hint: str = ""


@dataclass(frozen=True)
class Heading:
    """The head of a column. `text` may have several lines; `parts` names the lines of the cells below it.

    right: the cells end at one edge, as numbers do; wrap: the cells are sentences, broken between words.
    """

    text: str
    parts: tuple[str, ...] = ()
    right: bool = False
    wrap: bool = False


@dataclass(frozen=True)
class Table:
    """A table; `name` is a word for labels, `legend` sentences about it, `records` one mapping a fact.

    `hints` say how to see more, `above` has lines that stand above a row (by its number): for the terminal alone.
    """

    name: str
    heads: tuple[Heading, ...]
    rows: tuple[tuple[Cell, ...], ...]
    records: tuple[Mapping[str, Any], ...]
    title: str = ""
    legend: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    above: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(
        cls,
        name: str,
        heads: Sequence[Heading | str],
        rows: Iterable[Sequence[Cell | str]],
        records: Iterable[Mapping[str, Any]] | None = None,
        title: str = "",
        legend: Iterable[str] = (),
    ) -> Self:
        """A table from plain texts where nothing more is to be said; without `records` they are the cells' texts."""
        whole = tuple(Heading(head) if isinstance(head, str) else head for head in heads)
        lines = tuple(tuple(Cell((cell,)) if isinstance(cell, str) else cell for cell in row) for row in rows)
        if records is None:
            records = [
                {head.text: cell.lines[0] for head, cell in zip(whole, row, strict=True)} for row in lines
            ]
        return cls(name, whole, lines, tuple(records), title, tuple(legend))

    def stacked(self) -> Self:
        """The table for formats in which the lines of a cell stand below each other.

        Where all columns have the same parts, all with names, the row's own cell names those of the further lines.
        """
        parts = {head.parts for head in self.heads[1:]}
        names = next(iter(parts)) if len(parts) == 1 else ()
        if len(names) < 2 or not all(names) or any(len(row[0].lines) > 1 for row in self.rows):
            return self
        rows = [(replace(row[0], lines=(*row[0].lines, *names[1:])), *row[1:]) for row in self.rows]
        return replace(self, rows=tuple(rows))

    def flat(self) -> tuple[tuple[Heading, ...], tuple[tuple[Cell, ...], ...]]:
        """Heads and rows with the lines of a cell side by side; a part that no row has is left out."""
        heads: list[Heading] = []
        columns: list[list[Cell]] = []
        for place, head in enumerate(self.heads):
            cells = [row[place] for row in self.rows]
            for part in range(max([1, *(len(cell.lines) for cell in cells)])):
                own = [cell.lines[part] if part < len(cell.lines) else "" for cell in cells]
                if part and not any(own):
                    continue
                name = head.parts[part] if part < len(head.parts) else ""
                text = " ".join(head.text.split("\n")) if not part else ""
                heads.append(Heading(" ".join(filter(None, (text, name))), (), head.right, head.wrap))
                columns.append(
                    [
                        Cell((text,), cell.style if not part else "", cell.sort, cell.hint)
                        for text, cell in zip(own, cells, strict=True)
                    ]
                )
        return tuple(heads), tuple(zip(*columns, strict=True)) if self.rows else ()
