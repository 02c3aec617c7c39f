"""Pieces of the page as HTML: charts, tables, claims, examples, and the mark of what has no data."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gaprun.comparison.render import decimals, fixed
from gaprun.comparison.table import Column, Comparison
from gaprun.paper.claims import Verdict
from gaprun.paper.tables import Beside, cell_texts, notes
from gaprun.paper.tables import label as names_of
from gaprun.report.charts import Chart

if TYPE_CHECKING:
    from gaprun.report.pictures import Example


def escape(text: object) -> str:
    """`text` safe inside HTML."""
    return html.escape(str(text))


def no_data(why: str) -> str:
    """A part without data says so in its place."""
    return f'<p class="none"><strong>No data.</strong> {escape(why[:1].upper() + why[1:])}.</p>'


def charts(found: Sequence[Chart] | str) -> str:
    """Charts side by side where there is room; a string is the reason why there are none."""
    return (
        no_data(found) if isinstance(found, str) else f'<div class="grid">{"".join(map(_chart, found))}</div>'
    )


def compared(comparison: Comparison, flags: dict[str, str]) -> str:
    """The comparison as a table that sorts by any column and filters by row and column."""
    tools = (
        '<div class="tools" id="compared-tools">'
        '<label>Rows that contain<input type="search" placeholder="e.g. flt"></label>'
        '<label>Columns that contain<input type="search" placeholder="e.g. gap pool512"></label>'
        '<output class="soft"></output></div>'
    )
    heads = [comparison.by, "n", *map(_head, comparison.columns)]
    top = "".join(f'<th scope="col"><button type="button">{escape(head)}</button></th>' for head in heads)
    rows = "".join(_row(comparison, group, flags) for group in comparison.groups)
    table = (
        f'<table class="sortable" id="compared"><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table>'
    )
    return (
        f'{tools}<div class="scroll" tabindex="0" role="region" aria-label="Comparison table">{table}</div>'
    )


def plain(heads: Sequence[str], rows: Iterable[Sequence[str]], wrap: bool = False) -> str:
    """A table of escaped text; `wrap` for sentences in cells."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = ' class="wrap"' if wrap else ""
    table = f"<table{kind}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0">{table}</div>'


def published(found: Beside) -> str:
    """A table of the paper, ours below each published number."""
    heads = "".join(f'<th scope="col">{escape(m.label)}</th>' for m in found.table.measures)
    body = ""
    for line in found.lines:
        name, words = names_of(line)
        cells = ""
        for measure in found.table.measures:
            theirs, ours = cell_texts(line, measure, found.table)
            cells += f"<td><small>paper {escape(theirs)}</small>{escape(ours)}</td>"
        body += f"<tr><td>{escape(name)}<small>{escape(words)}</small></td>{cells}</tr>"
    remarks = " ".join(f"{note[0].upper()}{note[1:]}." for note in notes(found))
    return (
        f"<h3>{escape(found.table.title)}</h3>"
        f'<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">method</th>{heads}</tr></thead>'
        f'<tbody>{body}</tbody></table></div><p class="note">{escape(remarks)}</p>'
    )


def claims(verdicts: Sequence[Verdict]) -> str:
    """A card a claim: verdict, evidence, rule, runs."""
    cards = ""
    for verdict in verdicts:
        kind = verdict.verdict.replace(" ", "-")
        runs = list(dict.fromkeys(verdict.runs))
        count = "1 run" if len(runs) == 1 else f"{len(runs)} runs"
        behind = f"<details><summary>{count}</summary><p>{escape(', '.join(runs) or 'none')}</p></details>"
        cards += (
            f'<article class="claim {kind}"><h3>{escape(verdict.claim)}. {escape(verdict.statement)}</h3>'
            f'<p class="verdict">{escape(verdict.verdict)}</p><p>{escape(verdict.evidence)}</p>'
            f'<p class="soft">Rule: {escape(verdict.rule)}.</p>{behind}</article>'
        )
    return f'<div class="claims">{cards}</div>'


