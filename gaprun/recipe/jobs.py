"""From a recipe or sweep file to jobs: grid points times seeds, each with the hash that identifies it."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gaprun.errors import UserError
from gaprun.model.temperature import Learned
from gaprun.recipe.identity import hash_of
from gaprun.recipe.load import (
    JOB_KEYS,
    beside,
    merge,
    nested,
    parse_assignments,
    read_mapping,
    validate,
    with_parents,
)
from gaprun.recipe.packaged import found
from gaprun.recipe.schema import Recipe
from gaprun.registry import outside_code
from gaprun.store.where import dotted_keys, lookup

MAX_JOBS = 10_000
SWEEP_KEYS = ("recipes", "base", "set", "seeds", "description")


@dataclass(frozen=True)
class Job:
    """One run: a resolved recipe and a seed."""

    recipe: Recipe
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipe", with_plugins(with_weights_file(self.recipe)))

    @cached_property
    def recipe_hash(self) -> str:
        """sha256 of everything in the recipe that the trained weights depend on (not the seed)."""
        return recipe_hash(self.recipe)

    @cached_property
    def id(self) -> str:
        """The run's id: name, seed and the start of the recipe's hash."""
        return f"{self.recipe.name}-s{self.seed}-{self.recipe_hash[:8]}"


def recipe_hash(recipe: Recipe) -> str:
    """sha256 (hex) of the recipe's training part; see `identity.training_part`."""
    return hash_of(recipe.model_dump(mode="json"))


def with_weights_file(recipe: Recipe) -> Recipe:
    """`recipe` with the sha256 of what its `model.pretrained` names, where that is no tag of open_clip.

    What is not there is left as it is: training says so. Raises UserError for other weights than the recipe's
    `pretrained_sha256` says, and for those that cannot be used.
    """
    model = recipe.model
    if model.pretrained is None or not Path(model.pretrained).exists():
        return recipe
    from gaprun.model.start import weights_sha256  # with torch

    found = weights_sha256(model)
    if found is None:
        return recipe
    if model.pretrained_sha256 not in (None, found):
        raise UserError(
            f"{recipe.name}: model.pretrained: {model.pretrained} does not hold the weights that the recipe names "
            f"(sha256 {found[:12]}, expected {str(model.pretrained_sha256)[:12]})"
        )
    return recipe.model_copy(update={"model": model.model_copy(update={"pretrained_sha256": found})})


def with_plugins(recipe: Recipe) -> Recipe:
    """`recipe` with the hashes of the plugins' files that its method's parts come from.

    Raises UserError for other code than the recipe's `plugins` says.
    """
    found = outside_code(recipe.temperature) | outside_code(recipe.swap) | outside_code(recipe.loss)
    for part, code in (recipe.plugins or {}).items():
        if found.get(part) != code:
            here = f"sha256 {found[part][:12]}" if part in found else "not used here"
            raise UserError(
                f"{recipe.name}: the {part} is not by the code that the recipe names ({here}, expected {code[:12]}): "
                "bring that file back, or train the recipe anew, which is another run"
            )
    return recipe.model_copy(update={"plugins": found or None})


