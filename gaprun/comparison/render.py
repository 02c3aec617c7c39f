"""A comparison as a terminal table, Markdown, LaTeX or CSV; tables come with what their numbers mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from gaprun.comparison.table import Cell, Column, Comparison
from gaprun.spreadsheet import csv_text

MINUS = "−"


def table(comparison: Comparison, width: int, brief: bool = False) -> RenderableType:
    """The comparison for a terminal of `width` characters: as many metrics as fit, then the next below."""
    label = max([len(comparison.by), *(len(_label(comparison, group)) for group in comparison.groups)]) + 2
    parts: list[RenderableType] = []
    chunk: list[Column] = []
    used = label + 4
    for column in comparison.columns:
        needed = 2 + max(
            len(line)
            for lines in (
                _heads(comparison, column),
                *(_lines(comparison, group, column, brief) for group in comparison.groups),
            )
            for line in lines
        )
        if chunk and used + needed > width:
            parts += [_chunk(comparison, chunk, brief), ""]
            chunk, used = [], label + 4
        chunk.append(column)
        used += needed
    parts.append(_chunk(comparison, chunk, brief))
    parts += [Text(line, style="dim") for line in legend(comparison, brief)]
    return Group(*parts)


def markdown(comparison: Comparison, brief: bool = False) -> str:
    """A GitHub table and its legend; the best mean of a column is bold."""
    heads, rows = _grid(comparison, brief, bold="**{}**", plain=escape_markdown)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" + "---:|" * (len(heads) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"{escape_markdown(line)}  " for line in legend(comparison, brief))])


def latex(comparison: Comparison, brief: bool = False) -> str:
    """A table environment (needs the booktabs package) whose caption says what the numbers are."""
    heads, rows = _grid(comparison, brief, bold=r"\textbf{{{}}}", plain=escape_latex)
    lines = [
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{' '.join(escape_latex(line) for line in legend(comparison, brief))}}}",
        r"  \label{tab:comparison}",
        rf"  \begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"    \toprule",
        "    " + " & ".join(heads) + r" \\",
        r"    \midrule",
        *("    " + " & ".join(row) + r" \\" for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines)


def comma_separated(comparison: Comparison) -> str:
    """The records as CSV; an interval is two columns, a list is separated by spaces, None is empty.

    A text that a spreadsheet would run is written as `spreadsheet.csv_cell` says.
    """
    flat = []
    for record in comparison.records():
        row: dict[str, object] = {}
        for key, value in record.items():
            if key in ("ci95", "delta_ci95", "query_ci95"):
                row[f"{key}_low"], row[f"{key}_high"] = value or (None, None)
            else:
                row[key] = " ".join(map(str, value)) if isinstance(value, list) else value
        flat.append(row)
    heads = list(dict.fromkeys(key for row in flat for key in row))
    return csv_text([heads, *([row.get(key) for key in heads] for row in flat)])


def legend(comparison: Comparison, brief: bool = False) -> list[str]:
    """What the numbers are, in sentences: data if all columns share it, spread, interval, tests, notes."""
    columns = comparison.columns
    places = {_place(column) for column in columns}
    unit = comparison.unit
    lines = (
        [f"{columns[0].dataset}/{columns[0].split}, protocol {columns[0].protocol}."]
        if len(places) == 1
        else []
    )
    about = f"Mean ± standard deviation over n {unit}s"
    if not brief and any(cell.summary.ci95 for cell in comparison.cells.values()):
        about += ", [95 % Student-t interval of the mean]"
    lines.append(about + "; ↑ higher is better, ↓ lower is better; the best mean of a column is marked.")
    tests = sorted({d.test for cell in comparison.cells.values() if (d := cell.difference) and d.test})
    if comparison.baselines and not brief:
        baselines = list(dict.fromkeys(comparison.baselines.values()))
        delta = f"Δ: difference from {' or '.join(baselines)}"
        if len(baselines) > 1:
            delta += ", whichever shares the row's set-up (all but temperature, swap and loss)"
        if any(cell.difference and cell.difference.pairs for cell in comparison.cells.values()):
            delta += f", paired by {unit}"
        if tests:
            delta += f"; p: {' or '.join(tests)}-test, {about_family(comparison)}"
        if comparison.margin is not None:
            alike = f"no difference of {comparison.margin:g} or more"
            delta += f"; ≈: {alike} (two one-sided t-tests at 5 %, corrected likewise)"
        lines.append(delta + ".")
    if comparison.queries and not brief:
        tests = sorted({found.test for found in comparison.queries.values()})
        lines.append(
            f"Q: difference in points over the same queries, [95 % paired bootstrap]; p: {' or '.join(tests)} test, "
            "corrected likewise; says nothing about another training run."
        )
    if comparison.marks:
        flags = "; ".join(f"{group}: {text}" for group, text in comparison.marks.items())
        lines.append(f"† Health (docs/health.md): {flags}.")
    return lines + [note[0].upper() + note[1:] + "." for note in comparison.notes]


def about_family(comparison: Comparison) -> str:
    """What the p-values are corrected over."""
    if comparison.family == "none":
        return "not corrected for their number"
    what = "all contrasts of the comparison, one protocol of each metric and split at a time"
    if comparison.family == "metric":
        what = "each metric on each split under one protocol"
    sizes = comparison.sizes
    counts = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else "".join(map(str, sizes)) or "0"
    return f"Holm-corrected within {what} (family of {counts})"


def fixed(value: float, decimals: int) -> str:
    """`value` with so many decimals and a true minus sign; never a negative zero."""
    text = f"{value:.{decimals}f}"
    text = text.lstrip("-") if not text.strip("-0.") else text
    return text.replace("-", MINUS)


def decimals(comparison: Comparison, column: Column) -> int:
    """Decimals for a column: three or four digits of its largest mean."""
    means = [abs(cell.summary.mean) for (_, c), cell in comparison.cells.items() if c == column]
    largest = max(means, default=0.0)
    for limit, places in ((1000, 0), (100, 1), (10, 2), (0.1, 3), (0.01, 4)):
        if largest >= limit:
            return places
    return 5 if largest > 0 else 3


def _chunk(comparison: Comparison, columns: Sequence[Column], brief: bool) -> Table:
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    result.add_column(escape(comparison.by), no_wrap=True)
    result.add_column("n", justify="right")
    for column in columns:
        result.add_column(escape("\n".join(_heads(comparison, column))), justify="right", no_wrap=True)
    for group in comparison.groups:
        counts = {cell.summary.n for c in columns if (cell := comparison.cells.get((group, c)))}
        cells = []
        for column in columns:
            first, *rest = _lines(comparison, group, column, brief)
            cell = comparison.cells.get((group, column))
            text = Text(first, style="bold green" if cell and cell.best else "")
            text.append("".join(f"\n{line}" for line in rest), style="not bold dim default")
            cells.append(text)
        result.add_row(
            escape(_label(comparison, group)), "-".join(str(n) for n in sorted(counts)) or "0", *cells
        )
    return result


def _heads(comparison: Comparison, column: Column) -> list[str]:
    lines = [column.metric + column.about.arrow]
    if len({_place(c) for c in comparison.columns}) > 1:
        lines += [f"{column.dataset}/{column.split}", column.protocol]
    return lines


def _lines(comparison: Comparison, group: str, column: Column, brief: bool) -> list[str]:
    cell = comparison.cells.get((group, column))
    if cell is None:
        return [_no_value(comparison, group, column)]
    places = decimals(comparison, column)
    lines = [_mean(cell, places) + ("*" if cell.best else " ")]
    if brief:
        return lines
    parts = _interval(cell, places), _delta(cell, places), _queries(comparison, group, column)
    return lines + [f"{line} " for line in parts if line]


def _mean(cell: Cell, places: int) -> str:
    mean = fixed(cell.summary.mean, places)
    return mean if cell.summary.std is None else f"{mean} ± {fixed(cell.summary.std, places)}"


def _interval(cell: Cell, places: int) -> str:
    interval = cell.summary.ci95
    return f"[{fixed(interval[0], places)}, {fixed(interval[1], places)}]" if interval else ""


def _delta(cell: Cell, places: int) -> str:
    if cell.difference is None:
        return ""
    delta = fixed(cell.difference.delta, places)
    text = "Δ " + (delta if delta.startswith(MINUS) else f"+{delta}")
    text = text if cell.p_shown is None else f"{text} {_p(cell.p_shown)}"
    return f"{text} ≈" if cell.equivalent else text


def _no_value(comparison: Comparison, group: str, column: Column) -> str:
    """What stands where nothing was measured, and where nothing that was is defined (NaN)."""
    return "n/a" if (group, column) in comparison.undefined else "-"


def _queries(comparison: Comparison, group: str, column: Column) -> str:
    found = comparison.queries.get((group, column))
    if found is None:
        return ""
    low, high = found.ci95 or (found.delta, found.delta)
    delta = fixed(found.delta, 1)
    text = f"Q {delta if delta.startswith(MINUS) else '+' + delta} [{fixed(low, 1)}, {fixed(high, 1)}]"
    p_value = comparison.query_p.get((group, column))
    return text if p_value is None else f"{text} {_p(p_value)}"


def _label(comparison: Comparison, group: str) -> str:
    return f"{group} †" if group in comparison.marks else group


def _p(value: float) -> str:
    return "p<.001" if value < 0.001 else f"p={value:.3f}".replace("=0.", "=.")


PARTS: tuple[tuple[str, Callable[[Cell, int], str]], ...] = (("95 % CI", _interval), ("Δ", _delta))


def _place(column: Column) -> tuple[str, str, str]:
    return column.dataset, column.split, column.protocol


def _grid(
    comparison: Comparison, brief: bool, bold: str, plain: Callable[[str], str]
) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of text: the mean, and beside it interval and difference where the column has any."""
    heads, rows = (
        [plain(comparison.by), "n"],
        [[plain(_label(comparison, group)), ""] for group in comparison.groups],
    )
    for row, group in zip(rows, comparison.groups, strict=True):
        counts = sorted({cell.summary.n for (g, _), cell in comparison.cells.items() if g == group})
        row[1] = "-".join(map(str, counts)) or "0"
    for column in comparison.columns:
        cells = [comparison.cells.get((group, column)) for group in comparison.groups]
        places = decimals(comparison, column)
        heads.append(plain(" ".join(_heads(comparison, column))))
        for row, cell, group in zip(rows, cells, comparison.groups, strict=True):
            text = plain(_mean(cell, places)) if cell else _no_value(comparison, group, column)
            row.append(bold.format(text) if cell and cell.best else text)
        extras = [(head, [part(c, places) if c else "" for c in cells]) for head, part in PARTS]
        extras.append(("Q", [_queries(comparison, group, column) for group in comparison.groups]))
        for head, texts in [] if brief else extras:
            if any(texts):
                heads.append(plain(head))
                for row, text in zip(rows, texts, strict=True):
                    row.append(plain(text.removeprefix(f"{head} ")))
    return heads, rows


def escape_markdown(text: str) -> str:
    """`text` with Markdown's signs escaped."""
    for sign in ("\\", "|", "*", "_", "[", "]", "<"):
        text = text.replace(sign, "\\" + sign)
    return text


def escape_latex(text: str) -> str:
    """`text` with TeX's signs escaped and the table's own symbols as maths."""
    text = text.replace("\\", r"\textbackslash ")
    for sign in "_%&#${}":
        text = text.replace(sign, "\\" + sign)
    maths = {
        MINUS: "$-$",
        "±": r"$\pm$",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "Δ": r"$\Delta$",
        "†": r"$\dagger$",
        "≈": r"$\approx$",
    }
    maths |= {
        "<": "$<$",
        ">": "$>$",
        "…": r"\dots ",
        "→": r"$\to$",
        "~": r"\textasciitilde ",
        "^": r"\textasciicircum ",
    }
    for sign, replacement in maths.items():
        text = text.replace(sign, replacement)
    return text
