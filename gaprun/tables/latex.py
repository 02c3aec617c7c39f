"""A table as LaTeX (booktabs), as it can stand in a paper; the legend is the caption unless another is given.

It fits the page of a fresh article: letters get smaller, sentences and long names break, then columns that have no
room stand below the others, and rows beyond a page in a further float of the same number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from gaprun.tables.layout import GAP, PageColumn, PageLayout, laid_out
from gaprun.tables.tex import escape, width
from gaprun.tables.value import Cell, Table

# A deviation stands with its number in one \num, unless either has a power of ten of its own.
NUMBER = re.compile(r"[−+]?\d*\.?\d+(?:e[−+]\d+|(?: ± \d*\.?\d+(?![\d.]*e))?)")
PAGE = 480.0  # points of article's height that a float may fill
CAPTION = 1000  # letters; what is more stands below the table, where it can break over pages
CAPTION_LINE = 75
PENDING = 10  # floats that LaTeX is given at once: it can keep 18
SPARE = 1.15  # lines of a paragraph are not full


def render(table: Table, caption: str | None = None, label: str | None = None, siunitx: bool = False) -> str:
    """A table environment, several of one number where it is longer than a page.

    `caption` and `label` are taken as they are: they may hold LaTeX. siunitx: numbers stand in `\\num`, so that the
    document's own set-up decides how they look.
    """
    columns, layout = laid_out(table)
    label = _label(table) if label is None else label
    rest: list[str] = []
    if caption is None:
        title = table.title if not table.title or table.title[-1] in ".:" else f"{table.title}."
        lines = [escape(line) for line in filter(None, (title, *table.legend))]
        fits = _fitting(lines)
        caption, rest = " ".join(lines[:fits]), lines[fits:]
    above = PAGE - layout.line - 12 * math.ceil(len(caption) / CAPTION_LINE)
    floats: list[list[str]] = [[]]
    left = above
    for lines, height in _tabulars(table, columns, layout, siunitx, above):
        if floats[-1] and height > left:
            floats.append([])
            left = PAGE
        floats[-1] += [r"  \par\medskip"] * bool(floats[-1]) + lines
        left -= height + 6
    packages = ["array"] * any(r"\arraybackslash" in line for lines in floats for line in lines)
    packages += ["booktabs"] + ["siunitx"] * siunitx
    found = [rf"% needs \usepackage{{{','.join(packages)}}}"]
    for number, lines in enumerate(floats):
        found += [
            r"\begin{table}",
            rf"  \centering{layout.name}",
            r"  \setlength{\tabcolsep}{" + f"{GAP / 2:g}pt" + "}",
            *(
                [r"  \addtocounter{table}{-1}", r"  \caption{(continued)}"]
                if number
                else [rf"  \caption{{{caption}}}"]
            ),
            *([] if number else [rf"  \label{{{label}}}"]),
            *lines,
            r"\end{table}",
            *[r"\clearpage"] * (number % PENDING == PENDING - 1),
        ]
    if rest:
        found.append(rf"{{\footnotesize\noindent Table~\ref{{{label}}}: {' '.join(rest)}\par}}")
    return "\n".join(found)


def every(
    tables: Sequence[Table], caption: str | None = None, label: str | None = None, siunitx: bool = False
) -> str:
    """Several tables, each with a label of its own and with its title in the caption that is given for all."""
    texts, taken = [], set[str]()
    for table in tables:
        own = _label(table) if label is None else label
        number = 1
        while (name := own if number == 1 else f"{own}-{number}") in taken:
            number += 1
        taken.add(name)
        title = f" ({escape(table.title.removesuffix(':'))})" if table.title and len(tables) > 1 else ""
        texts.append(render(table, None if caption is None else caption + title, name, siunitx))
    return "\n\n".join(texts)


def _label(table: Table) -> str:
    return "tab:" + re.sub(r"[^a-z0-9]+", "-", table.name.lower()).strip("-")


def _tabulars(
    table: Table, columns: Sequence[PageColumn], layout: PageLayout, siunitx: bool, room: float
) -> Iterator[tuple[list[str], float]]:
    """Each block of columns as tabulars no higher than `room`, with their height."""
    for block in layout.blocks:
        own = [columns[place] for place in block]
        widths = [layout.widths[place] for place in block]
        whole = sum(widths) + GAP * (len(widths) - 1)
        narrow = [
            column.wraps
            and (layout.scale * column.wide > wide + 0.1 or any(len(cell.lines) > 1 for cell in column.cells))
            for column, wide in zip(own, widths, strict=True)
        ]
        kinds = [
            rf">{{\raggedright\arraybackslash}}p{{{wide:.0f}pt}}" if breaks else "l" if column.wraps else "r"
            for column, wide, breaks in zip(own, widths, narrow, strict=True)
        ]
        heads = _heads(table, own)
        start = [
            rf"  \begin{{tabular}}{{@{{}}{''.join(kinds)}@{{}}}}",
            r"    \toprule",
            *heads,
            r"    \midrule",
        ]
        end = [r"    \bottomrule", r"  \end{tabular}"]
        base = (len(heads) + 1.5) * layout.line
        lines, height = list(start), base
        above = dict(table.above)
        for place in range(len(table.rows)):
            row, high = (
                [],
                layout.line
                * max(
                    _lines(column.cells[place], layout.scale, wide if breaks else None)
                    for column, wide, breaks in zip(own, widths, narrow, strict=True)
                ),
            )
            if place in above:
                rule = [r"    \addlinespace"] if lines != start else []
                row += [*rule, _line_above(above[place], len(own), whole, layout.scale)]
                high += layout.line * (1.5 + math.floor(layout.scale * width(above[place]) * SPARE / whole))
            cells = [
                _words(column.cells[place], breaks) if column.wraps else _number(column.cells[place], siunitx)
                for column, breaks in zip(own, narrow, strict=True)
            ]
            row.append("    " + _guarded(" & ".join(cells)) + r" \\")
            if len(lines) > len(start) and height + high > room:
                yield [*lines, *end], height
                lines, height = list(start), base
                row = row[1:] if row[0].endswith("addlinespace") else row
            lines += row
            height += high
        yield [*lines, *end], height


def _heads(table: Table, own: Sequence[PageColumn]) -> list[str]:
    """A head's lines above its columns, the last at the bottom, and below it the names of its parts."""
    groups = [(place, list(part)) for place, part in groupby(own, key=lambda column: column.place)]
    texts = [table.heads[place].text.split("\n") for place, _ in groups]
    tall = max(map(len, texts))
    found = []
    for number in range(tall):
        cells = []
        for (_, part), lines in zip(groups, texts, strict=True):
            line = escape(lines[number - (tall - len(lines))]) if number >= tall - len(lines) else ""
            cells.append(rf"\multicolumn{{{len(part)}}}{{c}}{{{line}}}" if len(part) > 1 else line)
        found.append("    " + _guarded(" & ".join(cells)) + r" \\")
    if any(column.part for column in own):
        rules, first = [], 1
        for _, part in groups:
            if len(part) > 1:
                rules.append(rf"\cmidrule(lr){{{first}-{first + len(part) - 1}}}")
            first += len(part)
        found += ["    " + "".join(rules)] if rules else []
        found.append("    " + " & ".join(escape(column.part) for column in own) + r" \\")
    return found


