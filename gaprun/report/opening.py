"""The first sections of the report: each set-up's answer in sentences and figures, and its rows in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from gaprun.comparison import legend
from gaprun.comparison.health import SIGNS
from gaprun.comparison.values import Column, Comparison
from gaprun.report import blocks, overview
from gaprun.report.blocks import ReportSection
from gaprun.report.figure import Figure
from gaprun.report.files import filled
from gaprun.report.gather import Material
from gaprun.report.setups import SetupRows, plain_protocol
from gaprun.tables.numbers import counted


def answers(found: Sequence[SetupRows]) -> list[ReportSection]:
    """The answer of the first set-up, and that of the others."""
    parts = [
        blocks.setup(setup, first_figures(setup, number), not number) for number, setup in enumerate(found)
    ]
    sections = [ReportSection("answer", "The answer", "", parts[0])]
    if len(found) > 1:
        words = (
            "The same question asked of other data, sizes or lengths of training. No row is compared with one of "
            "another set-up."
        )
        title = f"The answer in {counted(len(found) - 1, 'other set-up')}"
        sections.append(ReportSection("answers", title, words, Markup("").join(parts[1:])))
    return sections


def first_figures(setup: SetupRows, number: int) -> list[Figure | str]:
    """A set-up's differences with their intervals, and its gap against what it may buy."""
    end = f"-{number}" if number else ""
    return [
        overview.forest(setup, f"answer{end}"),
        overview.scatter(setup, name=f"against-gap{end}"),
    ]


def compared(material: Material, found: Sequence[SetupRows]) -> ReportSection:
    """A table a set-up, all but the first behind a click."""
    flagged = replace(material.comparison, marks=_flags(material))
    tables = [
        (words, blocks.compared(part, f"compared-{number}" if number else "compared"))
        for number, (words, part) in enumerate(_parts(flagged, found))
    ]
    content = tables[0][1]
    if len(tables) > 1:
        content = Markup("<h3>{}</h3>").format(tables[0][0]) + content
        content += Markup("").join(blocks.folded(words, table) for words, table in tables[1:])
    said = " ".join(legend.about(material.comparison))
    small = "Δ, the difference from the baseline with its 95 % interval and corrected p"
    if not any(setup.baseline and setup.methods for setup in found):
        small = "the 95 % interval"
    words = f"Small print in a cell: {small}. Click a column to sort."
    return ReportSection(
        "compare", "Every method in numbers", words, content + filled("legend.html", words=said)
    )


def _parts(comparison: Comparison, found: Sequence[SetupRows]) -> list[tuple[str, Comparison]]:
    """The comparison of each set-up by its words, and of the rows that have no baseline."""
    parts = comparison.parts()
    known = [setup.words for setup in found if setup.words in parts]
    if not known:
        return [("", comparison)]
    rest = [group for group in comparison.groups if comparison.names[group].setup not in known]
    shown = [(words, _plain(parts[words])) for words in known]
    if rest:
        measured = {column for group, column in comparison.cells if group in rest}
        columns = [column for column in comparison.columns if column in measured]
        shown.append(("rows without a baseline", replace(comparison, groups=rest, columns=columns)))
    return shown


def _plain(part: Comparison) -> Comparison:
    """Protocols without what only tells them from those of other set-ups."""

    def plain(column: Column) -> Column:
        return replace(column, protocol=plain_protocol(column.protocol))

    counts = Counter(plain(column) for column in part.columns)
    names = {column: short if counts[short := plain(column)] == 1 else column for column in part.columns}
    return replace(
        part,
        columns=list(names.values()),
        cells={(group, names[column]): cell for (group, column), cell in part.cells.items()},
        undefined={(group, names[column]): number for (group, column), number in part.undefined.items()},
    )


def _flags(material: Material) -> dict[str, str]:
    """For each row with flagged runs, which signatures in how many of them."""
    found = {}
    for label in material.labels:
        runs = material.runs_of(label)
        signs = [finding.sign for run in runs for finding in material.health.get(run, ())]
        if signs:
            found[label] = ", ".join(
                f"{s} in {signs.count(s)} of {len(runs)} runs" for s in SIGNS if s in signs
            )
    return found
