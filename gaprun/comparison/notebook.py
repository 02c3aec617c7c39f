"""A comparison that a notebook shows as its table."""

from __future__ import annotations

from dataclasses import fields
from io import StringIO

from gaprun.comparison.values import Comparison


class NotebookComparison(Comparison):
    """What `gaprun.compare` returns; printed it is the table of `gaprun compare`, 100 columns wide."""

    @classmethod
    def of(cls, comparison: Comparison) -> NotebookComparison:
        """The same comparison, which a notebook can show."""
        return cls(**{field.name: getattr(comparison, field.name) for field in fields(comparison)})

    def __repr__(self) -> str:
        from rich.console import Console

        from gaprun.comparison.shown import differences
        from gaprun.tables import terminal

        text = StringIO()
        terminal.show(Console(file=text, width=100), differences(self))
        return text.getvalue().rstrip("\n")

    def _repr_html_(self) -> str:
        """The differences with their intervals and p-values, as `gaprun compare --format markdown` has them."""
        from gaprun.comparison.shown import differences
        from gaprun.tables import html

        return str(html.render(differences(self)))
