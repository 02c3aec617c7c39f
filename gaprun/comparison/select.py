"""Which stored results stand in a comparison, in which groups, and whether they may be averaged at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gaprun.errors import UserError
from gaprun.evaluation.names import DIRECTION, expand_metric
from gaprun.recipe.identity import is_neutral, setup_part
from gaprun.store.queries import METRIC_KEYS, RUN_KEYS, nearest
from gaprun.store.where import dotted_keys, lookup, parse_conditions

if TYPE_CHECKING:
    from gaprun.store.database import Store

SAME = {
    "n": "number of items (gallery size)",
    "data_fingerprint": "data",
    "definition": "definition of the metric",
    "options_hash": "options of the evaluation",
}


def metric_names(store: Store, wanted: Iterable[str]) -> list[str]:
    """The full names behind what was asked for, in order; also names that only the database knows.

    Raises UserError, with the nearest names and what the database holds, for an unknown name and for no name.
    """
    names: list[str] = []
    stored: list[str] | None = None
    for name in wanted:
        try:
            names += expand_metric(name)
        except UserError:
            stored = store.metric_names() if stored is None else stored
            if name not in stored:
                close = nearest(name, [*stored, *DIRECTION])
                hint = f"did you mean {' or '.join(close)}? " if close else ""
                raise UserError(f"unknown metric {name!r}: {hint}{_held(stored)}") from None
            names.append(name)
    if not names:
        raise UserError(f"name a metric with --metric: {_held(store.metric_names())}")
    return list(dict.fromkeys(names))


def load(
    store: Store,
    names: Sequence[str],
    by: str = "recipe",
    where: Sequence[str] = (),
    all_statuses: bool = False,
    allow_mixed: bool = False,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The metric rows to compare, each with its `group` and its `setup`, and notes for the reader.

    `setup` tells trainings apart that differ in more than their method (`setup_of`); it is the same for all rows while
    each recipe's name has one recipe only.

    Only finished runs, unless `all_statuses` or `where` speaks of status. Raises UserError when nothing is
    found, and (unless `allow_mixed`) when a column would mix data, sizes, definitions or options.
    """
    if by in METRIC_KEYS:
        raise UserError(
            f"--by {by}: columns are apart by {by} anyway; group by recipe, seed or a recipe's key"
        )
    conditions = list(where)
    if not all_statuses and not any(c.key == "status" for c in parse_conditions(where)):
        conditions.append("status=finished")
    rows = store.metric_rows(names, conditions, [] if by in RUN_KEYS else [by])
    if not rows:
        raise UserError(_nothing(store, names, where, "finished " if len(conditions) > len(where) else ""))
    if not allow_mixed:
        check_comparable(rows)
    notes = [f"no results for {name}" for name in names if all(row["metric"] != name for row in rows)]
    if by != "recipe":
        for row in rows:
            row["group"], row["setup"] = _text(row[by]), ""
        return rows, notes
    labels, setups = _labels_and_setups(store, rows)
    for row in rows:
        row["group"] = labels[row["recipe"], row["recipe_hash"]]
        row["setup"] = setups.get(row["recipe_hash"], "")
    unique = latest_of_each_seed(rows)
    if len(unique) < len(rows):
        notes.append("of several runs of one recipe with one seed only the latest counts")
    return unique, notes


def check_comparable(rows: Iterable[Mapping[str, Any]]) -> None:
    """Raise UserError if results in one column (metric, split, protocol) differ in what was measured."""
    seen: dict[tuple[str, ...], dict[str, dict[Any, str]]] = {}
    for row in rows:
        column = seen.setdefault((row["metric"], row["dataset"], row["split"], row["protocol"]), {})
        for key in SAME:
            column.setdefault(key, {}).setdefault(row[key], row["id"])
    for (metric, dataset, split, protocol), found in seen.items():
        for key, what in SAME.items():
            if len(found[key]) > 1:
                (one, first), (other, second) = list(found[key].items())[:2]
                raise UserError(
                    f"{metric} on {dataset}/{split} ({protocol}) is not comparable: the {what} differs "
                    f"({_short(one)} in {first}, {_short(other)} in {second}); choose one with "
                    f"--where {key}={_short(one)}{'*' if isinstance(one, str) and len(one) > 12 else ''}, "
                    "or mix them with --allow-mixed"
                )


def _labels_and_setups(
    store: Store, rows: Iterable[Mapping[str, Any]]
) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """A label for each (recipe, recipe_hash), the name and what differs where one name has several; set-ups by hash.

    Set-ups are empty where no name has several recipes, so that nothing is read for nothing.
    """
    samples: dict[str, dict[str, str]] = {}
    for row in rows:
        samples.setdefault(row["recipe"], {}).setdefault(row["recipe_hash"], row["id"])
    labels = {(name, only): name for name, hashes in samples.items() for only in hashes}
    if len(labels) == len(samples):
        return labels, {}
    runs = {key: run for hashes in samples.values() for key, run in hashes.items()}
    documents = store.resolved_recipes(list(runs.values()))
    recipes = {key: documents[run] for key, run in runs.items()}
    for name, hashes in samples.items():
        for key, text in what_differs({key: recipes[key] for key in hashes}).items():
            labels[name, key] = f"{name} [{text}]" if text else name
    return labels, {key: setup_of(recipe) for key, recipe in recipes.items()}


def what_differs(recipes: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each recipe its values of the (first three) keys in which the recipes differ; labels do not count.

    Keys are named by their last part, as in the names of a grid's jobs, unless two of them end alike.
    """
    keys = sorted({k for recipe in recipes.values() for k in dotted_keys(recipe) if not is_neutral(k)})
    differing = [k for k in keys if len({_text(lookup(recipe, k)) for recipe in recipes.values()}) > 1]
    more = len(differing) > 3
    ends = [k.rpartition(".")[2] for k in differing]
    names = {k: end if ends.count(end) == 1 else k for k, end in zip(differing, ends, strict=True)}
    return {
        key: ", ".join(f"{names[k]}={_text(lookup(recipe, k))}" for k in differing[:3])
        + (f", … {key[:8]}" if more else "")
        for key, recipe in recipes.items()
    }


def setup_of(recipe: Mapping[str, Any]) -> str:
    """Everything in a resolved recipe that is not method, label, measurement or rounding, as canonical text."""
    return json.dumps(setup_part(recipe), sort_keys=True)


def latest_of_each_seed(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with one run a group, seed and column: equal seeds repeat a run and are no further evidence."""
    kept: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        unit = row["id"] if row["seed"] is None else row["seed"]
        key = (row["group"], unit, row["metric"], row["dataset"], row["split"], row["protocol"])
        old = kept.get(key)
        if old is None or _age(row) > _age(old):
            kept[key] = row
    return list(kept.values())


def _age(row: Mapping[str, Any]) -> tuple[bool, Any, str]:
    return (row["started"] is not None, row["started"] or 0, row["id"])


def _nothing(store: Store, names: Sequence[str], where: Sequence[str], kind: str) -> str:
    stored = store.metric_names()
    present = [name for name in names if name in stored]
    if not present:
        return f"no run has {' or '.join(names)}: {_held(stored)}"
    filters = f" with {' and '.join(where)}" if where else ""
    return f"no {kind}run{filters} has {' or '.join(present)}: see `gaprun runs list`"


def _held(stored: Sequence[str]) -> str:
    return f"the database holds {', '.join(stored)}" if stored else "the database holds no metrics yet"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else str(value)
