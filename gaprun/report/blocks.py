"""Pieces of the page as HTML, from the templates beside this file: charts, tables, claims, examples, missing data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from gaprun.comparison import shown
from gaprun.comparison.table import Comparison
from gaprun.paper.claims import Verdict
from gaprun.report.charts import Chart
from gaprun.tables import html

if TYPE_CHECKING:
    from gaprun.report.pictures import Example


def filled(name: str, **values: object) -> Markup:
    """One of the report's templates with these values."""
    return html.filled("gaprun.report", name, **values)


def no_data(why: str) -> Markup:
    """A part without data says so in its place."""
    return filled("none.html", why=_capital(why))


def charts(found: Sequence[Chart] | str) -> Markup:
    """Charts side by side where there is room; a string is the reason why there are none."""
    if isinstance(found, str):
        return no_data(found)
    return filled(
        "charts.html",
        charts=[replace(chart, alt=_capital(chart.alt)) for chart in found],
        specs=[_spec(chart) for chart in found],
    )


def compared(comparison: Comparison) -> Markup:
    """The comparison as a table that sorts by any column and filters by row and column."""
    table = replace(shown.whole(comparison), legend=())
    return filled("compared.html", table=html.render(table, sortable="compared"))


def claims(verdicts: Sequence[Verdict]) -> Markup:
    """A card a claim: verdict, evidence, rule, runs."""
    return filled("claims.html", verdicts=verdicts)


def examples(title: str, found: Sequence[Example]) -> Markup:
    """Pictures with their best captions, right and wrong ones marked in words, sign and colour."""
    return filled("examples.html", title=title, examples=found)


def _spec(chart: Chart) -> Markup:
    spec = json.dumps(
        {"data": list(chart.data), "layout": chart.layout}, separators=(",", ":"), allow_nan=False
    )
    return Markup(spec.replace("<", "\\u003c"))  # a label must not be able to end the script element


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
