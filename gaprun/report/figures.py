"""The report's charts from its material; each function returns charts, or the reason why there is none."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from gaprun.comparison.correlation import correlate
from gaprun.comparison.places import place_of, usual_places
from gaprun.comparison.recipes import what_differs
from gaprun.comparison.statistics import summarise
from gaprun.evaluation import catalogue
from gaprun.paper.published import TABLES
from gaprun.paper.settings import MethodSetting
from gaprun.report import charts
from gaprun.report.charts import Chart, layout
from gaprun.report.gather import Material
from gaprun.tables.numbers import bracketed, fixed, signed, significant

Found = list[Chart] | str
ByRun = Mapping[str, Sequence[tuple[int, float]]]
FIRST_STEPS = 10
RIGHT = "#D55E00"
SWEPT = ("image_recall@1", "text_recall@1", "gap")


def along_training(material: Material) -> Found:
    """Gap and temperature, and what was measured along the way, against the step: a line a row, with switches between
    linear and log axes.

    More rows than there are colours get a pair of charts a method, each with the baseline for comparison.
    """
    drawn: list[tuple[str, str, ByRun]] = [
        ("train-gap", "gap of the training batch", _recorded(material, "gap")),
        ("train-temperature", "temperature τ", _recorded(material, "temperature")),
    ]
    for name, found in material.measured.items():
        slug = name.replace("_", "-").replace("@", "-")
        drawn.append((f"measured-{slug}", f"{_words(name)} on {found.place}", found.paths))
    result: list[Chart] = []
    for number, (title, labels) in enumerate(_panels(material)):
        for chart, words, by_run in drawn:
            own = _paths(material, by_run, labels)
            if not own:
                continue
            baseline = material.comparison.baselines.get(labels[0], labels[0])
            beside = title and material.setups[baseline] == material.setups[labels[0]]
            paths = {**_paths(material, by_run, [baseline] if beside else []), **own}
            ends = ", ".join(f"{name} ends at {_mean_end(runs):.3g}" for name, runs in paths.items())
            result.append(
                Chart(
                    chart + (f"-{number}" if title else ""),
                    f"{title + ', ' if title else ''}{words} along training: {ends}.",
                    charts.curves(paths),
                    layout("training step + 1", words, xaxis={"type": "log"}),
                    ("xaxis", "yaxis"),
                    title,
                )
            )
    return result or "no run recorded a gap or a temperature while training"


def _words(name: str) -> str:
    """An axis's title: what a metric is, which way is better, its unit."""
    if name == "retrieval":
        return "recall@1, mean of both ways (%)"
    return catalogue.metric(name).title


def _panels(material: Material) -> list[tuple[str, list[str]]]:
    """(title, rows) of each pair of charts along training."""
    if len(material.labels) <= len(charts.COLOURS):
        return [("", material.labels)]
    setups = list(dict.fromkeys(material.setups.values()))
    apart = what_differs({f"set-up {number}": json.loads(text) for number, text in enumerate(setups, 1)})
    names = dict(zip(setups, apart.values(), strict=True))
    found: dict[str, list[str]] = {}
    for label in material.labels:
        of = names[material.setups[label]]
        found.setdefault(material.family(label) + (f" [{of}]" if of else ""), []).append(label)
    return list(found.items())


def closing(material: Material) -> Found:
    """Gap against -1/log(t)^2 for the runs of CLIP's own rule, with the straight line fitted to each row's mean."""
    paths: dict[str, list[list[tuple[float, float]]]] = {}
    for label in material.labels:
        for run in material.runs_of(label):
            if material.settings.get(run) == MethodSetting("baseline") and run in material.paths:
                path = [
                    (r["step"], r["gap"])
                    for r in material.paths[run]
                    if r["gap"] is not None and r["step"] >= FIRST_STEPS
                ]
                if len(path) >= 10:
                    paths.setdefault(label, []).append([(-1 / math.log(t) ** 2, gap) for t, gap in path])
    if not paths:
        return "no finished run of CLIP's own temperature rule (exp) has a recorded gap"
    data, texts = charts.curves(paths), []
    for name, runs in paths.items():
        x, y = _after_peak([p for run in runs for p in run])
        slope, intercept, share = _fit(x, y)
        texts.append(f"{name}: slope {significant(slope, 3)}, R² {share:.2f}")
        data.append(
            charts.straight(
                [min(x), max(x)],
                [intercept + slope * v for v in (min(x), max(x))],
                f"line ({name})",
                "#1c2733",
            )
        )
    # A closing gap falls as -1/log(t)^2 rises to 0, so the theory's line falls to the right.
    alt = f"Gap against -1/log(t)²; straight lines fitted after the peak: {'; '.join(texts)}."
    return [
        Chart("closing", alt, data, layout("-1/log(t)²  (0 is the end of time)", "gap of the training batch"))
    ]


