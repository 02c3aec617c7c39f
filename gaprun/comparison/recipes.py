"""The recipes behind a comparison's rows: which runs repeat one recipe, what tells recipes apart, who shares a set-up.

A recipe is what was trained (`gaprun.recipe.identity`) on which data; its name only labels it. A set-up is a recipe
without its method: only rows of one set-up are subtracted from each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gaprun.recipe.identity import METHOD, is_neutral, setup_part, training_part
from gaprun.store.where import dotted_keys, lookup

if TYPE_CHECKING:
    from gaprun.store.database import Store

MOST_KEYS = 3  # that a label names
Row = dict[str, Any]
Document = dict[str, Any]
# recipe_hash; kind of the run; fingerprints of the training data, where runs of one hash differ in them.
Key = tuple[str, str, str]


class Recipes:
    """What the recipes of some metric rows are; each row gets its `recipe_key`, and `identity`.

    The identity is equal in runs that repeat one recipe: its name, the value of the key that groups, and what was
    trained. Recipes are not read while nobody needs them, that is while each name has one recipe and
    none is a baseline (unless `always`); then all set-ups are "".
    """

    def __init__(self, store: Store, rows: Sequence[Row], by: str = "recipe", always: bool = False) -> None:
        self.by = by
        trained: dict[str, set[str]] = {}
        for row in rows:
            trained.setdefault(row["recipe_hash"], set()).add(row["trained_on"] or "")
        self._data = {recipe: data - {""} for recipe, data in trained.items()}
        samples: dict[Key, str] = {}
        named: dict[str, dict[Key, None]] = {}
        keys: dict[tuple[str, str, str, str | None], Key] = {}
        for row in rows:
            told = row["recipe"], row["recipe_hash"], row["kind"], row["trained_on"]
            if told not in keys:
                key = keys[told] = self._key(row)
                samples.setdefault(key, row["id"])
                named.setdefault(row["recipe"], {})[key] = None
            row["recipe_key"] = keys[told]
        self._documents: dict[Key, Document] = {}
        if always or by != "recipe" or "baseline" in named or any(len(keys) > 1 for keys in named.values()):
            found = store.resolved_recipes(list(samples.values()))
            self._documents = self._with_data({key: found[run] for key, run in samples.items()})
        self._contents = {key: self._content(key) for key in samples}
        self._details = self._apart(named)
        self._setups = {key: self._setup(key) for key in samples}
        known: dict[tuple[str, str, Key], str] = {}
        for row in rows:
            one = row["recipe"], row["recipe"] if by == "recipe" else as_text(row[by]), row["recipe_key"]
            if one not in known:
                known[one] = "\n".join((*one[:2], self._contents[one[2]]))
            row["identity"] = known[one]

    def group(self, rows: Sequence[Row], pooled: bool = False) -> None:
        """Set `group`, `unit` and `setup` of each row; `pooled`: one group a value of the key, come what may."""
        values: dict[str, dict[str, tuple[str, Key]]] = {}  # of the key that groups: its recipes
        for row in rows if self.by != "recipe" else ():
            found = values.setdefault(as_text(row[self.by]), {})
            found.setdefault(row["identity"], (row["recipe"], row["recipe_key"]))
        known: dict[str, tuple[str, str]] = {}  # by identity: the group and the recipe's label
        for row in rows:
            identity = row["identity"]
            if identity not in known:
                label = self._label(row["recipe"], row["recipe_key"])
                known[identity] = label if self.by == "recipe" else self._group(row, values, pooled), label
            row["group"], label = known[identity]
            row["unit"] = label if self.by == "seed" else row["seed"]
            row["setup"] = self._setups[row["recipe_key"]]

    def _group(self, row: Row, values: Mapping[str, Mapping[str, tuple[str, Key]]], pooled: bool) -> str:
        """The value of the key that groups, and what tells the row's recipe from others that share it."""
        value = as_text(row[self.by])
        same = values[value]
        if pooled or len(same) == 1:
            return value
        name, key = same[row["identity"]]
        alone = [one for one, _ in same.values()].count(name) == 1
        label = name if alone else ", ".join([name, *filter(None, [self._details[name, key]])])
        return f"{value} [{label}]"

    def _key(self, row: Row) -> Key:
        recipe, data = row["recipe_hash"], row["trained_on"] or ""
        return recipe, row["kind"], data if len(self._data[recipe]) > 1 else ""

    def _label(self, name: str, key: Key) -> str:
        text = self._details[name, key]
        return f"{name} [{text}]" if text else name

    def _content(self, key: Key) -> str:
        document = self._documents.get(key)
        if document is None:
            return " ".join(key)
        trained = training_part(document)
        apart = {name: trained[name] for name in METHOD if name in trained}
        if key[1] == "external":  # somebody's checkpoint of our recipe is not our run
            apart["kind"] = key[1]
        return json.dumps(setup_part(document) | apart, sort_keys=True)

    def _setup(self, key: Key) -> str:
        document = self._documents.get(key)
        if document is None:
            return ""
        if self.by == "recipe" or self.by.partition(".")[0] in METHOD:
            return setup_of(document, key[1])
        return json.dumps(_without(json.loads(self._contents[key]), self.by.split(".")), sort_keys=True)

    def _with_data(self, documents: dict[Key, Document]) -> dict[Key, Document]:
        """The documents, with the start of what was trained on where equal set-ups are known to differ in it."""
        data = {key: key[2] or min(self._data[key[0]], default="") for key in documents}
        apart = several_data((setup_of(document), data[key]) for key, document in documents.items())
        return {
            key: with_data(document, data[key]) if setup_of(document) in apart else document
            for key, document in documents.items()
        }

    def _apart(self, named: Mapping[str, Mapping[Key, None]]) -> dict[tuple[str, Key], str]:
        """For each name and recipe what differs where one name has several, else ""."""
        details: dict[tuple[str, Key], str] = {}
        for name, keys in named.items():
            apart = dict.fromkeys((" ".join(key) for key in keys), "")
            if len({self._contents[key] for key in keys}) > 1:
                apart = what_differs({" ".join(key): json.loads(self._contents[key]) for key in keys})
            details |= {(name, key): apart[" ".join(key)] for key in keys}
        return details


