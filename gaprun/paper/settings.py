"""What a stored run is in the paper's terms: its method and value, its set-up, and its numbers.

A method is recognised by the recipe's temperature rule, swap and loss, never by its name; two recipes that agree in all
else share a set-up and may stand in one table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gaprun.comparison import select
from gaprun.comparison.apart import set_name, what_differs
from gaprun.comparison.moment import Moment, rows_at
from gaprun.comparison.places import place_of, usual_places
from gaprun.comparison.recipes import setup_of, several_data, with_data
from gaprun.errors import UserError
from gaprun.store.columns import ValueColumns
from gaprun.store.selecting import METRIC_KEYS, recency
from gaprun.store.where import parse_conditions
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.store import Store
    from gaprun.store.models import Run

METHODS = ("baseline", "FLT", "TS", "TR", "SLRT", "HS", "SS")
WORDS = {
    "baseline": "CLIP baseline",
    "FLT": "fixed large temperature",
    "TS": "temperature scheduling",
    "TR": "softplus temperature",
    "SLRT": "smaller temperature rate",
    "HS": "hard swap",
    "SS": "soft swap",
}
SYMBOLS = {"FLT": "tau", "TS": "end", "SLRT": "rate x", "HS": "p", "SS": "p"}
USUAL = {"init": 0.07, "max_beta": 100.0, "start": 0.01, "renormalise": True, "rising_only": False}
CLIP_LOSS = {"name": "clip", "weight": 1.0, "terms": []}  # any other loss or term is no method of the paper
VARIED = ("rule", "tau", "end", "lr_factor", "probability")  # which method it is, and its value
CHANCES = "zeroshot_chance", "probe_chance"
METRICS = (
    "gap",
    "uniformity_w2_joint",
    "zeroshot_top1",
    "probe_top1",
    *CHANCES,
    "image_recall@1",
    "text_recall@1",
    "temperature",
)


@dataclass(frozen=True, order=True)
class MethodSetting:
    """A method, the value that its sweep varies (None for baseline and softplus), and what else is unusual in it."""

    method: str
    value: float | None = None
    variant: str = ""

    def __str__(self) -> str:
        name = self.method if self.value is None else f"{self.method} {SYMBOLS[self.method]} {self.value:g}"
        return f"{name} [{self.variant}]" if self.variant else name

    @property
    def key(self) -> tuple[int, float, str]:
        """Sorts as the paper does: by method, then by value."""
        return METHODS.index(self.method), self.value or 0.0, self.variant


@dataclass(frozen=True)
class Result:
    """One finished run as the paper would list it; `values` by metric, of the protocol that the paper used."""

    run: str
    recipe: str
    seed: int
    setting: MethodSetting
    values: Mapping[str, float]


@dataclass(frozen=True)
class SetupResults:
    """Results of one set-up. `recipe`: one resolved recipe of it; `places`: where each metric was measured.

    `others` counts the set-ups that are not here and `words` tells this one from them, `left_out` says what was
    measured in more than one way, and at which steps of training the values were taken, if not at the end.
    """

    results: tuple[Result, ...]
    recipe: Mapping[str, Any]
    places: Mapping[str, str]
    others: int = 0
    total_steps: int = 0
    left_out: tuple[str, ...] = ()
    words: str = ""

    @property
    def chosen(self) -> str:
        """Which set-up of several this is, and why, as a note; "" where there is one."""
        if not self.others:
            return ""
        return (
            f"of {self.others + 1} set-ups in the database this is the one with most methods, then most runs: "
            f"{self.words}"
        )

    @property
    def settings(self) -> list[MethodSetting]:
        """Every setting that was run, in the paper's order."""
        return sorted({r.setting for r in self.results}, key=lambda s: s.key)

    def of(self, setting: MethodSetting) -> dict[int, Result]:
        """The runs of one setting by seed."""
        return {r.seed: r for r in self.results if r.setting == setting}

    def size(self) -> dict[str, str]:
        """What was run, in the words of `published.SETTING`; of several set-ups also which."""
        model, schedule = self.recipe.get("model", {}), self.recipe.get("schedule", {})
        seeds = sorted({r.seed for r in self.results})
        data = ", ".join(map(set_name, self.recipe.get("data", {}).get("train", []))) or "?"
        length = (
            f"{schedule['steps']} steps" if schedule.get("steps") else f"{schedule.get('epochs', '?')} epochs"
        )
        return {
            **({"set-up": self.words} if self.words else {}),
            "model": _model(model),
            "data": data,
            "length": length,
            "batch": str(schedule.get("batch_size", "?")),
            "seeds": f"{len(seeds)} ({', '.join(map(str, seeds))})",
            "gap and retrieval on": self.places.get("gap", self.places.get("image_recall@1", "?")),
            "classification on": self.places.get("zeroshot_top1", self.places.get("probe_top1", "?")),
        }