def first_steps(material: Material) -> Found:
    """Change of the gap over the first ten steps, a line a run."""
    paths: dict[str, list[list[tuple[float, float]]]] = {}
    families = _families(material)
    for label, family in families.items():
        for run in material.runs_of(label):
            rows = [
                r for r in material.paths.get(run, ()) if r["step"] <= FIRST_STEPS and r["gap"] is not None
            ]
            if len(rows) > 1 and rows[0]["step"] == 0:
                line = [(r["step"], r["gap"] - rows[0]["gap"]) for r in rows]
                paths.setdefault(family, []).append(line)
    if not paths:
        return "no run recorded the gap over its first ten steps"
    parts = []
    for name, runs in paths.items():
        ends = [run[-1][1] for run in runs]
        grown = sum(end > 0 for end in ends)
        parts.append(
            f"{name} in {grown} of {len(ends)} runs, by {signed(sum(ends) / len(ends), 3)} on average"
        )
    alt = f"Change of the gap over the first ten steps. It grows: {'; '.join(parts)}."
    alt += " Runs with one seed begin with the same weights."
    return [
        Chart("first-steps", alt, charts.curves(paths), layout("training step", "gap minus gap at step 0"))
    ]


def first_batches(material: Material) -> dict[str, list[float]]:
    """By row, each run's gap of the tenth batch (after nine updates) less that of the first."""
    found: dict[str, list[float]] = {}
    for label in material.labels:
        for run in material.runs_of(label):
            gaps = {row["step"]: row["gap"] for row in material.paths.get(run, ()) if row["gap"] is not None}
            if 0 in gaps and FIRST_STEPS - 1 in gaps:
                found.setdefault(label, []).append(gaps[FIRST_STEPS - 1] - gaps[0])
    return found


def against(material: Material) -> Found:
    """Retrieval and classification against gap and against uniformity, a point a run of the set-up that is judged."""
    values, families = _values(material), _families(material)
    result = []
    for x in ("gap", "uniformity_w2_joint"):
        for y in ("retrieval", "zeroshot_top1", "probe_top1"):
            rows: dict[str, list[tuple[float, float, str]]] = {}
            for label in families:
                for run in material.runs_of(label):
                    found = values.get(run, {})
                    if x in found and y in found:
                        rows.setdefault(label, []).append((found[x], found[y], run))
            if rows:
                text = _correlation(
                    [sum(p[0] for p in runs) / len(runs) for runs in rows.values()],
                    [sum(p[1] for p in runs) / len(runs) for runs in rows.values()],
                )
                alt = f"{_words(y)} against {_words(x)}, {len(rows)} rows: {text}."
                result.append(
                    Chart(
                        f"{y}-{x}".replace("_", "-"),
                        alt,
                        charts.points(rows, families),
                        layout(_words(x), _words(y)),
                    )
                )
    return result or "no run has both a gap (or uniformity) and retrieval or classification"


def inverted_u(material: Material) -> Found:
    """Retrieval against the fixed temperature, ours and the published curve."""
    study = material.study
    settings = [s for s in study.settings if s.method == "FLT" and not s.variant] if study else []
    if study is None or len(settings) < 2:
        return "fewer than two fixed temperatures were run: `gaprun train recipes/paper/table3.yaml` runs the sweep"
    result = []
    sweep = TABLES["table3"]
    for metric in SWEPT:
        words = _words(metric)
        data = []
        taus, means, spreads = [], [], []
        for setting in settings:
            found = [r.values[metric] for r in study.of(setting).values() if metric in r.values]
            if found:
                summary = summarise(found)
                taus.append(setting.value or 0.0)
                means.append(summary.mean)
                spreads.append(summary.std or 0.0)
        if len(taus) < 2:
            continue
        data.append(charts.errors(taus, means, spreads, "ours (± standard deviation)", 0))
        place = next(i for i, m in enumerate(sweep.measures) if m.metric == metric)
        published = [(row.value or 0.0, row.published[place] or 0.0) for row in sweep.rows]
        xs, ys = [tau for tau, _ in published], [value for _, value in published]
        data.append(charts.straight(xs, ys, "published (RN50, MSCOCO), right axis", RIGHT) | {"yaxis": "y2"})
        best = taus[means.index(max(means))]
        alt = f"{words} against the fixed temperature: ours " + ", ".join(
            f"{t:g}: {m:.3g}" for t, m in zip(taus, means, strict=True)
        )
        alt += f"; highest at {best:g}. Published (dashed, right axis): "
        alt += ", ".join(f"{t:g}: {v:.3g}" for t, v in published) + "."
        name = f"sweep-{metric}".replace("@", "-").replace("_", "-")
        look = layout(
            "fixed temperature τ", f"{words}, ours", xaxis={"type": "log"}, yaxis={"rangemode": "tozero"}
        )
        result.append(Chart(name, alt, data, charts.right_axis(look, f"{words}, published", RIGHT)))
    return result or "the fixed temperatures that were run have no retrieval results"


