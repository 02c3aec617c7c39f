"""One table as a value, and one renderer a format: what every command and the report print tables with."""

from __future__ import annotations

from gaprun.tables.value import Cell, Heading, Style, Table

__all__ = ["Cell", "Heading", "Style", "Table"]
