"""The recipes behind a comparison's rows: which runs repeat one recipe, what tells recipes apart, who shares a set-up.

A recipe is what was trained (`gaprun.recipe.identity`) on which data; its name only labels it. A set-up is a recipe
without its method: only rows of one set-up are subtracted from each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gaprun.comparison.apart import as_text, what_differs
from gaprun.recipe.identity import METHOD, setup_part, training_part
from gaprun.store.selecting import TAG

if TYPE_CHECKING:
    from gaprun.store.columns import ValueColumns
    from gaprun.store.database import Store

Document = dict[str, Any]
# recipe_hash; kind of the run; fingerprints of the training data, where runs of one hash differ in them.
Key = tuple[str, str, str]


class RowName(NamedTuple):
    """What a comparison's row is called. `called`: the recipe's name (or the value that groups) alone; `short`: what
    tells it from the rows of its set-up; `setup`: its set-up in words, "" where there is one set-up.
    """

    called: str
    short: str
    setup: str = ""


class Recipes:
    """What the recipes of some stored values are; each row gets its `identity`, and the number of what it tells of it.

    The identity is equal in runs that repeat one recipe: its name, the value of the key that groups, and what was
    trained. Recipes are not read while nobody needs them, that is while each name has one recipe and
    none is a baseline (unless `always`); then all set-ups are "". All is found out once a recipe, not once a row.
    """

    def __init__(self, store: Store, columns: ValueColumns, by: str = "recipe", always: bool = False) -> None:
        self.by = by
        if by != "recipe":
            columns["by"] = map(self._text, columns[by])
        value = "recipe" if by == "recipe" else "by"
        each = columns.each_together("recipe", value, "recipe_hash", "kind", "trained_on")
        numbers = {entries: number for number, entries in enumerate(dict.fromkeys(each))}
        told = list(numbers)
        trained: dict[str, set[str]] = {}
        for _, _, recipe, _, data in told:
            trained.setdefault(recipe, set()).add(data or "")
        self._data = {recipe: data - {""} for recipe, data in trained.items()}
        self._told = [(name, value, self._key(*parts)) for name, value, *parts in told]
        columns.set_each("told", map(numbers.__getitem__, each))
        named: dict[str, dict[Key, None]] = {}
        for name, _, key in self._told:
            named.setdefault(name, {})[key] = None
        keys = dict.fromkeys(key for *_, key in self._told)
        self._documents: dict[Key, Document] = {}
        if always or by != "recipe" or "baseline" in named or any(len(own) > 1 for own in named.values()):
            samples: dict[Key, str] = {}
            for (*_, key), run in zip(self._told, columns.first(columns["told"], "id"), strict=True):
                samples.setdefault(key, run)
            found = store.resolved_recipes(list(samples.values()))
            self._documents = self._with_data({key: found[run] for key, run in samples.items()})
        self._contents = {key: self._content(key) for key in keys}
        self._setups = {key: self._setup(key) for key in keys}
        several = set(self._setups.values()) if by == "recipe" else set()
        self._words = (
            what_differs({setup: json.loads(setup) for setup in several}) if len(several) > 1 else {}
        )
        self._names = {
            (name, key): found
            for name, own in named.items()
            for key, found in self._named(name, list(own)).items()
        }
        self._identities = ["\n".join((name, value, self._contents[key])) for name, value, key in self._told]
        columns.set_each("identity", [self._identities[code] for code in columns.each("told")])

    def group(self, columns: ValueColumns, pooled: bool = False) -> None:
        """Set `group`, `name`, `unit`, `setup` and `words` (of the set-up) of each row; `pooled`: one group a value of
        the key in any case."""
        told = columns.each("told")
        present = dict.fromkeys(told)
        groups: dict[str, str] = {}  # by identity, of a key that groups
        if self.by != "recipe":
            values: dict[str, dict[str, tuple[str, Key]]] = {}  # their recipes
            for code in present:
                name, value, key = self._told[code]
                values.setdefault(value, {}).setdefault(self._identities[code], (name, key))
            for value, same in values.items():
                groups |= self._within(value, same, pooled)
        known: dict[
            str, tuple[str, RowName, str]
        ] = {}  # by identity: the group, its name, the recipe's label
        labels = [""] * len(self._told)
        own: dict[str, list[Any]] = {
            name: [None] * len(self._told) for name in ("group", "name", "setup", "words")
        }
        for code in present:
            (recipe, value, key), identity = self._told[code], self._identities[code]
            if identity not in known:
                label, name = self._names[recipe, key]
                group = groups.get(identity, label)
                known[identity] = group, name if self.by == "recipe" else RowName(value, group), label
            own["group"][code], name, labels[code] = known[identity]
            own["name"][code], own["setup"][code], own["words"][code] = name, self._setups[key], name.setup
        for name, entries in own.items():
            columns.set_each(name, [entries[code] for code in told])
        if self.by == "seed":
            columns.set_each("unit", [labels[code] for code in told])
        else:
            columns["unit"] = columns["seed"]

    def _text(self, value: Any) -> str:
        """A value of the key that groups, as text: tags with commas, an empty text as none."""
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
        if len(keys) == 1:
            return {keys[0]: (name, RowName(name, name, self._words.get(self._setups[keys[0]], "")))}
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

    def _key(self, recipe: str, kind: str, data: str | None) -> Key:
        return recipe, kind, data or "" if len(self._data[recipe]) > 1 else ""

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
