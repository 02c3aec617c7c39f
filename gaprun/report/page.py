"""The report as one HTML file: sections in the order in which a reader asks, script and style inside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from gaprun.comparison import shown, views
from gaprun.comparison.health import SIGNS
from gaprun.comparison.statistics import summarise
from gaprun.files import PAGE_MARK, check_page, replace_page
from gaprun.paper.published import SOURCE, TABLES
from gaprun.paper.settings import MethodSetting
from gaprun.paper.tables import beside, cells_table, sizes_table
from gaprun.report import blocks, figures
from gaprun.report.gather import Material
from gaprun.tables import Heading, Table, html

if TYPE_CHECKING:
    from gaprun.report.pictures import RunPictures
    from gaprun.store import Store

ASSETS = Path(__file__).parent / "assets"
MOST_OPEN = 12  # rows of a list that is shown without a click


@dataclass(frozen=True)
class ReportSection:
    """One part of the page: `words` as plain text, `content` as HTML."""

    name: str
    title: str
    words: str
    content: Markup


def write_report(
    store: Store, out: Path, where: Sequence[str] = (), models: bool = True, at: str | None = None
) -> Material:
    """Write the report on the finished runs that meet `where` to `out`; `models` False leaves checkpoints unread, `at`
    is the moment of training whose values it shows (claims are of the end).

    Returns the material. Raises UserError when there is nothing to report, and for an `out` that is there and no page
    of gaprun's.
    """
    from gaprun.report.gather import gather

    check_page(out)
    material = gather(store, where, at)
    pictures = _pictures(store, material) if models else {"": "checkpoints were not read (--no-models)"}
    name = store.place.path.name if store.place.path else store.place.name
    title = f"Modality gap report: {name}"
    replace_page(out, document(title, sections(material, pictures)))
    return material


def sections(material: Material, pictures: Mapping[str, RunPictures | str]) -> list[ReportSection]:
    """Every section of the report, also those without data."""
    comparison, study = material.comparison, material.study
    legend = " ".join(shown.about(comparison) + [f"{note}." for note in material.notes])
    size = study.size() if study else {}
    flagged = replace(comparison, marks=_flags(material))
    return [
        ReportSection(
            "compare",
            "Which method is better, and how surely",
            f"{legend} Small print in a cell: the difference from the baseline with its interval and corrected p, "
            "then the interval of the mean. Click a column to sort.",
            blocks.compared(flagged),
        ),
        ReportSection(
            "claims",
            "What the paper claims, and what these runs say",
            f"Verdicts on the claims of {SOURCE}, by rules that were written before they were run "
            f"(docs/claims.md). They speak about this size: {_size(size)}.",
            blocks.claims(material.verdicts)
            if material.verdicts
            else blocks.no_data("no finished run is one of the paper's methods"),
        ),
        ReportSection(
            "paper",
            "The published numbers beside ours",
            "Published means of three seeds in small print (no spread was published), ours below: mean ± standard "
            "deviation (n seeds). The sizes differ, so compare orders and signs rather than values.",
            html.render(sizes_table(size), wrap=True)
            + _joined(html.render(cells_table(beside(name, study, name != "table2"))) for name in TABLES),
        ),
        ReportSection(
            "training",
            "Gap and temperature along training",
            "Thick lines are means over seeds, thin lines single runs. Measured on the training batch, and on "
            "the data named where `eval_every` measured along the way. With more rows than can be told apart, each "
            "method has charts of its own, with its baseline first.",
            blocks.charts(figures.along_training(material)),
        ),
        ReportSection(
            "closing",
            "Does the gap close like 1/log(t)²?",
            "Theorem 3.2: under CLIP's own rule the gap closes no faster than that. A straight line falling "
            "to the right is what the law predicts, though many curves look straight over so short a range; claim C1 "
            "applies a stricter test, to runs with a positive margin. Published (Fig. 4a): in a real CLIP run the gap "
            "against -1/log(t)² is close to a line.",
            blocks.charts(figures.closing(material)),
        ),
        ReportSection(
            "first-steps",
            "The first ten steps",
            "Theorem 3.3: from a random start the gap grows at first. Published (Fig. 4b): the change over the first "
            "ten steps is positive in each of 100 random inits, about +0.15 on average; most likely of the gap of the "
            "first batch and of the tenth (inferred from the authors' snapshot).",
            _first_batches(material) + blocks.charts(figures.first_steps(material)),
        ),
        ReportSection(
            "against",
            "What goes with the gap, what with uniformity",
            "Large marks are a row's mean, small ones its runs (Figs. 6 and 7 of the paper). Of several set-ups "
            "(sizes, lengths) only the one that the claims are judged in.",
            blocks.charts(figures.against(material)) + _correlations(material),
        ),
        ReportSection(
            "sweep",
            "Is there an inverted U? The sweep of fixed temperatures",
            "Table 3 of the paper: retrieval is best in the middle, though the gap falls all the way.",
            blocks.charts(figures.inverted_u(material)),
        ),
        ReportSection(
            "clouds",
            "The two clouds, before and after training",
            "Images and captions of matched pairs, joined by grey lines, in the plane of the two main components of "
            "each panel. Panels have axes of their own; distances within one are to scale. Batch normalisation before "
            "training uses these images' statistics.",
            _clouds(pictures),
        ),
        ReportSection(
            "examples",
            "Retrieval examples",
            "Test images with the three captions that the model finds nearest among 512 (fewer in a smaller split), "
            "and their cosines.",
            _examples(pictures),
        ),
        ReportSection(
            "health",
            "Health",
            "Four known failure signatures, by the rules of docs/health.md. A flag is a reason to look.",
            _health(material),
        ),
    ]


def document(title: str, parts: Sequence[ReportSection]) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    style, script = (Markup((ASSETS / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    return blocks.filled(
        "page.html",
        title=title,
        parts=parts,
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        mark=Markup(PAGE_MARK),
        style=style,
        script=script,
        plotly=Markup(get_plotlyjs()),
    )


def _pictures(store: Store, material: Material) -> dict[str, RunPictures | str]:
    """Of the baseline and of the row with the smallest gap, in the set-up that is judged: their first run whose
    checkpoint can be read.
    """
    from gaprun.report.pictures import read_pictures

    main = set(material.main)
    cells = material.comparison.cells
    gaps = {g: cell.summary.mean for (g, c), cell in cells.items() if c.metric == "gap" and g in main}
    baseline = MethodSetting("baseline")
    plain = [r for r, group in material.groups.items() if group in main and material.settings[r] == baseline]
    labels = list(
        dict.fromkeys(
            [*(material.groups[run] for run in plain[:1]), *sorted(gaps, key=lambda g: gaps[g])[:1]]
        )
    )
    found: dict[str, RunPictures | str] = {}
    for label in labels or material.labels[:1]:
        for run in material.runs_of(label):
            found[label] = read_pictures(store, run)
            if not isinstance(found[label], str):
                break
    return found


def _joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def _clouds(pictures: Mapping[str, RunPictures | str]) -> Markup:
    return _joined(
        blocks.no_data(f"{name}: {found}" if name else found)
        if isinstance(found, str)
        else blocks.charts(figures.clouds(f"{name} ({found.run})", found.sides, found.names, index))
        for index, (name, found) in enumerate(pictures.items())
    )


def _examples(pictures: Mapping[str, RunPictures | str]) -> Markup:
    return _joined(
        blocks.no_data(f"{name}: {found}" if name else found)
        if isinstance(found, str)
        else blocks.examples(f"{name} ({found.run}), {found.place}", found.examples)
        for name, found in pictures.items()
    )


def _first_batches(material: Material) -> Markup:
    """Ours beside the published statement: the gap of the first batch and of the tenth, by row."""
    rows = [("published (Fig. 4b)", "100", "100", "about +0.150", "")]
    for label, changes in figures.first_batches(material).items():
        found = summarise(changes)
        ends = f"[{found.ci95[0]:+.3f}, {found.ci95[1]:+.3f}]" if found.ci95 else ""
        grown = sum(change > 0 for change in changes)
        rows.append((label, str(found.n), str(grown), f"{found.mean:+.3f}", ends))
    heads = ("first to tenth batch", "runs", "gap grows in", "mean change", "95 % interval")
    return html.render(Table.of("first-batches", heads, rows)) if len(rows) > 1 else Markup("")


def _correlations(material: Material) -> Markup:
    wanted = ("gap", "uniformity_w2_joint")
    listed = ("image_recall@1", "text_recall@1", "zeroshot_top1", "probe_top1")
    comparison = replace(material.comparison, groups=material.main, notes=[])
    predictors = [name for name in wanted if any(c.metric == name for c in comparison.columns)]
    if not predictors:
        return Markup("")
    view = views.correlations(comparison, predictors)
    rows = tuple(row for row in view.rows if row[0].lines[0] in listed)
    return html.render(replace(view, rows=rows))


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


def _health(material: Material) -> Markup:
    rows = [
        (run, SIGNS[finding.sign], finding.text)
        for run, found in material.health.items()
        for finding in found
    ]
    heads = ("run", "signature", Heading("numbers", wrap=True))
    table = html.render(Table.of("health", heads, sorted(rows)), wrap=True) if rows else None
    return blocks.filled(
        "health.html",
        flagged=len(material.health),
        recorded=len(material.paths),
        table=table,
        folded=len(rows) > MOST_OPEN,
    )


def _size(size: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in size.items()) or "nothing was run"
