"""What a stored run is in the paper's terms: its method and value, its set-up, and its numbers.

A method is recognised by the recipe's temperature rule, swap and loss, never by its name; two recipes that agree in all
else share a set-up and may stand in one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gaprun.comparison.select import setup_of
from gaprun.errors import UserError
from gaprun.store.where import parse_conditions

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
METRICS = (
    "gap",
    "uniformity_w2_joint",
    "zeroshot_top1",
    "probe_top1",
    "image_recall@1",
    "text_recall@1",
    "temperature",
)


@dataclass(frozen=True, order=True)
class Setting:
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
    setting: Setting
    values: Mapping[str, float]


@dataclass(frozen=True)
class Study:
    """Results of one set-up. `recipe`: one resolved recipe of it; `places`: where each metric was measured."""

    results: tuple[Result, ...]
    recipe: Mapping[str, Any]
    places: Mapping[str, str]
    others: int = 0
    total_steps: int = 0

    @property
    def settings(self) -> list[Setting]:
        """Every setting that was run, in the paper's order."""
        return sorted({r.setting for r in self.results}, key=lambda s: s.key)

    def of(self, setting: Setting) -> dict[int, Result]:
        """The runs of one setting by seed."""
        return {r.seed: r for r in self.results if r.setting == setting}

    def size(self) -> dict[str, str]:
        """What was run, in the words of `published.SETTING`."""
        model, schedule = self.recipe.get("model", {}), self.recipe.get("schedule", {})
        seeds = sorted({r.seed for r in self.results})
        data = ", ".join(self.recipe.get("data", {}).get("train", [])) or "?"
        length = (
            f"{schedule['steps']} steps" if schedule.get("steps") else f"{schedule.get('epochs', '?')} epochs"
        )
        return {
            "model": _model(model),
            "data": data,
            "length": length,
            "batch": str(schedule.get("batch_size", "?")),
            "seeds": f"{len(seeds)} ({', '.join(map(str, seeds))})",
            "gap and retrieval on": self.places.get("gap", self.places.get("image_recall@1", "?")),
            "classification on": self.places.get("zeroshot_top1", self.places.get("probe_top1", "?")),
        }


def setting_of(recipe: Mapping[str, Any]) -> Setting | None:
    """The paper's method behind a resolved recipe; None for one the paper does not have (two changes at once, say)."""
    found = _method(recipe)
    options = {**recipe.get("temperature", {}), **recipe.get("swap", {})}
    unusual = [f"{k}={options[k]}" for k, usual in USUAL.items() if k in options and options[k] != usual]
    return found and Setting(found.method, found.value, ", ".join(unusual))


def _method(recipe: Mapping[str, Any]) -> Setting | None:
    temperature, swap = recipe.get("temperature", {}), recipe.get("swap", {})
    rule, swapping = temperature.get("rule", "exp"), swap.get("rule", "none")
    if any(value != CLIP_LOSS.get(key) for key, value in recipe.get("loss", {}).items()):
        return None
    if swapping != "none":
        plain = rule == "exp" and temperature.get("lr_factor", 1.0) == 1.0
        name = {"hard": "HS", "soft": "SS"}.get(swapping)
        return Setting(name, float(swap["probability"])) if plain and name else None
    if rule == "fixed":
        return Setting("FLT", float(temperature["tau"]))
    if rule == "schedule":
        return Setting("TS", float(temperature["end"]))
    factor = float(temperature.get("lr_factor", 1.0))
    if rule == "softplus":
        return Setting("TR") if factor == 1.0 else None
    if rule == "exp":
        return Setting("baseline") if factor == 1.0 else Setting("SLRT", factor)
    return None


def load_study(store: Store, where: Sequence[str] = ()) -> Study:
    """The study with most methods, then most runs, among runs that meet `where`.

    Raises UserError when no finished run is one of the paper's methods.
    """
    conditions = list(where)
    if not any(c.key == "status" for c in parse_conditions(where)):
        conditions.append("status=finished")
    studies: dict[str, dict[tuple[Setting, int], Run]] = {}
    for run in store.runs(conditions):  # newest first
        setting = setting_of(run.resolved_recipe)
        if setting is not None and run.seed is not None and run.kind == "train":
            studies.setdefault(setup_of(run.resolved_recipe), {}).setdefault((setting, run.seed), run)
    if not studies:
        raise UserError(
            "no finished run of a method of the paper"
            + (f" with {' and '.join(where)}" if where else "")
            + ": `gaprun train recipes/paper/small/table2.yaml` makes some"
        )
    chosen = max(studies.values(), key=lambda runs: (len({s.method for s, _ in runs}), len(runs)))
    ids = {run.id for run in chosen.values()}
    places, values = _values(row for row in store.metric_rows(METRICS, conditions) if row["id"] in ids)
    results = tuple(
        Result(run.id, run.recipe, seed, setting, values.get(run.id, {}))
        for (setting, seed), run in sorted(chosen.items(), key=lambda item: (item[0][0].key, item[0][1]))
    )
    newest = next(iter(chosen.values()))
    return Study(results, newest.resolved_recipe, places, len(studies) - 1, newest.total_steps)


def _values(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[str, str], dict[str, dict[str, float]]]:
    """Where each metric was measured for most runs, and its values there by run and metric."""
    wanted = [row for row in rows if row["value"] is not None and _right_protocol(row)]
    counts: dict[str, dict[tuple[str, ...], int]] = {}
    for row in wanted:
        place = _place(row)
        counts.setdefault(row["metric"], {})[place] = counts.setdefault(row["metric"], {}).get(place, 0) + 1
    best = {metric: max(sorted(found), key=lambda p: found[p]) for metric, found in counts.items()}
    values: dict[str, dict[str, float]] = {}
    for row in wanted:
        if _place(row) == best[row["metric"]]:
            values.setdefault(row["id"], {})[row["metric"]] = row["value"]
    texts = {metric: f"{p[0]}/{p[1]} ({p[2]}, data {p[3][:8]})" for metric, p in best.items()}
    return texts, values


def _place(row: Mapping[str, Any]) -> tuple[str, ...]:
    return row["dataset"], row["split"], row["protocol"], row["data_fingerprint"]


def _right_protocol(row: Mapping[str, Any]) -> bool:
    pooled = row["metric"] in ("gap", "uniformity_w2_joint", "image_recall@1", "text_recall@1")
    return row["protocol"].startswith("pool") if pooled else row["protocol"] in ("full", "final")


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