def _line_above(text: str, columns: int, whole: float, scale: float) -> str:
    kind, words = "l", escape(text, breaks=True)
    if scale * width(text) > whole:
        kind, words = f"p{{{whole:.0f}pt}}", rf"\raggedright {words}"
    return rf"    \multicolumn{{{columns}}}{{@{{}}{kind}@{{}}}}{{\itshape {words}}} \\"


def _lines(cell: Cell, scale: float, wide: float | None) -> int:
    """How many lines a cell takes."""
    if wide is None:
        return len(cell.lines)
    return sum(max(1, math.ceil(SPARE * scale * width(line) / wide)) for line in cell.lines)


def _fitting(lines: Sequence[str]) -> int:
    """How many of the legend's lines stand in the caption; the first always does, if it can."""
    used = 0
    for number, line in enumerate(lines):
        used += len(line) + 1
        if used > (CAPTION if number else 3 * CAPTION):
            return number
    return len(lines)


def _guarded(row: str) -> str:
    """After `\\` a bracket would be read as a length, and a star with the line's end."""
    return "{}" + row if row.startswith(("[", "*")) else row


def _num(found: re.Match[str]) -> str:
    """A number, or a number ± its deviation, as siunitx takes it."""
    text = found[0].replace("−", "-").replace(" ± ", "+-")
    return (r"\num[retain-explicit-plus]" if text.startswith("+") else r"\num") + "{" + text + "}"


def _words(cell: Cell, breaks: bool) -> str:
    text = r" \newline ".join(escape(" ".join(line.split()), breaks) for line in cell.lines if line)
    return _styled(text, cell)


def _number(cell: Cell, siunitx: bool) -> str:
    plain = " ".join(cell.lines[0].split())
    if not siunitx:
        return _styled(escape(plain), cell)
    parts = re.split(f"({NUMBER.pattern})", plain)
    return _styled("".join(NUMBER.sub(_num, p) if n % 2 else escape(p) for n, p in enumerate(parts)), cell)


def _styled(text: str, cell: Cell) -> str:
    return rf"\textbf{{{text}}}" if cell.style == "best" and text else text
