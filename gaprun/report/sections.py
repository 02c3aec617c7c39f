"""What stands in the report: each section's words, figures and tables, and whether these runs have anything for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from gaprun.comparison import views
from gaprun.comparison.health import SIGNS
from gaprun.comparison.statistics import summarise
from gaprun.paper.published import SOURCE, TABLES
from gaprun.paper.tables import beside, cells_table, sizes_table
from gaprun.report import blocks, curves, figures, groups, opening, overview
from gaprun.report.blocks import ReportSection
from gaprun.report.figure import Figure
from gaprun.report.files import filled
from gaprun.report.gather import Material
from gaprun.report.setups import BOTH, GIVES, MEASURES, RETRIEVAL, WORDS, SetupRows, setups_of
from gaprun.tables import Heading, Table, html
from gaprun.tables.numbers import bracketed, signed

if TYPE_CHECKING:
    from gaprun.report.pictures import RunPictures

MOST_OPEN = 12  # rows of a list that is shown without a click


def sections(material: Material, pictures: Mapping[str, RunPictures | str]) -> list[ReportSection]:
    """Every section of the report, also those without data."""
    found = setups_of(material)
    return [
        *opening.answers(found),
        opening.compared(material, found),
        _grouped(material, found),
        *_along(material, found),
        _uniformity(found[0]),
        _drawn(
            "sweep",
            "Is there an inverted U? The sweep of fixed temperatures",
            "Table 3 of the paper: retrieval is best in the middle, though the gap falls all the way.",
            [figures.inverted_u(material)],
        ),
        *_paper(material),
        *_from_checkpoints(pictures),
        _health(material),
    ]


def every_figure(material: Material) -> list[Figure]:
    """All figures that need no checkpoint, in the page's order."""
    found = setups_of(material)
    drawn: list[Figure | str] = []
    for number, setup in enumerate(found):
        drawn += opening.first_figures(setup, number)
    for number, setup in enumerate(found):
        drawn += _curves(material, setup, number)
    drawn += [curves.first_steps(material, found[0]), curves.closing(material, found)]
    drawn += [
        overview.scatter(found[0], "uniformity_w2_joint", "against-uniformity"),
        figures.inverted_u(material),
        groups.parallel(material, found[0]),
    ]
    return [one for one in drawn if isinstance(one, Figure)]


def _curves(material: Material, setup: SetupRows, number: int) -> list[Figure | str]:
    return [
        curves.along_training(material, setup, "gap", number),
        curves.along_training(material, setup, "temperature", number),
        *(curves.measured_along(material, setup, metric, number) for metric in material.measured),
    ]


def _drawn(
    name: str,
    title: str,
    words: str,
    found: Sequence[Figure | str],
    more: str = "",
    after: str = "",
) -> ReportSection:
    """A section of figures with `more` before and `after` behind them; reasons why some are missing are told only where
    all are.
    """
    drawn = [one for one in found if isinstance(one, Figure)]
    content = _joined(blocks.figure(one) for one in drawn or list(found)[:1])
    return ReportSection(name, title, words, Markup(more) + content + Markup(after), bool(drawn or after))


def _grouped(material: Material, found: Sequence[SetupRows]) -> ReportSection:
    figure = groups.parallel(material, found[0])
    content = filled(
        "regroup.html",
        data=groups.regrouping(material, found),
        measures=[WORDS[measure] + (" %" if measure != "gap" else "") for measure in MEASURES],
    )
    return ReportSection(
        "groups",
        "By any key of the recipes",
        "Runs grouped by whatever was varied. A group may hold several recipes: look here for what to compare, and "
        "above for differences that are tested.",
        content + (blocks.figure(figure) if isinstance(figure, Figure) else Markup("")),
        any(len(setup.labels) > 1 for setup in found),
    )


def _along(material: Material, found: Sequence[SetupRows]) -> list[ReportSection]:
    first, *others = (_curves(material, setup, number) for number, setup in enumerate(found))
    behind = _joined(
        blocks.folded(setup.words, _joined(blocks.figure(one) for one in own))
        for setup, curves_ in zip(found[1:], others, strict=True)
        if (own := [one for one in curves_ if isinstance(one, Figure)])
    )
    return [
        _drawn(
            "training",
            "Gap and temperature along training",
            "Measured on the training batch, whose gap is not that of the test split, and on the data named where "
            "`eval_every` measured along the way. A panel a method, the baseline "
            "in grey; a higher value of a method has a stronger colour (*: something else was changed too)."
            + _noted(material),
            first,
            after=behind,
        ),
        _drawn(
            "first-steps",
            "The first ten steps",
            "Theorem 3.3: from a random start the gap grows at first. Published (Fig. 4b): the change over the first "
            "ten steps is positive in each of 100 random inits, about +0.15 on average; most likely of the gap of the "
            "first batch and of the tenth (inferred from the authors' snapshot).",
            [curves.first_steps(material, found[0])],
            _first_batches(material),
        ),
        _drawn(
            "closing",
            "Does the gap close like 1/log(t)²?",
            "Theorem 3.2: under CLIP's own rule the gap closes no faster than that. A straight line falling "
            "to the right is what the law predicts, though many curves look straight over so short a range; claim C1 "
            "applies a stricter test, to runs with a positive margin. Published (Fig. 4a): in a real CLIP run the gap "
            "against -1/log(t)² is close to a line. Where the gap does not fall after its peak no line is drawn.",
            [curves.closing(material, found)],
        ),
    ]