def setting_of(recipe: Mapping[str, Any]) -> MethodSetting | None:
    """The paper's method behind a resolved recipe; None for one the paper does not have (two changes at once, say)."""
    found = _method(recipe)
    options = {**recipe.get("temperature", {}), **recipe.get("swap", {})}
    unusual = [
        f"{key}={value}"
        for key, value in sorted(options.items())
        if key not in VARIED and (value != USUAL[key] if key in USUAL else value is not None)
    ]
    return found and MethodSetting(found.method, found.value, ", ".join(unusual))


def _method(recipe: Mapping[str, Any]) -> MethodSetting | None:
    temperature, swap = recipe.get("temperature", {}), recipe.get("swap", {})
    rule, swapping = temperature.get("rule", "exp"), swap.get("rule", "none")
    if any(value != CLIP_LOSS.get(key) for key, value in recipe.get("loss", {}).items()):
        return None
    if swapping != "none":
        plain = rule == "exp" and temperature.get("lr_factor", 1.0) == 1.0
        name = {"hard": "HS", "soft": "SS"}.get(swapping)
        return MethodSetting(name, float(swap["probability"])) if plain and name else None
    if rule == "fixed":
        return MethodSetting("FLT", float(temperature["tau"]))
    if rule == "schedule":
        return MethodSetting("TS", float(temperature["end"]))
    factor = float(temperature.get("lr_factor", 1.0))
    if rule == "softplus":
        return MethodSetting("TR") if factor == 1.0 else None
    if rule == "exp":
        return MethodSetting("baseline") if factor == 1.0 else MethodSetting("SLRT", factor)
    return None


def load_study(store: Store, where: Sequence[str] = (), at: str | None = None) -> SetupResults:
    """The study with most methods, then most runs, among runs that meet `where`; its values as `compare` selects them,
    of the moment `at`.

    Raises UserError when no finished run is one of the paper's methods.
    """
    return load_studies(store, where, 1, at)[0]


def load_studies(
    store: Store, where: Sequence[str] = (), most: int | None = None, at: str | None = None
) -> list[SetupResults]:
    """The study of every set-up (of the first `most`), those with most methods and then most runs first.

    Raises UserError when no finished run is one of the paper's methods.
    """
    conditions = select.finished(where)
    parsed = parse_conditions(conditions)
    of_values = [c for c in parsed if c.key in METRIC_KEYS]
    found, moment = rows_at(store, at, METRICS, conditions)
    rows = [row for row in found.rows() if _right_protocol(row)]
    measured = {row["id"] for row in rows}
    runs: dict[str, Run] = {}
    settings: dict[str, MethodSetting] = {}
    for run in store.runs([text for c in parsed if c.key not in METRIC_KEYS for text in c.texts()]):
        setting = setting_of(run.resolved_recipe)
        trained = run.seed is not None and run.kind == "train"
        if setting is not None and trained and (run.id in measured or not (of_values or at)):
            runs[run.id], settings[run.id] = run, setting
    if not runs:
        raise UserError(
            "no finished run of a method of the paper"
            + (f" with {' and '.join(where)}" if where else "")
            + ": `gaprun train recipes/paper/small/table2.yaml` makes some"
        )
    setups = _setups(runs.values())
    studies: dict[str, set[tuple[MethodSetting, int | None]]] = {}
    for run in runs.values():
        studies.setdefault(setups[run.id], set()).add((settings[run.id], run.seed))
    order = sorted(
        studies,
        key=lambda setup: (len({s.method for s, _ in studies[setup]}), len(studies[setup])),
        reverse=True,
    )
    words = what_differs({setup: json.loads(setup) for setup in studies})
    found_studies, idle = [], tuple(store.idle(where))
    for chosen in order[:most]:
        own = {name: run for name, run in runs.items() if setups[name] == chosen}
        study = _study(own, settings, rows, moment)
        said = (*idle, *study.left_out)
        found_studies.append(replace(study, others=len(studies) - 1, words=words[chosen], left_out=said))
    return found_studies


