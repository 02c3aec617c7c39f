"""The report as one HTML file: the sections in the order in which a reader asks, script and style inside."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from gaprun.files import PAGE_MARK, check_page, replace_page
from gaprun.palette import DARK
from gaprun.paper.settings import MethodSetting
from gaprun.report.files import asset, filled
from gaprun.report.gather import Material
from gaprun.report.sections import ReportSection, cloud_figures, every_figure, sections

if TYPE_CHECKING:
    from gaprun.comparison.margins import Margin
    from gaprun.report.pictures import RunPictures
    from gaprun.store import Store

SCRIPTS = ("figures.js", "table.js", "regroup.js")


def write_report(
    store: Store,
    out: Path,
    where: Sequence[str] = (),
    models: bool = True,
    at: str | None = None,
    folder: Path | None = None,
    margin: Margin | None = None,
) -> Material:
    """Write the report on the finished runs that meet `where` to `out`; `models` False leaves checkpoints unread, `at`
    is the moment of training whose values it shows (claims are of the end), `margin` the difference that would matter
    (`compare`).

    `folder`: each figure as files too (`on_paper`). Returns the material. Raises UserError when there is nothing to
    report, and where `out` or `folder` is there and not gaprun's.
    """
    from gaprun.report import on_paper
    from gaprun.report.gather import gather

    check_page(out)
    if folder is not None:
        on_paper.check_figures(folder)
    material = gather(store, where, at, margin)
    pictures = read(store, material) if models else {"": "checkpoints were not read (--no-models)"}
    name = store.place.path.name if store.place.path else store.place.name
    title = f"Modality gap report: {name}"
    replace_page(out, document(title, sections(material, pictures)))
    if folder is not None:
        on_paper.write_figures([*every_figure(material), *cloud_figures(pictures)], folder)
    return material


def document(title: str, parts: Sequence[ReportSection]) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    return filled(
        "page.html",
        title=title,
        parts=parts,
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        mark=Markup(PAGE_MARK),
        dark=Markup(json.dumps(DARK)),
        style=asset("page.css"),
        scripts=[asset(name) for name in SCRIPTS],
        plotly=Markup(get_plotlyjs()),
    )


def read(store: Store, material: Material) -> dict[str, RunPictures | str]:
    """Pictures of the baseline and of the row with the smallest gap, in the set-up that is judged: of their first run
    whose checkpoint can be read.
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
