"""A table as GitHub's Markdown, with its title above and its legend below; the best of a column is bold."""

from __future__ import annotations

from gaprun.tables.value import Cell, Table


def render(table: Table) -> str:
    """The whole text."""
    heads, rows = table.flat()
    lines = ["| " + " | ".join(escape(head.text) for head in heads) + " |"]
    lines.append("|" + "".join("---:|" if head.right else "---|" for head in heads))
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    title = [f"**{escape(table.title)}**", ""] if table.title else []
    legend = ["", *(f"{escape(line)}  " for line in table.legend)] if table.legend else []
    return "\n".join([*title, *lines, *legend])


def escape(text: str) -> str:
    """`text` with Markdown's signs escaped, in one line."""
    for sign in ("\\", "|", "*", "_", "[", "]", "<", "`"):
        text = text.replace(sign, "\\" + sign)
    return " ".join(text.split("\n"))


def _cell(cell: Cell) -> str:
    text = escape(" ".join(cell.lines[0].split()))
    return f"**{text}**" if cell.style == "best" and text else text