def examples(found: Sequence[Example]) -> str:
    """Pictures with their best captions, right and wrong ones marked in words, sign and colour."""
    cards = ""
    for example in found:
        items = ""
        for text, right, score in example.captions:
            sign, kind = ("✓ right", "right") if right else ("✗ wrong", "wrong")
            items += f'<li>{escape(text)} <span class="{kind}">{sign}</span> <span class="soft">{score:.2f}</span></li>'
        small = ' class="small"' if example.small else ""
        alt = f"Test picture {example.key}; its own caption is ranked {example.rank}"
        rank = "found at once" if example.rank == 1 else f"own caption at rank {example.rank}"
        cards += (
            f'<div class="example"><img{small} src="{example.picture}" alt="{escape(alt)}">'
            f'<div><ol>{items}</ol><span class="soft">{rank}</span></div></div>'
        )
    return f'<div class="examples">{cards}</div>'


def _chart(chart: Chart) -> str:
    buttons = ""
    for axis in chart.switches:
        now = chart.layout[axis].get("type", "linear")
        words = "steps" if axis == "xaxis" else "values"
        for kind in ("linear", "log"):
            buttons += (
                f'<button type="button" data-chart="chart-{chart.name}" data-axis="{axis}" data-type="{kind}" '
                f'aria-pressed="{str(kind == now).lower()}">{words} {kind}</button>'
            )
    spec = json.dumps(
        {"data": list(chart.data), "layout": chart.layout}, separators=(",", ":"), allow_nan=False
    )
    spec = spec.replace("<", "\\u003c")  # a label must not be able to end the script element
    title = f"<h3>{escape(chart.title)}</h3>" if chart.title else ""
    alt = escape(chart.alt[:1].upper() + chart.alt[1:])
    return (
        f"<figure>{title}"
        + (f'<div class="switch">{buttons}</div>' if buttons else "")
        + f'<div class="chart" id="chart-{chart.name}" role="img" aria-label="{alt}"></div>'
        f'<script type="application/json" id="chart-{chart.name}-spec">{spec}</script>'
        f"<figcaption>{alt}</figcaption></figure>"
    )


def _head(column: Column) -> str:
    return f"{column.metric}{column.about.arrow}\n{column.dataset}/{column.split} {column.protocol}"


def _row(comparison: Comparison, group: str, flags: dict[str, str]) -> str:
    counts = sorted({cell.summary.n for (g, _), cell in comparison.cells.items() if g == group})
    mark = f' <abbr title="{escape(flags[group])}">†</abbr>' if group in flags else ""
    cells = f'<td data-value="{escape(group)}">{escape(group)}{mark}</td>'
    counts = counts or [0]
    cells += f'<td data-value="{counts[-1]}" data-label="n">{"-".join(map(str, counts))}</td>'
    for column in comparison.columns:
        label = f'data-label="{escape(_head(column).replace(chr(10), " "))}"'
        cell = comparison.cells.get((group, column))
        if cell is None:
            nothing = "n/a" if (group, column) in comparison.undefined else "-"
            cells += f'<td data-value="" {label}>{nothing}</td>'
            continue
        places, summary, found = decimals(comparison, column), cell.summary, cell.difference
        text = fixed(summary.mean, places) + (
            f" ± {fixed(summary.std, places)}" if summary.std is not None else ""
        )
        small = (
            f"[{fixed(summary.ci95[0], places)}, {fixed(summary.ci95[1], places)}]" if summary.ci95 else ""
        )
        if found:
            small += f" Δ {found.delta:+.{places}f}" + (
                f" p {cell.p_holm:.2g}" if cell.p_holm is not None else ""
            )
        best = ' class="best"' if cell.best else ""
        inside = f"{escape(text)}<small>{escape(small.strip())}</small>"
        cells += f'<td data-value="{summary.mean:.9g}" {label}{best}>{inside}</td>'
    return f"<tr>{cells}</tr>"
