"""Curves along training as small multiples: a panel a method, the baseline in grey, values of a sweep in order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from gaprun.evaluation import catalogue
from gaprun.palette import GREY, ordered
from gaprun.paper.settings import SYMBOLS
from gaprun.report.figure import Axis, Figure, Ink, Mark, Panel
from gaprun.report.gather import Material
from gaprun.report.overview import BASELINE, family, inks
from gaprun.report.setups import SetupRows
from gaprun.tables.numbers import signed, significant

Curve = Sequence[tuple[float, float]]
CurveOf = Callable[[str], Curve]  # of a run; empty where it recorded none
FIRST_STEPS = 10
APART = 0.085  # of a panel's height between two words at the ends of lines
BATCH_GAP = "gap of the training batch"
MOST_RISE = 0.25  # of its fall that a curve may lose again where a line is fitted
MOST_POINTS = 160  # of a line as it is drawn
LEAST_POINTS = 10  # of a curve to which a line is fitted


def along_training(
    material: Material, setup: SetupRows, column: Literal["gap", "temperature"], number: int
) -> Figure | str:
    """The gap (or the temperature) of the training batch against the step."""
    words = BATCH_GAP if column == "gap" else "temperature τ"

    def curve(run: str) -> Curve:
        rows = material.paths.get(run, ())
        return [(row["step"] + 1, row[column]) for row in rows if row.get(column) is not None]

    log = column == "temperature"
    return _along(setup, curve, f"train-{column}", number, words, log) or f"no run recorded the {column}"


def measured_along(material: Material, setup: SetupRows, metric: str, number: int) -> Figure | str:
    """One metric as `eval_every` measured it, against the step."""
    course = material.measured[metric]

    def curve(run: str) -> Curve:
        return [(step + 1, value) for step, value in course.paths.get(run, ())]

    name = f"measured-{metric}".replace("_", "-").replace("@", "-")
    words = f"{catalogue.metric(metric).title} on {course.place}"
    return _along(setup, curve, name, number, words, False) or f"{metric} was not measured along training"


def _along(setup: SetupRows, curve: CurveOf, name: str, number: int, words: str, log: bool) -> Figure | None:
    """Small multiples against the step; None where no run has a curve."""
    ends = {
        label: sum(c[-1][1] for c in curves) / len(curves)
        for label in setup.labels
        if (curves := [c for run in setup.runs[label] if (c := curve(run))])
    }
    if not ends:
        return None
    title = f"{words[0].upper()}{words[1:]} along training"
    alt = f"{title}, a panel a method, the baseline in grey; thick lines are means over seeds, thin ones runs. Ends: "
    alt += ", ".join(f"{label} {significant(end, 3)}" for label, end in ends.items()) + "."
    x = Axis("training step + 1", log=True)
    return multiples(
        setup, curve, name + (f"-{number}" if number else ""), title, alt, x, Axis(words, log=log)
    )


def first_steps(material: Material, setup: SetupRows) -> Figure | str:
    """Change of the gap over the first ten steps."""

    def curve(run: str) -> Curve:
        rows = [r for r in material.paths.get(run, ()) if r["step"] <= FIRST_STEPS and r["gap"] is not None]
        if len(rows) < 2 or rows[0]["step"] != 0:
            return []
        return [(row["step"], row["gap"] - rows[0]["gap"]) for row in rows]

    parts = []
    for label in setup.labels:
        ends = [c[-1][1] for run in setup.runs[label] if (c := curve(run))]
        if ends:
            grown = sum(end > 0 for end in ends)
            mean = signed(sum(ends) / len(ends), 3)
            parts.append(f"{label} in {grown} of {len(ends)} runs, by {mean} on average")
    if not parts:
        return "no run recorded the gap over its first ten steps"
    title = "Change of the batch gap over the first ten steps"
    alt = f"{title}. From step 0 to step {FIRST_STEPS} it grows: {'; '.join(parts)}. "
    alt += "Runs with one seed begin with the same weights."
    x, y = Axis("training step"), Axis("batch gap less that at step 0", zero=True)
    return multiples(setup, curve, "first-steps", title, alt, x, y, switches=())


def closing(material: Material, found: Sequence[SetupRows]) -> Figure | str:
    """Batch gap against -1/log(t)^2, a panel a baseline, with a straight line where the gap falls after its peak."""
    panels, texts = [], []
    for setup in found:
        label = setup.baseline
        setting = setup.settings.get(label) if label else None
        if label is None or setting is None or setting.method != "baseline" or setting.variant:
            continue
        curves = []
        for run in setup.runs[label]:
            rows = [
                r for r in material.paths.get(run, ()) if r["gap"] is not None and r["step"] >= FIRST_STEPS
            ]
            if len(rows) >= LEAST_POINTS:
                curves.append([(-1 / math.log(r["step"]) ** 2, r["gap"]) for r in rows])
        if not curves:
            continue
        average = mean_curve(curves)
        marks = _lines(label, curves, Ink(GREY))
        law = fall(average)
        words = "the gap rises again, no law is fitted"
        if law is not None:
            (x, y), share = law, law_share(average)
            words = f"slope {significant((y[1] - y[0]) / (x[1] - x[0]), 3)}, R² {share:.2f}"
            marks.append(
                Mark("straight line", x, y, Ink("#1c2733", dash="dash"), "line", listed=True)
            )  # a closing gap falls as -1/log(t)^2 rises to 0
        texts.append(f"{setup.words or label}: {words}")
        x_axis = Axis("−1/log(t)²  (0 is the end of time)")
        panels.append(Panel(texts[-1], x_axis, Axis(BATCH_GAP), marks))
    if not panels:
        return "no finished run of CLIP's own temperature rule (exp) has a recorded gap"
    title = "Batch gap of the baseline against −1/log(t)²"
    alt = f"{title}; straight lines are fitted after the peak: {'; '.join(texts)}."
    return Figure("closing", title, alt, panels, columns=2, least=320)


def multiples(
    setup: SetupRows,
    curve: CurveOf,
    name: str,
    title: str,
    alt: str,
    x: Axis,
    y: Axis,
    switches: Sequence[Literal["x", "y"]] = ("x", "y"),
) -> Figure:
    """A panel a method with shared axes: its rows over the baseline in grey, each named at the end of its line."""
    drawn = {
        label: curves
        for label in setup.labels
        if (curves := [c for run in setup.runs[label] if (c := curve(run))])
    }
    means = {label: mean_curve(curves) for label, curves in drawn.items()}
    heights = [v for mean in means.values() for _, v in mean if not y.log or v > 0]
    height = _height(min(heights), y), _height(max(heights), y)
    families: dict[str, list[str]] = {}
    for label in drawn:
        families.setdefault(family(setup, label), []).append(label)
    looks = inks(setup)
    baseline = setup.baseline if setup.baseline in drawn else None
    panels = []
    for of, labels in families.items():
        if of == BASELINE and len(families) > 1:
            continue
        colours = [looks[of].colour] if len(labels) == 1 else ordered(len(labels))
        marks: list[Mark] = []
        if baseline and baseline not in labels:
            marks.append(_line(BASELINE, means[baseline], Ink(GREY)))
        for label, colour in zip(labels, colours, strict=True):
            marks += _lines(label, drawn[label], Ink(colour))
        ends = [(means[label][-1], _at_end(setup, label, labels)) for label in labels]
        marks.append(_words(ends, height, y))
        panels.append(Panel(_panel_title(setup, of, labels), x, y, marks))
    return Figure(
        name,
        title,
        alt,
        panels,
        columns=3,
        least=260,
        height=240,
        shared=("x", "y"),
        switches=switches,
        where=setup.words,
    )


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """The mean over runs at every x that all of them have."""
    shared = set.intersection(*({x for x, _ in curve} for curve in curves))
    sums: dict[float, float] = dict.fromkeys(sorted(shared), 0.0)
    for curve in curves:
        for x, y in curve:
            if x in sums:
                sums[x] += y / len(curves)
    return list(sums.items())


def fall(curve: Curve) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """Both ends (x, y) of the straight line through a curve after its peak; None where it does not keep falling.

    A curve that rises again by more than a quarter of its fall (the mean of its last tenth counts) has no such line.
    """
    x, y = _after_peak(curve)
    if len(x) < LEAST_POINTS:
        return None
    last = y[-max(1, len(y) // 10) :]
    if sum(last) / len(last) - min(y) > MOST_RISE * (y[0] - min(y)):
        return None
    slope, intercept, _ = fit(x, y)
    return (x[0], x[-1]), (intercept + slope * x[0], intercept + slope * x[-1])


def law_share(curve: Curve) -> float:
    """R² of that line."""
    return fit(*_after_peak(curve))[2]


def fit(x: Sequence[float], y: Sequence[float]) -> tuple[float, float, float]:
    """Slope, intercept and R² of the least-squares line."""
    mx, my = sum(x) / len(x), sum(y) / len(y)
    xx = math.fsum((a - mx) ** 2 for a in x)
    xy = math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
    yy = math.fsum((b - my) ** 2 for b in y)
    slope = xy / xx if xx else 0.0
    return slope, my - slope * mx, (xy * xy / (xx * yy) if xx and yy else 0.0)


def _after_peak(curve: Curve) -> tuple[list[float], list[float]]:
    peak = max(range(len(curve)), key=lambda i: curve[i][1])
    return [x for x, _ in curve[peak:]], [y for _, y in curve[peak:]]


def _lines(name: str, curves: Sequence[Curve], ink: Ink) -> list[Mark]:
    """Thin lines, one a run, and their mean over them."""
    thin = [_line(name, curve, ink, faint=True) for curve in curves] if len(curves) > 1 else []
    return [*thin, _line(name, mean_curve(curves), ink)]


def thinned(curve: Curve, most: int = MOST_POINTS) -> Curve:
    """At most about `most` points of a longer curve, even on a logarithmic scale of its places; both ends stay."""
    if len(curve) <= most:
        return curve
    places = {round(len(curve) ** (i / (most - 1))) - 1 for i in range(most)}
    return [curve[place] for place in sorted(places)]


def _line(name: str, curve: Curve, ink: Ink, faint: bool = False) -> Mark:
    curve = thinned(curve)
    return Mark(name, [x for x, _ in curve], [y for _, y in curve], ink, "line", faint=faint)


def _words(ends: Sequence[tuple[tuple[float, float], str]], height: tuple[float, float], axis: Axis) -> Mark:
    """The names at the ends of lines, pushed apart where they would lie on each other."""
    least = APART * (height[1] - height[0])
    order = sorted(ends, key=lambda end: end[0][1])
    places: list[float] = []
    for (_, y), _name in order:
        place = _height(y, axis)
        places.append(max(place, places[-1] + least) if places else place)
    over = max(0.0, places[-1] - height[1])
    for number in range(len(places) - 1, -1, -1):  # what was pushed out at the top pushes back
        top = places[number + 1] - least if number + 1 < len(places) else places[number] - over
        places[number] = min(places[number], top)
    values = [10**place if axis.log else place for place in places]
    return Mark("", [x for (x, _), _ in order], values, Ink("#1c2733"), "words", text=[n for _, n in order])


def _height(value: float, axis: Axis) -> float:
    return math.log10(value) if axis.log and value > 0 else value


def _at_end(setup: SetupRows, label: str, labels: Sequence[str]) -> str:
    setting = setup.settings.get(label)
    if len(labels) == 1 or setting is None:
        return ""
    return (f"{setting.value:g}" if setting.value is not None else "") + ("*" if setting.variant else "")


def _panel_title(setup: SetupRows, of: str, labels: Sequence[str]) -> str:
    setting = setup.settings.get(labels[0])
    if len(labels) == 1 or setting is None:
        return labels[0] if labels[0] == of else f"{of} ({labels[0]})"
    return f"{of}, by {SYMBOLS.get(setting.method, 'variant')}"