def _uniformity(setup: SetupRows) -> ReportSection:
    figure = overview.scatter(setup, "uniformity_w2_joint", "against-uniformity")
    return _drawn(
        "against",
        "What goes with the gap, what with uniformity",
        "Figs. 6 and 7 of the paper; of several set-ups the first. A large mark is a recipe's mean over the seeds "
        "that have both, small ones its runs.",
        [figure if len(setup.labels) > 2 else "fewer than three rows of one set-up"],
        _correlations(setup) if len(setup.labels) > 2 else Markup(""),
    )


def _paper(material: Material) -> list[ReportSection]:
    study = material.study
    size = study.size() if study else {}
    tables = [beside(name, study, name != "table2") for name in TABLES]
    own = [table for table in tables if any(line.ours for line in table.lines)]
    decided = [verdict for verdict in material.verdicts if verdict.verdict != "undecided"]
    return [
        ReportSection(
            "claims",
            "What the paper claims, and what these runs say",
            f"Verdicts on the claims of {SOURCE}, by rules that were written before they were run "
            f"(docs/claims.md). They speak about this size: {_size(size)}.",
            blocks.claims(material.verdicts)
            if material.verdicts
            else blocks.no_data("no finished run is one of the paper's methods"),
            bool(decided),
        ),
        ReportSection(
            "paper",
            "The published numbers beside ours",
            "Published means of three seeds (no spread was published), and below them in small print ours: mean ± "
            "standard deviation (n seeds). The sizes differ, so compare orders and signs rather than values.",
            html.render(sizes_table(size), wrap=True)
            + _joined(html.render(cells_table(table)) for table in own or tables),
            bool(own),
        ),
    ]


def cloud_figures(pictures: Mapping[str, RunPictures | str]) -> list[Figure]:
    """A figure of two clouds for each run whose checkpoint was read."""
    return [
        figures.clouds(f"{name} ({found.run})", found.sides, found.names, number)
        for number, (name, found) in enumerate(pictures.items())
        if not isinstance(found, str)
    ]


def _from_checkpoints(pictures: Mapping[str, RunPictures | str]) -> list[ReportSection]:
    reasons = [f"{name}: {why}" if name else why for name, why in pictures.items() if isinstance(why, str)]
    shown_ = _joined(
        blocks.examples(f"{name} ({found.run}), {found.place}", found.examples)
        for name, found in pictures.items()
        if not isinstance(found, str)
    )
    why = _joined(blocks.no_data(reason) for reason in reasons)
    return [
        _drawn(
            "clouds",
            "The two clouds, before and after training",
            "Images and captions of matched pairs, joined by grey lines, in the plane of the two main components of "
            "each panel. Panels have axes of their own; distances within one are to scale. Batch normalisation before "
            "training uses these images' statistics. Their gap is of these pairs alone.",
            [*cloud_figures(pictures), *reasons],
        ),
        ReportSection(
            "examples",
            "Retrieval examples",
            "Test images with the three captions that the model finds nearest among 512 (fewer in a smaller split), "
            "and their cosines.",
            shown_ or why,
            bool(shown_),
        ),
    ]


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _first_batches(material: Material) -> Markup:
    """Ours beside the published statement: the gap of the first batch and of the tenth, by row."""
    rows = [("published (Fig. 4b)", "100", "100", "about +0.150", "")]
    for label, changes in figures.first_batches(material).items():
        found = summarise(changes)
        ends = bracketed(found.ci95, 3, sign=True)
        grown = sum(change > 0 for change in changes)
        rows.append((label, str(found.n), str(grown), signed(found.mean, 3), ends))
    heads = ("first to tenth batch", "runs", "gap grows in", "mean change", "95 % interval")
    table = Table.of("first-batches", heads, rows)
    return blocks.folded("Row by row", html.render(table)) if len(rows) > 1 else Markup("")


def _correlations(setup: SetupRows) -> Markup:
    measured = {column.metric for column in setup.comparison.columns}
    predictors = [name for name in ("gap", "uniformity_w2_joint") if name in measured]
    if not predictors:
        return Markup("")
    view = views.correlations(setup.comparison, predictors)
    rows = tuple(
        row for row in view.rows if row[0].lines[0] in (*BOTH, *GIVES) and row[0].lines[0] != RETRIEVAL
    )
    return html.render(replace(view, rows=rows))


def _health(material: Material) -> ReportSection:
    rows = [
        (run, SIGNS[finding.sign], finding.text)
        for run, found in material.health.items()
        for finding in found
    ]
    heads = ("run", "signature", Heading("numbers", wrap=True))
    table = html.render(Table.of("health", heads, sorted(rows)), wrap=True) if rows else None
    content = filled(
        "health.html",
        flagged=len(material.health),
        recorded=len(material.paths),
        table=table,
        folded=len(rows) > MOST_OPEN,
    )
    words = (
        f"{len(SIGNS)} known failure signatures, by the rules of docs/health.md. A flag is a reason to look."
        + _noted(material)
    )
    return ReportSection("health", "Health", words, content, bool(material.paths))


def _noted(material: Material) -> str:
    """What of the runs is not drawn, to be said where it is missing."""
    return "".join(f" {note}" for note in material.notes)


def _size(size: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in size.items()) or "nothing was run"
