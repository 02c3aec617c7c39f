"""A View as a terminal table, Markdown, LaTeX or CSV."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gaprun.comparison.render import escape_latex, escape_markdown
from gaprun.comparison.views import View
from gaprun.spreadsheet import csv_text


def table(view: View) -> RenderableType:
    """For the terminal; long words wrap."""
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in view.heads:
        result.add_column(escape(head), overflow="fold")
    for row in view.rows:
        result.add_row(*(escape(cell) for cell in row))
    return Group(result, *(Text(line, style="dim") for line in view.legend))


def markdown(view: View) -> str:
    """A GitHub table and its legend."""
    lines = [
        "| " + " | ".join(escape_markdown(cell) for cell in row) + " |" for row in (view.heads, *view.rows)
    ]
    lines.insert(1, "|" + "---|" * len(view.heads))
    return "\n".join([*lines, "", *(f"{escape_markdown(line)}  " for line in view.legend)])


def latex(view: View) -> str:
    """A table environment (booktabs)."""
    rows = [
        "    " + " & ".join(escape_latex(cell) for cell in row) + r" \\" for row in (view.heads, *view.rows)
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{' '.join(escape_latex(line) for line in view.legend)}}}",
            rf"  \begin{{tabular}}{{{'l' * len(view.heads)}}}",
            r"    \toprule",
            rows[0],
            r"    \midrule",
            *rows[1:],
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def comma_separated(view: View) -> str:
    """Heads and rows as CSV."""
    return csv_text((view.heads, *view.rows))
