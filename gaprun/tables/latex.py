"""A table as LaTeX (booktabs), as it can stand in a paper; the legend is the caption unless another is given."""

from __future__ import annotations

import re

from gaprun.tables.value import Cell, Table

GREEK = "alpha beta gamma delta tau nu mu sigma lambda pi"
SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{sign: "\\" + sign for sign in "_%&#${}"},
    "|": r"\textbar{}",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≈": r"$\approx$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "<": "$<$",
    ">": "$>$",
    "∞": r"$\infty$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\to$",
    "†": r"$\dagger$",
    "◂": r"$\blacktriangleleft$",
    "²": "$^2$",
    "³": "$^3$",
    "½": r"$\frac{1}{2}$",
    "√": r"$\sqrt{}$",
    "‖": r"$\|$",
    "Δ": r"$\Delta$",
    **{letter: f"$\\{name}$" for letter, name in zip("αβγδτνμσλπ", GREEK.split(), strict=True)},
    "…": r"\dots{}",
    "–": "--",
    "“": "``",
    "”": "''",
    "\n": " ",
}
_ESCAPES = str.maketrans(SIGNS)
NUMBER = re.compile(r"[−+]?\d*\.?\d+(?: ± \d*\.?\d+)?")


def render(table: Table, caption: str | None = None, label: str | None = None, siunitx: bool = False) -> str:
    """A table environment. `caption` and `label` are taken as they are: they may hold LaTeX.

    siunitx: numbers stand in `\\num`, so that the document's own set-up decides how they look.
    """
    heads, rows = table.flat()
    if caption is None:
        caption = " ".join(escape(line) for line in filter(None, (table.title, *table.legend)))
    if label is None:
        label = "tab:" + re.sub(r"[^a-z0-9]+", "-", table.name.lower()).strip("-")
    return "\n".join(
        [
            rf"% needs \usepackage{{booktabs{',siunitx' if siunitx else ''}}}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{caption}}}",
            rf"  \label{{{label}}}",
            rf"  \begin{{tabular}}{{{''.join('r' if head.right else 'l' for head in heads)}}}",
            r"    \toprule",
            "    " + " & ".join(escape(head.text) for head in heads) + r" \\",
            r"    \midrule",
            *(
                "    "
                + " & ".join(
                    _cell(cell, siunitx and head.right) for cell, head in zip(row, heads, strict=True)
                )
                + r" \\"
                for row in rows
            ),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def escape(text: str) -> str:
    """`text` with TeX's signs escaped and the tables' own symbols as maths."""
    return text.translate(_ESCAPES)


def _num(found: re.Match[str]) -> str:
    """A number, or a number ± its deviation, as siunitx takes it."""
    text = found[0].replace("−", "-").replace(" ± ", "+-")
    return (r"\num[retain-explicit-plus]" if text.startswith("+") else r"\num") + "{" + text + "}"


def _cell(cell: Cell, siunitx: bool = False) -> str:
    plain = " ".join(cell.lines[0].split())
    if siunitx:
        parts = re.split(f"({NUMBER.pattern})", plain)
        text = "".join(NUMBER.sub(_num, part) if n % 2 else escape(part) for n, part in enumerate(parts))
    else:
        text = escape(plain)
    if text.startswith("["):
        text = "{}" + text  # after `\\` a bracket would be read as a length
    return rf"\textbf{{{text}}}" if cell.style == "best" and text else text
