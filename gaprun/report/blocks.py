"""Pieces of the page as HTML, from the templates beside this file: figures, tables, claims, examples, missing data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from markupsafe import Markup

from gaprun.comparison import shown
from gaprun.comparison.answer import sentences
from gaprun.comparison.values import Comparison
from gaprun.paper.claims import Verdict
from gaprun.report.figure import Figure
from gaprun.report.files import drawn, filled
from gaprun.report.setups import SetupRows
from gaprun.tables import html

if TYPE_CHECKING:
    from gaprun.report.pictures import Example

FEW = ("gap", "image_recall@1", "text_recall@1", "zeroshot_top1", "probe_top1")


@dataclass(frozen=True)
class ReportSection:
    """One part of the page: `words` as plain text, `content` as HTML; what does not apply is folded away."""

    name: str
    title: str
    words: str
    content: Markup
    applies: bool = True


def no_data(why: str) -> Markup:
    """A part without data says so in its place."""
    return filled("none.html", why=why[:1].upper() + why[1:])


def figure(found: Figure | str) -> Markup:
    """A figure with its title, switches and buttons; a string is the reason why there is none."""
    return no_data(found) if isinstance(found, str) else drawn(found)


NO_BASELINE = (
    "No difference can be shown: that takes a recipe called baseline and another one of the same set-up, both with a "
    "measured gap. The figure shows what each row reached."
)


def setup(found: SetupRows, figures: Sequence[Figure | str], first: bool) -> Markup:
    """The answer of a set-up in sentences, and its figures."""
    return filled(
        "setup.html",
        words=found.words,
        sentences=list(filter(None, [*(sentences(found.spoken) or [NO_BASELINE]), found.verdicts()])),
        figures=[figure(one) for one in figures],
        first=first,
    )


def compared(comparison: Comparison, name: str) -> Markup:
    """The comparison as a table that sorts by any column and filters by row and column; few columns at first.

    name: of the page's element.
    """
    table = replace(shown.whole(comparison), legend=())
    usual = set(shown.usual(comparison).columns)
    few = [place for place, c in enumerate(comparison.columns, 2) if c in usual and c.metric in FEW]
    every = few or [place for place, c in enumerate(comparison.columns, 2) if c in usual]
    return filled("compared.html", table_id=name, table=html.render(table, sortable=name), few=every)


def claims(verdicts: Sequence[Verdict]) -> Markup:
    """A card a claim: verdict, evidence, rule, runs; those that are undecided fold away."""
    return filled("claims.html", verdicts=verdicts)


def examples(title: str, found: Sequence[Example]) -> Markup:
    """Pictures with their best captions, right and wrong ones marked in words, sign and colour."""
    return filled("examples.html", title=title, examples=found)


def folded(title: str, content: Markup) -> Markup:
    """Something that a click opens."""
    return filled("folded.html", title=title, content=content)