def clouds(
    name: str, sides: Mapping[str, tuple[Any, Any, float]], names: Sequence[str], index: int
) -> list[Chart]:
    """Before and after training: (P, 2) images and texts of each side and the gap in the full space."""
    return [
        Chart(
            f"cloud-{index}-{side}",
            f"{len(names)} image-text pairs of {name} {side} training in the plane of their two main components; gap "
            f"in the full space {gap:.3f}.",
            charts.cloud(images.tolist(), texts.tolist(), names),
            layout("first component", "second component", yaxis={"scaleanchor": "x"}),
            title=f"{name}, {side} training (gap {gap:.2f})",
        )
        for side, (images, texts, gap) in sides.items()
    ]


def _families(material: Material) -> dict[str, str]:
    """By row of the set-up that is judged, what it is drawn as: itself, or its method if rows are too many."""
    few = len(material.main) <= len(charts.COLOURS)
    return {label: label if few else material.family(label) for label in material.main}


def _recorded(material: Material, column: str) -> ByRun:
    """(step, value) of one column of what training recorded, by run."""
    return {
        run: [(row["step"], row[column]) for row in path if row.get(column) is not None]
        for run, path in material.paths.items()
    }


def _paths(
    material: Material, by_run: ByRun, labels: Sequence[str]
) -> dict[str, list[list[tuple[float, float]]]]:
    """By row its runs' paths over the step + 1, so that the first shows on a log axis."""
    found: dict[str, list[list[tuple[float, float]]]] = {}
    for label in labels:
        for run in material.runs_of(label):
            if path := by_run.get(run):
                found.setdefault(label, []).append([(step + 1, value) for step, value in path])
    return found


def _values(material: Material) -> dict[str, dict[str, float]]:
    """By run: the metrics where most runs of the set-up that is judged were measured, and the mean recall@1.

    One place a metric for all runs: points of two data sets or protocols would be no cloud.
    """
    main = set(material.main)
    rows = [row for row in material.rows if material.groups[row["id"]] in main]
    places = usual_places(rows)
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["value"] is not None and place_of(row) == places[row["metric"]]:
            found.setdefault(row["id"], {})[row["metric"]] = row["value"]
    both = [places.get(name) for name in ("image_recall@1", "text_recall@1")]
    for values in found.values():
        if both[0] == both[1] and "image_recall@1" in values and "text_recall@1" in values:
            values["retrieval"] = (values["image_recall@1"] + values["text_recall@1"]) / 2
    return found


def _mean_end(runs: Sequence[Sequence[tuple[float, float]]]) -> float:
    return sum(run[-1][1] for run in runs) / len(runs)


def _after_peak(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    ordered = sorted(points)
    peak = max(range(len(ordered)), key=lambda i: ordered[i][1])
    kept = ordered[peak:] if len(ordered) - peak >= 3 else ordered
    return [x for x, _ in kept], [y for _, y in kept]


def _fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Slope, intercept and R² of the least-squares line."""
    mx, my = sum(x) / len(x), sum(y) / len(y)
    xx = math.fsum((a - mx) ** 2 for a in x)
    xy = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    yy = math.fsum((b - my) ** 2 for b in y)
    slope = xy / xx if xx else 0.0
    return slope, my - slope * mx, (xy * xy / (xx * yy) if xx and yy else 0.0)


def _correlation(x: Sequence[float], y: Sequence[float]) -> str:
    found = correlate(x, y)
    if found is None:
        return "too few for a correlation"
    return f"Spearman's correlation of their means {fixed(found.r, 2)} {bracketed(found.ci95, 2)}".rstrip()
