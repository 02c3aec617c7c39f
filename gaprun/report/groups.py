"""The runs by the keys of their recipes: parallel coordinates of a set-up, and what the page regroups by itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from gaprun.comparison.apart import as_text
from gaprun.comparison.table import natural
from gaprun.palette import COLOURS, INK, RAMP, SOFT, ordered
from gaprun.recipe.identity import is_neutral
from gaprun.report.figure import Axis, Figure, Ink, Mark, Panel, numbers
from gaprun.report.gather import Material
from gaprun.report.setups import MEASURES, WORDS, SetupRows
from gaprun.store.where import dotted_keys, lookup

MOST_AXES = 6  # keys of recipes beside the measures
MOST_WORDS = 6  # values named at an axis
WIDE = 20  # largest over smallest value from which an axis is logarithmic
MISSING = -0.13  # where a line passes an axis without a value
Values = Mapping[str, Any]


def differing(material: Material, runs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By dotted key in which the recipes of these runs differ: the value of each run. Names do not count."""
    recipes = {run: material.recipes.get(run, {}) for run in runs}
    keys = sorted({key for recipe in recipes.values() for key in dotted_keys(recipe) if not is_neutral(key)})
    found = {key: {run: lookup(recipe, key) for run, recipe in recipes.items()} for key in keys}
    return {key: own for key, own in found.items() if len({as_text(v) for v in own.values()}) > 1}


def parallel(material: Material, setup: SetupRows) -> Figure | str:
    """A line a recipe through the keys in which the set-up's recipes differ and through what it reached.

    The smaller the gap, the more a line stands out.
    """
    first = {label: setup.runs[label][0] for label in setup.labels if setup.cell(label, "gap")}
    keys = differing(material, list(first.values()))
    if len(first) < 3 or not keys:
        return "fewer than three recipes of one set-up differ in a key"
    most = sorted(keys, key=lambda key: -len({as_text(v) for v in keys[key].values()}))[:MOST_AXES]
    scales: list[tuple[str, dict[str, Any]]] = [
        (key, {label: keys[key][run] for label, run in first.items()}) for key in keys if key in most
    ]
    for measure in setup.measures:
        cells = {label: setup.cell(label, measure) for label in first}
        scales.append((WORDS[measure], {label: c.summary.mean if c else None for label, c in cells.items()}))
    heights = [_heights(own) for _, own in scales]
    marks = [Mark("", [x, x], [0.0, 1.0], Ink(SOFT), "line", faint=True) for x in range(len(scales))]
    gaps = scales[len(scales) - len(setup.measures)][1]
    order = sorted(first, key=lambda label: -gaps[label])
    for label, colour in zip(order, ordered(len(order)), strict=True):
        own = [as_text(v) if not isinstance(v, float) else f"{v:.4g}" for v in (s[1][label] for s in scales)]
        text = [f"{label}<br>{name}: {value}" for (name, _), value in zip(scales, own, strict=True)]
        y = [place[label] for place in heights]
        marks.append(Mark(label, list(range(len(scales))), y, Ink(colour), "both", text=text, size=4))
    for x, ((_, values), places) in enumerate(zip(scales, heights, strict=True)):
        named = _named(values, places)
        marks.append(Mark("", [x] * len(named), list(named), Ink(INK), "words", text=list(named.values())))
    ends = [name.rpartition(".")[2] for name, _ in scales]
    names = [(float(x), end if ends.count(end) == 1 else scales[x][0]) for x, end in enumerate(ends)]
    title = "Recipes and what they reach, a line a recipe"
    alt = f"{title}, through {', '.join(name for name, _ in scales)}; the smaller the gap, the stronger the colour."
    panel = Panel(
        "",
        Axis("", names=names, ends=(-0.45, len(scales) - 0.4)),
        Axis("", names=[(0.0, "")], ends=(-0.2, 1.08)),
        marks,
    )
    return Figure("parallel", title, alt, [panel], height=380, least=820, hover=True, where=setup.words)


def regrouping(material: Material, found: Sequence[SetupRows]) -> Markup:
    """What the page's script groups by any key: each run's values and keys, by set-up, as JSON."""
    document = []
    for setup in found:
        runs = [run for label in setup.labels for run in setup.runs[label]]
        keys = differing(material, runs)
        label_of = {run: label for label in setup.labels for run in setup.runs[label]}
        document.append(
            {
                "words": setup.words or "all runs",
                "measures": [setup.short(measure) for measure in MEASURES],
                "units": ["" if measure == "gap" else "%" for measure in MEASURES],
                "keys": ["recipe", *keys, "seed"],
                "runs": [
                    {
                        "id": run,
                        "by": [
                            label_of[run],
                            *(as_text(keys[k][run]) for k in keys),
                            as_text(material.seeds[run]),
                        ],
                        "values": numbers([setup.values[run].get(m, math.nan) for m in MEASURES]),
                    }
                    for run in runs
                    if run in setup.values
                ],
            }
        )
    text = json.dumps({"setups": document, "ramp": RAMP, "colour": COLOURS[0]}, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _heights(values: Values) -> dict[str, float]:
    """Where each value stands on its axis: numbers between 0 and 1 (logarithmic where they are wide), words evenly."""
    real = {k: float(v) for k, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    if len(real) + sum(v is None for v in values.values()) == len(values) and real:
        low, high = min(real.values()), max(real.values())
        log = low > 0 and high / low > WIDE
        place = math.log10 if log else float
        span = place(high) - place(low)
        return {
            k: MISSING if k not in real else ((place(real[k]) - place(low)) / span if span else 0.5)
            for k in values
        }
    texts = sorted({as_text(v) for v in values.values() if v is not None}, key=natural)
    step = 1 / max(1, len(texts) - 1)
    return {k: MISSING if v is None else texts.index(as_text(v)) * step for k, v in values.items()}


def _named(values: Values, places: Mapping[str, float]) -> dict[float, str]:
    """The words at an axis: all of few values, both ends of many."""
    found: dict[float, str] = {}
    for key, place in sorted(places.items(), key=lambda one: one[1]):
        value = values[key]
        found[place] = f"{value:.3g}" if isinstance(value, float) else as_text(value)
    if len(found) <= MOST_WORDS:
        return found
    inner = [place for place in found if place > MISSING]
    return {place: found[place] for place in (min(found), inner[0], inner[-1])}