def setup_of(recipe: Mapping[str, Any], kind: str = "train") -> str:
    """Everything that two recipes must share to be compared as methods, as canonical text.

    Models that gaprun did not train (`kind` external, without a recipe) are compared as they are.
    """
    if kind == "external" and "schedule" not in recipe:
        return json.dumps({"kind": kind})
    return json.dumps(setup_part(recipe), sort_keys=True)


def several_data(found: Iterable[tuple[str, str]]) -> set[str]:
    """The set-ups that are known to have been trained on different data, from (set-up, data or "") of runs."""
    known: dict[str, set[str]] = {}
    for setup, data in found:
        known.setdefault(setup, set()).update({data} - {""})
    return {setup for setup, data in known.items() if len(data) > 1}


def with_data(recipe: Mapping[str, Any], data: str) -> Document:
    """`recipe` with what it was trained on: the beginnings of the fingerprints in the JSON text `data`."""
    short = " ".join(str(one)[:8] for one in json.loads(data).values()) if data else "unknown"
    return {**recipe, "data": {**recipe.get("data", {}), "content": short}}


def what_differs(recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each recipe its values of the (first three) keys in which the recipes differ; labels do not count.

    Keys are named by their last part, as in the names of a grid's jobs, unless two of them end alike.
    """
    keys = sorted({k for recipe in recipes.values() for k in dotted_keys(recipe) if not is_neutral(k)})
    differing = [k for k in keys if len({as_text(lookup(recipe, k)) for recipe in recipes.values()}) > 1]
    more = len(differing) > MOST_KEYS
    ends = [k.rpartition(".")[2] for k in differing]
    names = {k: end if ends.count(end) == 1 else k for k, end in zip(differing, ends, strict=True)}
    return {
        key: ", ".join(f"{names[k]}={as_text(lookup(recipe, k))}" for k in differing[:MOST_KEYS])
        + (f", … {key[:8]}" if more else "")
        for key, recipe in recipes.items()
    }


def as_text(value: Any) -> str:
    """A recipe's value as labels and groups show it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _without(document: Document, parts: Sequence[str]) -> Document:
    first, *rest = parts
    inner = document.get(first)
    kept = {name: value for name, value in document.items() if name != first}
    return kept | {first: _without(inner, rest)} if rest and isinstance(inner, dict) else kept
