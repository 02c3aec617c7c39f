"""What tells recipes apart, in the fewest words that a reader needs: `flickr8k`, `6,000 steps`, `tau=0.1`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from gaprun.recipe.identity import is_neutral
from gaprun.store.where import dotted_keys, lookup

FIRST = ("kind", "data", "length")  # asked before any key
NAMED = ("kind", "data.train", "schedule.steps", "schedule.epochs")  # the keys behind those
HASH = re.compile(r"[0-9a-f]{40,64}")
Facts = Mapping[str, str]


def what_differs(recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each recipe what tells it from the others, "" for an only one; keys that do not count are not looked at.

    Asked in turn: what kind of run, training data, length, then the key that tells most of the rest apart (of several
    one whose values are words). A recipe's text has an answer only where recipes that were alike so far differ in it.
    """
    facts = _facts(recipes)
    found: dict[str, list[str]] = {name: [] for name in recipes}
    _tell(list(recipes), facts, list(facts), found)
    return {name: ", ".join(filter(None, words)) for name, words in found.items()}


def as_text(value: Any) -> str:
    """A recipe's value as labels and groups show it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value)) or "[]"
    if isinstance(value, Mapping):  # a loss term and the like: its name, then its values
        name = [as_text(value["name"])] if "name" in value else []
        return " ".join([*name, *(f"{key}={as_text(own)}" for key, own in value.items() if key != "name")])
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _tell(
    members: Sequence[str], facts: Mapping[str, Facts], left: Sequence[str], found: dict[str, list[str]]
) -> None:
    """Append to the words of `members` what tells them apart, asking the facts `left`."""
    splits = {name: len({facts[name][member] for member in members}) for name in left}
    useful = [name for name in left if splits[name] > 1]
    if not useful:
        return
    asked = next((name for name in FIRST if name in useful), None) or max(
        useful, key=lambda name: splits[name]
    )
    parts: dict[str, list[str]] = {}
    for member in members:
        words = facts[asked][member]
        found[member].append(words)
        parts.setdefault(words, []).append(member)
    for part in parts.values():
        _tell(part, facts, [name for name in useful if name != asked], found)


def _facts(recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, Facts]:
    """By name of a fact its words for each recipe; keys whose values are words come before those of numbers."""
    keys = {k for recipe in recipes.values() for k in dotted_keys(recipe) if not is_neutral(k)} - {*NAMED}
    values = {k: {name: lookup(recipe, k) for name, recipe in recipes.items()} for k in keys}
    differing = [k for k, own in values.items() if len({as_text(v) for v in own.values()}) > 1]
    differing.sort(key=lambda k: (not any(isinstance(v, str) for v in values[k].values()), k))
    ends = [k.rpartition(".")[2] for k in differing]
    names = {k: end if ends.count(end) == 1 else k for k, end in zip(differing, ends, strict=True)}
    return {
        "kind": {name: str(recipe.get("kind", "")) for name, recipe in recipes.items()},
        "data": _data({name: lookup(recipe, "data.train") for name, recipe in recipes.items()}),
        "length": {name: _length(recipe) for name, recipe in recipes.items()},
        **{k: {name: f"{names[k]}={_short(as_text(v))}" for name, v in values[k].items()} for k in differing},
    }


def _short(text: str) -> str:
    """A hash by its beginning, which tells it from any other."""
    return text[:12] if HASH.fullmatch(text) else text


def _length(recipe: Mapping[str, Any]) -> str:
    schedule = recipe.get("schedule") or {}
    lengths = {unit: schedule.get(unit) for unit in ("steps", "epochs")}
    words = {
        unit: f"{n:,}" if isinstance(n, int) else as_text(n) for unit, n in lengths.items() if n is not None
    }
    return " and ".join(f"{number} {unit[:-1] if number == '1' else unit}" for unit, number in words.items())


def _data(trained: Mapping[str, Any]) -> dict[str, str]:
    """The training sets, without their splits where the names alone are as many different ones."""
    sets = {name: [own] if isinstance(own, str) else own or [] for name, own in trained.items()}
    whole = {name: " and ".join(set_name(one) for one in own) for name, own in sets.items()}
    short = {name: " and ".join(set_name(one, "/") for one in own) for name, own in sets.items()}
    return short if len(set(short.values())) == len(set(whole.values())) else whole


def set_name(one: Any, until: str = "\n") -> str:
    """A training set as a recipe names it, with its weight in a mix; of its name the part before `until`."""
    if isinstance(one, Mapping):
        return f"{set_name(one['set'], until)} x {one.get('weight', 1):g}"
    return str(one).partition(until)[0]