def load_jobs(
    path: str | Path, overrides: list[str] | None = None, seeds: list[int] | None = None
) -> list[Job]:
    """All jobs of a recipe or sweep file (or of one that comes with gaprun, by name), in file order, grid points before
    seeds.

    `overrides` are `--set` strings (`extends=FILE` replaces the recipe's parent), `seeds` replaces its seeds,
    as `--set seeds=` does. A sweep's seeds go before its recipes' own, and those that an entry sets before both.
    Raises UserError naming file and key.
    """
    path = found(Path(path))
    sets = parse_assignments(overrides or [])
    extends = sets.pop("extends", "")
    if not isinstance(extends, str):
        raise UserError("--set extends=: expected the path of a recipe file")
    if "seeds" in sets:
        if seeds is not None:
            raise UserError("--seeds and --set seeds= say the same: give one of them")
        seeds = seeds_of(sets.pop("seeds"), "--set")
    mapping = read_mapping(path)
    if "recipes" in mapping:
        entries = _sweep(path, mapping)
    else:
        entries = [(str(path), path, None, {})]
    jobs: list[Job] = []
    for where, file, base, changes in entries:
        parent = found(Path(extends)) if extends else base
        written = with_parents(file, parent)
        try:
            jobs += _expand(where, written, merge(changes, nested(sets)), seeds)
        except UserError as error:
            raise UserError(_naming_sets(str(error), where, sets)) from None
        if len(jobs) > MAX_JOBS:
            raise UserError(f"{path}: more than {MAX_JOBS:,} jobs")
    names: dict[str, Recipe] = {}
    for job in jobs:
        first = names.setdefault(job.recipe.name, job.recipe)
        if recipe_hash(first) != job.recipe_hash:
            raise UserError(
                f"{path}: two different recipes are called {job.recipe.name}; give each its own name"
            )
        if (differing := _differing(first, job.recipe)) - {"description"}:
            raise UserError(
                f"{path}: {job.recipe.name} stands there twice, with other {', '.join(sorted(differing))}: name it once"
            )
    return list({job.id: job for job in jobs}.values())


def _naming_sets(message: str, where: str, sets: Iterable[str]) -> str:
    """A mistake with what `--set` changed there: the file alone may be without fault."""
    place, _, _ = message.removeprefix(f"{where}: ").partition(":")
    own = [key for key in sets if f"{key}.".startswith(f"{place}.") or f"{place}.".startswith(f"{key}.")]
    return message.replace(where, f"{where} with --set {', '.join(own)}", 1) if own else message


def _differing(one: Recipe, other: Recipe) -> set[str]:
    return {key for key in Recipe.model_fields if getattr(one, key) != getattr(other, key)}


def load_recipe(path: str | Path, overrides: list[str] | None = None) -> Recipe:
    """The one recipe in a file (without grid). Raises UserError when the file expands to several."""
    recipes = {job.recipe.name: job.recipe for job in load_jobs(path, overrides)}
    if len(recipes) > 1:
        raise UserError(f"{path}: expands to {len(recipes)} recipes ({', '.join(recipes)}); use load_jobs")
    return next(iter(recipes.values()))


def _sweep(path: Path, mapping: dict[str, Any]) -> list[tuple[str, Path, Path | None, dict[str, Any]]]:
    """Of each entry: where it stands, for errors, its file, its base, and what it sets."""
    for key in mapping:
        if key not in SWEEP_KEYS:
            raise UserError(f"{path}: {key}: unknown key in a sweep; valid here: {', '.join(SWEEP_KEYS)}")
    items, base = mapping["recipes"], mapping.get("base")
    if base is not None and not isinstance(base, str):
        raise UserError(f"{path}: base: expected the path of one recipe file")
    if not isinstance(items, list) or not items:
        raise UserError(f"{path}: recipes: expected a list of recipe files")
    shared = _settings(mapping.get("set"), f"{path}: set")
    if "seeds" in mapping:
        shared = {"seeds": seeds_of(mapping["seeds"], path)} | shared
    entries = []
    for index, item in enumerate(items):
        where = f"{path}: recipes.{index}"
        item = {"recipe": item} if isinstance(item, str) else item
        if not isinstance(item, dict) or "recipe" not in item or set(item) - {"recipe", "set"}:
            raise UserError(f"{where}: expected a file name, or recipe: FILE with set: {{key: value}}")
        changes = merge(shared, _settings(item.get("set"), f"{where}.set"))
        parent = beside(path, base) if base else None
        entries.append((f"{where} ({item['recipe']})", beside(path, str(item["recipe"])), parent, changes))
    return entries


