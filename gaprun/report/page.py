"""The report as one HTML file: sections in the order in which a reader asks, script and style inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprun.comparison import render, views
from gaprun.comparison.health import SIGNS
from gaprun.files import PAGE_MARK, check_page, replace_page
from gaprun.paper.published import SETTING, SOURCE, TABLES
from gaprun.paper.settings import MethodSetting
from gaprun.paper.tables import beside
from gaprun.report import blocks, figures
from gaprun.report.blocks import escape
from gaprun.report.gather import Material

if TYPE_CHECKING:
    from gaprun.report.pictures import RunPictures
    from gaprun.store import Store

ASSETS = Path(__file__).parent / "assets"
MOST_OPEN = 12  # rows of a list that is shown without a click


@dataclass(frozen=True)
class ReportSection:
    """One part of the page; `words` and `content` are HTML."""

    name: str
    title: str
    words: str
    content: str


def write_report(store: Store, out: Path, where: Sequence[str] = (), models: bool = True) -> Material:
    """Write the report on the finished runs that meet `where` to `out`; `models` False leaves checkpoints unread.

    Returns the material. Raises UserError when there is nothing to report, and for an `out` that is there and no page
    of gaprun's.
    """
    from gaprun.report.gather import gather

    check_page(out)
    material = gather(store, where)
    pictures = _pictures(store, material) if models else {"": "checkpoints were not read (--no-models)"}
    name = store.place.path.name if store.place.path else store.place.name
    title = f"Modality gap report: {name}"
    replace_page(out, document(title, sections(material, pictures)))
    return material


def sections(material: Material, pictures: Mapping[str, RunPictures | str]) -> list[ReportSection]:
    """Every section of the report, also those without data."""
    comparison, study = material.comparison, material.study
    legend = " ".join(render.legend(comparison) + [f"{note}." for note in material.notes])
    size = study.size() if study else {}
    flags = _flags(material)
    return [
        ReportSection(
            "compare",
            "Which method is better, and how surely",
            f"{escape(legend)} Small print in a cell: the interval, the difference from the baseline, its corrected p. "
            "Click a column to sort.",
            blocks.compared(comparison, flags),
        ),
        ReportSection(
            "claims",
            "What the paper claims, and what these runs say",
            f"Verdicts on the claims of {escape(SOURCE)}, by rules that were written before they were run "
            "(docs/claims.md). They speak about this size: " + escape(_size(size)) + ".",
            blocks.claims(material.verdicts)
            if material.verdicts
            else blocks.no_data("no finished run is one of the paper's methods"),
        ),
        ReportSection(
            "paper",
            "The published numbers beside ours",
            "Published means of three seeds in small print (no spread was published), ours below: mean ± standard "
            "deviation (n seeds). The sizes differ, so compare orders and signs rather than values.",
            _sizes(size)
            + "".join(blocks.published(beside(name, study, name != "table2")) for name in TABLES),
        ),
        ReportSection(
            "training",
            "Gap and temperature along training",
            "Thick lines are means over seeds, thin lines single runs. Measured on the training batch. With more rows "
            "than can be told apart, each method has charts of its own, with its baseline first.",
            blocks.charts(figures.along_training(material)),
        ),
        ReportSection(
            "closing",
            "Does the gap close like 1/log(t)²?",
            "Theorem 3.2: under CLIP's own rule the gap closes no faster than that. A straight line falling "
            "to the right is what the law predicts, though many curves look straight over so short a range; claim C1 "
            "applies a stricter test.",
            blocks.charts(figures.closing(material)),
        ),
        ReportSection(
            "first-steps",
            "The first ten steps",
            "Theorem 3.3: from a random start the gap grows at first.",
            blocks.charts(figures.first_steps(material)),
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

    links = "".join(f'<li><a href="#{part.name}">{escape(part.title)}</a></li>' for part in parts)
    body = "".join(
        f'<section id="{p.name}"><h2>{escape(p.title)}</h2><p>{p.words}</p>{p.content}</section>'
        for p in parts
    )
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    style, script = ((ASSETS / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"{PAGE_MARK}"
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{style}</style></head><body>"
        f'<header><h1>{escape(title)}</h1><p class="soft">Written {now}.</p>'
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header><main>{body}</main>'
        '<footer><p class="soft">Made by gaprun report. Charts by plotly.js, inside this file; nothing is loaded.'
        f"</p></footer><script>{get_plotlyjs()}</script><script>{script}</script></body></html>\n"
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


def _clouds(pictures: Mapping[str, RunPictures | str]) -> str:
    parts = []
    for index, (name, found) in enumerate(pictures.items()):
        if isinstance(found, str):
            parts.append(blocks.no_data(f"{name}: {found}" if name else found))
        else:
            parts.append(
                blocks.charts(figures.clouds(f"{name} ({found.run})", found.sides, found.names, index))
            )
    return "".join(parts)


def _examples(pictures: Mapping[str, RunPictures | str]) -> str:
    parts = []
    for name, found in pictures.items():
        if isinstance(found, str):
            parts.append(blocks.no_data(f"{name}: {found}" if name else found))
        else:
            parts.append(f"<h3>{escape(name)} ({escape(found.run)}), {escape(found.place)}</h3>")
            parts.append(blocks.examples(found.examples))
    return "".join(parts)


def _correlations(material: Material) -> str:
    wanted = ("gap", "uniformity_w2_joint")
    shown = ("image_recall@1", "text_recall@1", "zeroshot_top1", "probe_top1")
    comparison = replace(material.comparison, groups=material.main, notes=[])
    predictors = [name for name in wanted if any(c.metric == name for c in comparison.columns)]
    if not predictors:
        return ""
    view = views.correlations(comparison, predictors)
    rows = [row for row in view.rows if row[0] in shown]
    return blocks.plain(view.heads, rows) + f'<p class="note">{escape(" ".join(view.legend))}</p>'


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


def _health(material: Material) -> str:
    rows = [
        (run, SIGNS[finding.sign], finding.text)
        for run, found in material.health.items()
        for finding in found
    ]
    count = f"<p>{len(material.health)} of {len(material.paths)} runs with recorded curves are flagged.</p>"
    if not rows:
        return count
    listed = blocks.plain(("run", "signature", "numbers"), sorted(rows), wrap=True)
    if len(rows) > MOST_OPEN:
        listed = f"<details><summary>All of them</summary>{listed}</details>"
    return count + listed


def _sizes(ours: Mapping[str, str]) -> str:
    rows = [(name, paper, ours.get(name, "no runs")) for name, paper in SETTING.items()]
    return blocks.plain(("size", "paper", "ours"), rows, wrap=True)


def _size(size: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in size.items()) or "nothing was run"
