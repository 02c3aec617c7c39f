"""The recipes behind a comparison's rows: which runs repeat one recipe, what tells recipes apart, who shares a set-up.

A recipe is what was trained (`gaprun.recipe.identity`) on which data; its name only labels it. A set-up is a recipe
without its method: only rows of one set-up are subtracted from each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gaprun.comparison.apart import as_text, what_differs
from gaprun.recipe.identity import METHOD, setup_part, training_part
from gaprun.store.selecting import TAG

if TYPE_CHECKING:
    from gaprun.store.database import Store

Row = dict[str, Any]
Document = dict[str, Any]
# recipe_hash; kind of the run; fingerprints of the training data, where runs of one hash differ in them.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class RowName:
    """What a comparison's row is called. `called`: the recipe's name (or the value that groups) alone; `short`: what
    tells it from the rows of its set-up; `setup`: its set-up in words, "" where there is one set-up.
    """

    called: str
    short: str
    setup: str = ""


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
        self._setups = {key: self._setup(key) for key in samples}
        several = set(self._setups.values()) if by == "recipe" else set()
        self._words = (
            what_differs({setup: json.loads(setup) for setup in several}) if len(several) > 1 else {}
        )
        self._names = {
            (name, key): found
            for name, keys in named.items()
            for key, found in self._named(name, list(keys)).items()
        }
        known: dict[tuple[str, str, Key], str] = {}
        for row in rows:
            one = row["recipe"], row["recipe"] if by == "recipe" else self._value(row), row["recipe_key"]
            if one not in known:
                known[one] = "\n".join((*one[:2], self._contents[one[2]]))
            row["identity"] = known[one]

    def group(self, rows: Sequence[Row], pooled: bool = False) -> None:
        """Set `group`, `name`, `unit` and `setup` of each row; `pooled`: one group a value of the key in any case."""
        values: dict[str, dict[str, tuple[str, Key]]] = {}  # of the key that groups: its recipes
        for row in rows if self.by != "recipe" else ():
            found = values.setdefault(self._value(row), {})
            found.setdefault(row["identity"], (row["recipe"], row["recipe_key"]))
        groups = {value: self._within(value, same, pooled) for value, same in values.items()}
        known: dict[
            str, tuple[str, RowName, str]
        ] = {}  # by identity: the group, its name, the recipe's label
        for row in rows:
            identity = row["identity"]
            if identity not in known:
                label, name = self._names[row["recipe"], row["recipe_key"]]
                group = label
                if self.by != "recipe":
                    value = self._value(row)
                    group = groups[value][identity]
                    name = RowName(value, group)
                known[identity] = group, name, label
            row["group"], row["name"], label = known[identity]
            row["unit"] = label if self.by == "seed" else row["seed"]
            row["setup"] = self._setups[row["recipe_key"]]

    def _value(self, row: Row) -> str:
        """The value of the key that groups, as text: tags with commas, an empty text as none."""
        value = row[self.by]
        if isinstance(value, str):
            value = ", ".join(value.split()) if self.by == TAG else value
        return as_text(None if value == "" else value)

    def _within(self, value: str, same: Mapping[str, tuple[str, Key]], pooled: bool) -> dict[str, str]:
        """The groups of the recipes that share a value of the key that groups: the value and what tells them apart."""
        if pooled or len(same) == 1:
            return dict.fromkeys(same, value)
        found = {}
        for name in dict.fromkeys(name for name, _ in same.values()):
            own = {identity: key for identity, (other, key) in same.items() if other == name}
            apart = what_differs({identity: json.loads(self._contents[key]) for identity, key in own.items()})
            for identity in own:
                found[identity] = f"{value} [{', '.join(filter(None, (name, apart[identity])))}]"
        return found

    def _named(self, name: str, keys: Sequence[Key]) -> dict[Key, tuple[str, RowName]]:
        """Label and name of each recipe of one name: with its set-up where the name has several, and with what differs
        inside of one."""
        setups = {key: self._setups[key] if self.by == "recipe" else "" for key in keys}
        several = len(set(setups.values())) > 1
        found = {}
        for setup in dict.fromkeys(setups.values()):
            own = {" ".join(key): key for key in keys if setups[key] == setup}
            apart = dict.fromkeys(own, "")
            if len({self._contents[key] for key in own.values()}) > 1:
                apart = what_differs({text: json.loads(self._contents[key]) for text, key in own.items()})
            words = self._words.get(setup, "")
            for text, key in own.items():
                label = _bracketed(name, words if several else "", apart[text])
                found[key] = label, RowName(name, _bracketed(name, apart[text]), words)
        return found

    def _key(self, row: Row) -> Key:
        recipe, data = row["recipe_hash"], row["trained_on"] or ""
        return recipe, row["kind"], data if len(self._data[recipe]) > 1 else ""

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


def _bracketed(name: str, *details: str) -> str:
    text = ", ".join(filter(None, details))
    return f"{name} [{text}]" if text else name


def _without(document: Document, parts: Sequence[str]) -> Document:
    first, *rest = parts
    inner = document.get(first)
    kept = {name: value for name, value in document.items() if name != first}
    return kept | {first: _without(inner, rest)} if rest and isinstance(inner, dict) else kept
