"""How two runs differ: in which keys of the recipe, on what data and machine, and in every value that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gaprun.comparison.apart import as_text
from gaprun.comparison.places import place_of
from gaprun.evaluation.catalogue import in_order, metric, value_text
from gaprun.recipe.identity import ADDED_LATER
from gaprun.store.where import dotted_keys, lookup
from gaprun.tables import Heading, Table
from gaprun.tables.numbers import places_for, signed

if TYPE_CHECKING:
    from gaprun.store.models import Run

ABSENT = "-"
FACTS = ("seed", "status", "step", "code_version", "host")


@dataclass(frozen=True)
class RunDifference:
    """Two runs: `keys` of recipe and record whose values differ, and `values` measured of both in one way."""

    runs: tuple[str, str]
    keys: tuple[dict[str, Any], ...]
    values: tuple[dict[str, Any], ...]

    def document(self) -> dict[str, Any]:
        """What JSON prints."""
        return {"runs": list(self.runs), "differing": list(self.keys), "metrics": list(self.values)}


def differing(
    one: Run, other: Run, metrics: tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]
) -> RunDifference:
    """The difference of two runs with their metrics (rows of `Store.metrics`). A list is one value."""
    recipes = one.resolved_recipe, other.resolved_recipe
    names = list(dict.fromkeys(key for recipe in recipes for key in dotted_keys(recipe)))
    pairs = {key: (_of_now(recipes[0], key), _of_now(recipes[1], key)) for key in names}
    pairs |= {name: (getattr(one, name), getattr(other, name)) for name in FACTS}
    around = _flat(one.environment, "environment"), _flat(other.environment, "environment")
    pairs |= {key: (around[0].get(key), around[1].get(key)) for key in {**around[0], **around[1]}}
    keys = tuple({"key": key, "a": a, "b": b} for key, (a, b) in pairs.items() if a != b)
    theirs = {_place(row): row for row in metrics[1]}
    order = {name: place for place, name in enumerate(in_order({row["metric"] for row in metrics[0]}))}
    shared = [row for row in metrics[0] if _place(row) in theirs]
    shared.sort(key=lambda row: (row["dataset"], row["split"], row["protocol"], order[row["metric"]]))
    return RunDifference((one.id, other.id), keys, tuple(_value(row, theirs[_place(row)]) for row in shared))


def _of_now(recipe: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; its default where the recipe was stored before the key was there."""
    value = lookup(recipe, key)
    return ADDED_LATER.get(key) if value is None else value


def _flat(document: Mapping[str, Any] | None, prefix: str) -> dict[str, Any]:
    """What a nested document holds, by dotted key below `prefix`; also where a key of it has a dot."""
    found: dict[str, Any] = {}
    for key, value in (document or {}).items():
        name = f"{prefix}.{key}"
        found |= _flat(value, name) if isinstance(value, Mapping) else {name: value}
    return found


def tables(found: RunDifference) -> list[Table]:
    """The keys, then the values that both have."""
    heads: tuple[Heading | str, ...] = ("key", Heading("A", wrap=True), Heading("B", wrap=True))
    rows = [(row["key"], *(_text(row[side]) for side in "ab")) for row in found.keys]
    title = f"A: {found.runs[0]}\nB: {found.runs[1]}"
    right = tuple(Heading(name, right=True) for name in ("A", "B", "B − A"))
    values = [
        (
            row["metric"],
            f"{row['dataset']}/{row['split']}",
            row["protocol"],
            value_text(row["metric"], row["a"]),
            value_text(row["metric"], row["b"]),
            _difference(row),
        )
        for row in found.values
    ]
    legend = [] if rows else ["The recipes are the same."]
    legend += [] if values else ["No value was measured of both in one way."]
    return [
        Table.of("differing", heads, rows, found.keys, title),
        Table.of("metrics", ("metric", "measured on", "protocol", *right), values, found.values, "", legend),
    ]


def _place(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["metric"], *place_of(row)


def _value(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    both = a["value"] is not None and b["value"] is not None
    place = {name: a[name] for name in ("metric", "dataset", "split", "protocol")}
    return place | {"a": a["value"], "b": b["value"], "difference": b["value"] - a["value"] if both else None}


def _difference(row: dict[str, Any]) -> str:
    if row["difference"] is None:
        return ABSENT
    return signed(
        row["difference"], places_for(metric(row["metric"]).places, max(abs(row["a"]), abs(row["b"])))
    )


def _text(value: Any) -> str:
    return ABSENT if value is None else as_text(value)
