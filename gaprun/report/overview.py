"""The report's first figures: each method's differences with their intervals, and the gap against what it may buy."""

from __future__ import annotations

from collections.abc import Sequence

from gaprun.comparison.correlation import correlate
from gaprun.comparison.values import Reached
from gaprun.evaluation import catalogue
from gaprun.palette import COLOURS, GREY, INK, SYMBOLS
from gaprun.paper.settings import METHODS
from gaprun.paper.settings import WORDS as METHOD_WORDS
from gaprun.report.figure import Axis, Bounds, Figure, Ink, Mark, Panel
from gaprun.report.setups import GIVES, RETRIEVAL, WORDS, SetupRows, sure
from gaprun.tables.numbers import bracketed, counted, fixed, signed

BASELINE = "baseline"
ALIKE_SIGN = "≈"
ROW, EDGES = 17, 40  # pixels of a row of the forest, and of its title and axis


def family(setup: SetupRows, label: str) -> str:
    """What a row is drawn as: its method of the paper, else its own name; "baseline" for what all are compared with."""
    if label == setup.baseline:
        return BASELINE
    setting = setup.settings.get(label)
    return METHOD_WORDS[setting.method] if setting else label


def inks(setup: SetupRows) -> dict[str, Ink]:
    """How each family looks: a method of the paper in the colour that is its own in every figure."""
    found = {BASELINE: Ink(GREY)}
    fixed_place = {METHOD_WORDS[method]: place for place, method in enumerate(METHODS[1:])}
    others = len(fixed_place)
    for label in setup.labels:
        name = family(setup, label)
        if name not in found:
            place = fixed_place.get(name)
            if place is None:
                place, others = others, others + 1
            found[name] = Ink(
                COLOURS[place % len(COLOURS)],
                SYMBOLS[(place + 1 + place // len(COLOURS)) % len(SYMBOLS)],
            )
    return found


def digits(measure: str) -> int:
    """Decimals of a measure."""
    return 3 if measure == "gap" else 1


def forest(setup: SetupRows, name: str = "answer") -> Figure | str:
    """For each row its difference from the baseline with its interval (without a baseline what it reached), by measure.

    A filled symbol is a difference that is surely one, a band the margin, ≈ a difference shown to be smaller.
    """
    compared = bool(setup.baseline and setup.methods)
    labels = setup.methods if compared else setup.labels
    labels = [label for label in labels if any(setup.cell(label, m) for m in setup.measures)]
    if not labels or not setup.measures:
        return "no run was measured for its gap, retrieval or classification"
    looks = inks(setup)
    places = {label: float(len(labels) - number) for number, label in enumerate(labels)}
    margins = setup.comparison.margins
    panels = []
    for measure in setup.measures:
        marks: dict[tuple[str, bool], list[tuple[str, Reached]]] = {}
        for label in labels:
            cell = setup.cell(label, measure)
            if cell is not None and (cell.difference is not None or not compared):
                marks.setdefault((family(setup, label), sure(cell) or not compared), []).append((label, cell))
        base = setup.cell(setup.baseline, measure) if setup.baseline and compared else None
        drawn = [
            _row_marks(setup, measure, looks[of], of, filled, own, places)
            for (of, filled), own in marks.items()
        ]
        margin = margins.get(measure) if compared else None
        panels.append(
            Panel(
                setup.short(measure),
                Axis(_about(measure, base), zero=compared, margin=margin),
                Axis("", names=[(place, label) for label, place in places.items()]),
                [*drawn, *_alike([one for own in marks.values() for one in own], places)],
            )
        )
    title = "Difference from the baseline, with 95 % intervals" if compared else "What each row reached"
    alt = f"{title}, by {', '.join(WORDS[m] for m in setup.measures)}, {counted(len(labels), 'row')}. "
    note = "Filled: p < .05, corrected; open: no difference shown." if compared else ""
    if stated := [f"{setup.short(m)} {margins[m]:g}" for m in setup.measures if compared and m in margins]:
        note += f" Shaded: below the margin ({', '.join(stated)})"
        note += f"; {ALIKE_SIGN}: no difference so large (two one-sided tests)."
    alt += f"{note} " if note else ""
    alt += _places(setup, setup.measures)
    return Figure(
        name,
        title,
        alt,
        panels,
        columns=len(panels),
        least=0,
        height=ROW * len(labels) + EDGES,
        shared=("y",),
        where=setup.words,
        note=note,
    )


def scatter(setup: SetupRows, x: str = "gap", name: str = "against-gap") -> Figure | str:
    """Retrieval and classification against `x`: a large mark a row (its mean), a small one a run.

    A line joins the rows of one method in the order of its value.
    """
    looks = inks(setup)
    panels = []
    for y in GIVES:
        marks: list[Mark] = []
        means: dict[str, tuple[float, float]] = {}
        for label in setup.labels:
            if (point := setup.point(label, x, y)) is not None:
                runs, of = _of_row(setup, label, x, y), family(setup, label)
                means[label] = point
                if len(runs) > 1:
                    marks.append(
                        Mark(of, [r[0] for r in runs], [r[1] for r in runs], looks[of], faint=True, size=5,
                             text=[r[2] for r in runs])
                    )  # fmt: skip
        if not means:
            continue
        marks += _joined(setup, means, looks)
        for of in dict.fromkeys(family(setup, label) for label in means):
            own = [label for label in means if family(setup, label) == of]
            marks.append(
                Mark(of, [means[o][0] for o in own], [means[o][1] for o in own], looks[of], listed=True, size=11,
                     text=[o for o in own])
            )  # fmt: skip
        words = _correlation(list(means.values()))
        panels.append(
            Panel(f"{WORDS[y]}: {words}", Axis(_words_of(setup, x)), Axis(_words_of(setup, y)), marks)
        )
    if not panels:
        return f"no run has both {WORDS[x]} and retrieval or classification"
    title = f"{WORDS[x][:1].upper()}{WORDS[x][1:]} against retrieval and classification"
    alt = f"{title}, one large mark a recipe, small ones its runs. " + "; ".join(p.title for p in panels)
    alt += f". {_places(setup, [x, *(y for y in GIVES if y in setup.measures)])}"
    return Figure(
        name, title, alt, panels, columns=3, least=260, height=290, shared=("x",), where=setup.words
    )


def _places(setup: SetupRows, measures: Sequence[str]) -> str:
    """Where and how each was measured, in a sentence."""
    told = "; ".join(f"{WORDS[m]} {place}" for m in measures if (place := setup.places.get(m)))
    return f"{told}; recall@1 is the mean of both ways."


def _words_of(setup: SetupRows, measure: str) -> str:
    """An axis's title: what is measured, where, its unit; the data by name where gap and recall differ in it."""
    apart = len({setup.data("gap"), setup.data(RETRIEVAL)} - {""}) > 1
    if measure == RETRIEVAL:
        return f"recall@1{f' of {setup.data(RETRIEVAL)}' * apart}, mean of both ways (%)"
    if measure == "gap":
        return f"gap of {setup.data('gap')}" if apart else f"gap on the {setup.split} split"
    return catalogue.metric(measure).title


def _about(measure: str, base: Reached | None) -> str:
    unit = "" if measure == "gap" else " %"
    if base is None:
        return ("gap" if measure == "gap" else "percent").strip()
    return f"Δ from {fixed(base.summary.mean, digits(measure))}{unit}"


def _row_marks(
    setup: SetupRows,
    measure: str,
    ink: Ink,
    of: str,
    filled: bool,
    own: Sequence[tuple[str, Reached]],
    places: dict[str, float],
) -> Mark:
    points, texts = [], []
    lows, highs = [], []
    for label, cell in own:
        found = cell.difference
        value, ends = (found.delta, found.ci95) if found else (cell.summary.mean, cell.summary.ci95)
        show = signed if found else fixed
        points.append((value, places[label]))
        low, high = ends or (value, value)
        lows.append(low)
        highs.append(high)
        interval = bracketed(ends, digits(measure), sign=found is not None)
        interval = interval or (f"[{found.lacks}]" if found else "")
        said = f"; {cell.verdict}" if cell.verdict else ""
        texts.append(f"{label}: {show(value, digits(measure))} {interval}".rstrip() + said)
    shape = ink.symbol if filled else f"{ink.symbol}-open"
    bounds: Bounds = (lows, highs)
    x, y = [p[0] for p in points], [p[1] for p in points]
    return Mark(of, x, y, Ink(ink.colour, shape), x_ends=bounds, text=texts, listed=True, size=8)


def _alike(found: Sequence[tuple[str, Reached]], places: dict[str, float]) -> list[Mark]:
    """The sign behind the interval of each row whose difference is shown to be smaller than the margin."""
    own = [(label, cell.difference) for label, cell in found if cell.equivalent and cell.difference]
    if not own:
        return []
    ends = [one.ci95[1] if one.ci95 else one.delta for _, one in own]
    y = [places[label] for label, _ in own]
    return [Mark("", ends, y, Ink(INK), "words", text=[ALIKE_SIGN] * len(own))]


def _of_row(setup: SetupRows, label: str, x: str, y: str) -> list[tuple[float, float, str]]:
    runs = setup.runs.get(label, ())
    found = ((run, setup.values.get(run, {})) for run in runs)
    return [(v[x], v[y], run) for run, v in found if x in v and y in v]


def _joined(setup: SetupRows, means: dict[str, tuple[float, float]], looks: dict[str, Ink]) -> list[Mark]:
    """A line a method through its rows by value; rows that are unusual in anything else stand alone."""
    lines: dict[str, list[str]] = {}
    for label in means:
        setting = setup.settings.get(label)
        if setting and setting.value is not None and not setting.variant:
            lines.setdefault(family(setup, label), []).append(label)
    return [
        Mark(of, [means[o][0] for o in own], [means[o][1] for o in own], looks[of], "line", faint=True)
        for of, own in lines.items()
        if len(own) > 1
    ]


def _correlation(points: Sequence[tuple[float, float]]) -> str:
    """Of fewer than four rows, or rows without spread, how many they are: no interval, so nothing that can be read."""
    found = correlate([p[0] for p in points], [p[1] for p in points])
    if found is None or found.ci95 is None:
        return counted(len(points), "row")
    return f"Spearman {fixed(found.r, 2)} {bracketed(found.ci95, 2)}".rstrip()