def _settings(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a mapping of dotted keys to values")
    return nested(value, where)


def _expand(
    where: str, written: dict[str, Any], changes: dict[str, Any], seeds: list[int] | None
) -> list[Job]:
    mapping = merge(written, changes)
    own_seeds, grid = (mapping.pop(key, None) for key in JOB_KEYS)
    chosen = seeds_of(own_seeds, where) if seeds is None else seeds_of(seeds, "--seeds")
    jobs = []
    points = _grid_points(grid, where, len(chosen))
    for point in points:
        whole = merge(mapping, nested(point, f"{where}: grid"))
        _check_settings_stay(changes, whole, point, where)
        recipe = validate(whole, where)
        if point:
            label = ",".join(f"{key.rsplit('.', 1)[-1]}={_plain(value)}" for key, value in point.items())
            named = recipe.model_dump() | {"name": f"{recipe.name}-{label}"}
            recipe = validate(named, f"{where}: grid")
        _check_clamp(recipe, where)
        jobs += [Job(recipe, seed) for seed in chosen]
    return jobs


def _check_settings_stay(
    changes: dict[str, Any], whole: dict[str, Any], point: dict[str, Any], where: str
) -> None:
    """Raise UserError for a setting (of `--set` or a sweep) that the grid's own value takes the place of."""
    for key in dotted_keys(changes):
        over = [name for name in point if f"{key}.".startswith(f"{name}.")]
        if over and lookup(whole, key) != lookup(changes, key):
            raise UserError(
                f"{where}: grid: {over[0]} has values of its own there, so that setting {key} would do nothing: "
                "leave it out, or give another grid (--set grid=null for none)"
            )


def _check_clamp(recipe: Recipe, where: str) -> None:
    """Raise UserError for a starting temperature that the clamp would move in the first step."""
    rule = recipe.temperature
    if not isinstance(rule, Learned) or rule.max_beta is None:
        return
    low, high = min(1.0, rule.max_beta), rule.max_beta
    if not low <= 1 / rule.init * (1 + 1e-9) or not 1 / rule.init * (1 - 1e-9) <= high:
        raise UserError(
            f"{where}: temperature.init: {rule.init:g} would be moved in the first step: the clamp keeps tau between "
            f"{1 / high:g} and {1 / low:g}; choose another, or temperature.max_beta (null for no clamp)"
        )


def _plain(value: Any) -> str:
    """A grid's value as part of a name: the parts of lists and mappings joined by +, other signs as -."""
    if isinstance(value, dict):
        return "+".join(f"{key}={_plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "+".join(map(_plain, value)) or "none"
    text = format(value, "g") if isinstance(value, float) else "none" if value is None else str(value)
    return re.sub(r"[^A-Za-z0-9._+=,-]", "-", text)


def _grid_points(grid: Any, where: str, seeds: int) -> list[dict[str, Any]]:
    if grid is None:
        return [{}]
    if not isinstance(grid, dict) or not all(isinstance(v, list) and v for v in grid.values()):
        raise UserError(f"{where}: grid: expected dotted keys, each with a non-empty list of values")
    for key in grid:
        if inside := [name for name in grid if str(name).startswith(f"{key}.")]:
            raise UserError(
                f"{where}: grid: {inside[0]} is a part of {key}: a point would have two values for it"
            )
    count = math.prod(len(values) for values in grid.values()) * seeds
    if count > MAX_JOBS:
        raise UserError(
            f"{where}: grid: {count:,} jobs with its seeds, more than {MAX_JOBS:,}; make it smaller"
        )
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def seeds_of(value: Any, file: str | Path) -> list[int]:
    """The seeds that `value` says, each once; `file` names where it stands. Raises UserError for what are none."""
    seeds = [0] if value is None else value if isinstance(value, list) else [value]
    if not seeds or not all(
        isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63 for seed in seeds
    ):
        raise UserError(f"{file}: seeds: expected a list of whole numbers >= 0 (below 2**63), e.g. [0, 1, 2]")
    return list(dict.fromkeys(seeds))