def _study(
    runs: Mapping[str, Run],
    settings: Mapping[str, MethodSetting],
    rows: list[dict[str, Any]],
    moment: Moment,
) -> SetupResults:
    """The study of `runs`, which share a set-up."""
    rows = [
        row | {"identity": (own := settings[row["id"]]), "group": str(own)}
        for row in rows
        if row["id"] in runs
    ]
    told: list[str] = []
    if rows:  # runs that were measured in another way, or not at all, have none
        columns = select.latest_of_each_seed(ValueColumns.of_rows(rows))
        rows, told = columns.rows(), moment.told(columns)
    places = usual_places(rows)
    found: dict[tuple[MethodSetting, int], Result] = {}
    for run in reversed(_by_recency(runs.values(), rows)):  # the latest first
        if run.seed is not None:
            found.setdefault(
                (settings[run.id], run.seed), Result(run.id, run.recipe, run.seed, settings[run.id], {})
            )
    values: dict[tuple[MethodSetting, int], dict[str, float]] = {key: {} for key in found}
    for row in rows:
        if row["value"] is not None and place_of(row) == places[row["metric"]]:
            values[row["identity"], row["seed"]][row["metric"]] = row["value"]
    results = sorted(
        (replace(result, values=values[key]) for key, result in found.items()),
        key=lambda result: (result.setting.key, result.seed),
    )
    one = runs[results[0].run]
    return SetupResults(
        tuple(results),
        one.resolved_recipe,
        {metric: f"{p[0]}/{p[1]} ({p[2]}, data {p[4][:8]})" for metric, p in places.items()},
        total_steps=one.total_steps,
        left_out=(
            *_left_out(rows, places),
            *told,
        ),
    )


def _setups(runs: Iterable[Run]) -> dict[str, str]:
    """The set-up of each run: its recipe without the method, and its training data where they are known to differ."""
    runs = list(runs)
    data = {run.id: json.dumps(found) if (found := run.environment.get("data")) else "" for run in runs}
    apart = several_data((setup_of(run.resolved_recipe), data[run.id]) for run in runs)
    setups = {}
    for run in runs:
        setup = setup_of(run.resolved_recipe)
        setups[run.id] = setup_of(with_data(run.resolved_recipe, data[run.id])) if setup in apart else setup
    return setups


def _by_recency(runs: Iterable[Run], rows: Iterable[dict[str, Any]]) -> list[Run]:
    """`runs` by when they were last measured; those that were not, by when they began, before them."""
    last: dict[str, tuple[Any, ...]] = {}
    for row in rows:
        last[row["id"]] = max(last.get(row["id"], ()), recency(row))
    return sorted(runs, key=lambda run: (run.id in last, last.get(run.id, ()), run.created, run.id))


def _left_out(rows: Iterable[dict[str, Any]], places: Mapping[str, tuple[Any, ...]]) -> list[str]:
    """What was measured otherwise than in most runs."""
    counts: dict[str, set[str]] = {}
    for row in rows:
        other = row["value"] is not None and place_of(row) != places[row["metric"]]
        if other and row["metric"] not in CHANCES:
            counts.setdefault(row["metric"], set()).add(row["id"])
    return [
        f"{metric} of {counted(len(runs), 'run')} was measured on other data or in another way too, which is left out"
        for metric, runs in counts.items()
    ]


def _right_protocol(row: Mapping[str, Any]) -> bool:
    pooled = row["metric"] in ("gap", "uniformity_w2_joint", "image_recall@1", "text_recall@1")
    return (row["pool"] is not None) == pooled and not row["transform"]


def _model(model: Mapping[str, Any]) -> str:
    if model.get("arch"):
        return f"{model['arch']}" + (
            f" from {model['pretrained']}" if model.get("pretrained") else " from scratch"
        )
    inline = model.get("inline") or {}
    vision, text = inline.get("vision", {}), inline.get("text", {})
    return (
        f"tiny towers from scratch (image {vision.get('image_size', '?')} px, vision width {vision.get('width', '?')}, "
        f"text width {text.get('width', '?')}, d {inline.get('embed_dim', '?')})"
    )
