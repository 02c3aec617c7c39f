"""The report's other figures: the sweep of fixed temperatures beside the published one, and the two clouds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gaprun.comparison.statistics import summarise
from gaprun.evaluation import catalogue
from gaprun.palette import COLOURS, FAINT, GREY, IMAGE, TEXT
from gaprun.paper.published import TABLES
from gaprun.report.curves import FIRST_STEPS
from gaprun.report.figure import Axis, Figure, Ink, Mark, Panel
from gaprun.report.gather import Material

SWEPT = ("image_recall@1", "text_recall@1", "gap")
PAIRS = Ink(FAINT)


def first_batches(material: Material) -> dict[str, list[float]]:
    """By row, each run's gap of the tenth batch (after nine updates) less that of the first."""
    found: dict[str, list[float]] = {}
    for label in material.labels:
        for run in material.runs_of(label):
            gaps = {row["step"]: row["gap"] for row in material.paths.get(run, ()) if row["gap"] is not None}
            if 0 in gaps and FIRST_STEPS - 1 in gaps:
                found.setdefault(label, []).append(gaps[FIRST_STEPS - 1] - gaps[0])
    return found


def inverted_u(material: Material) -> Figure | str:
    """Retrieval and gap against the fixed temperature, ours above and the published curve below."""
    study = material.study
    settings = [s for s in study.settings if s.method == "FLT" and not s.variant] if study else []
    if study is None or len(settings) < 2:
        return "fewer than two fixed temperatures were run: `gaprun train recipes/paper/table3.yaml` runs the sweep"
    sweep = TABLES["table3"]
    ours, theirs, texts = [], [], []
    for metric in SWEPT:
        words = catalogue.metric(metric).title
        taus, summaries = [], []
        for setting in settings:
            found = [r.values[metric] for r in study.of(setting).values() if metric in r.values]
            if found:
                taus.append(setting.value or 0.0)
                summaries.append(summarise(found))
        if len(taus) < 2:
            continue
        means = [s.mean for s in summaries]
        ends = (
            [s.ci95[0] if s.ci95 else s.mean for s in summaries],
            [s.ci95[1] if s.ci95 else s.mean for s in summaries],
        )
        x = Axis("fixed temperature τ", log=True)
        marks = [Mark("ours", taus, means, Ink(COLOURS[0]), "both", y_ends=ends, listed=True)]
        ours.append(Panel(f"{words}, ours", x, Axis(words), marks))
        place = next(i for i, m in enumerate(sweep.measures) if m.metric == metric)
        published = [(row.value or 0.0, row.published[place] or 0.0) for row in sweep.rows]
        line = Mark(
            "published (RN50, MSCOCO)", [p[0] for p in published], [p[1] for p in published],
            Ink(GREY, "square", "dash"), "both", listed=True,
        )  # fmt: skip
        theirs.append(Panel(f"{words}, published", x, Axis(words), [line]))
        best = taus[means.index(max(means))]
        texts.append(
            f"{words}, ours: " + ", ".join(f"{t:g}: {m:.3g}" for t, m in zip(taus, means, strict=True))
            + f", highest at {best:g}; published: " + ", ".join(f"{t:g}: {v:.3g}" for t, v in published)
        )  # fmt: skip
    if not ours:
        return "the fixed temperatures that were run have no retrieval results"
    title = "Retrieval and gap against the fixed temperature, ours above the published"
    alt = f"{title}; intervals are 95 % of the mean. {'. '.join(texts)}."
    return Figure("sweep", title, alt, [*ours, *theirs], columns=len(ours), height=230, shared=("x",))


def clouds(
    name: str, sides: Mapping[str, tuple[Any, Any, float]], names: Sequence[str], index: int
) -> Figure:
    """Before and after training: (P, 2) images and texts of each side and the gap in the full space."""
    panels, texts = [], []
    for side, (images, texts_of, gap) in sides.items():
        a, b = images.tolist(), texts_of.tolist()
        xs = [v for one, other in zip(a, b, strict=True) for v in (one[0], other[0], float("nan"))]
        ys = [v for one, other in zip(a, b, strict=True) for v in (one[1], other[1], float("nan"))]
        marks = [Mark("matched pairs", xs, ys, PAIRS, "line", faint=True)]
        for rows, what, ink in ((a, "images", Ink(IMAGE)), (b, "texts", Ink(TEXT, "diamond"))):
            x, y = [r[0] for r in rows], [r[1] for r in rows]
            marks.append(Mark(what, x, y, ink, text=list(names), listed=True, size=5))
        words = f"{side} training, gap of these pairs {gap:.2f}"
        panels.append(Panel(words, Axis("first component"), Axis("second component"), marks))
        texts.append(words)
    title = f"Images and texts of {name}"
    alt = f"{title}: {len(names)} pairs in the plane of their two main components; {'; '.join(texts)}."
    return Figure(f"cloud-{index}", title, alt, panels, columns=2, least=300, height=360, square=True)
