"""Texts in a CSV that a spreadsheet would run as a formula: written so that they are shown, and read back as they were.

A text cell that begins with one of `= + - @`, their full-width forms, a tab or a line's end gets an apostrophe in
front, which spreadsheets take for "this is text". So that every text can be had back, one that begins with an
apostrophe gets another. Numbers, also negative ones that stand in a text column, are left as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

_RUNS = re.compile("[=+\\-@\t\r\n'\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def csv_cell(value: T) -> T | str:
    """`value` as it may stand in a CSV; whatever is no text is left alone."""
    if isinstance(value, str) and _RUNS.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def text_of(written: str) -> str:
    """The text that `csv_cell` was given."""
    return written.removeprefix("'")


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows as the text of a CSV, one a line, without the last line's end; see `csv_cell`."""
    lines = []
    for row in rows:
        line = io.StringIO(newline="")
        # The writer quotes a carriage return only where its own lines end in one.
        csv.writer(line, lineterminator="\r\n").writerow([csv_cell(value) for value in row])
        lines.append(line.getvalue().removesuffix("\r\n"))
    return "\n".join(lines)
