"""Which stored results stand in a comparison, in which groups, and whether they may be averaged at all.

Every command that shows values reads them by `load` (or by `Store.metrics`, which selects in the same way).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gaprun.comparison.apart import as_text
from gaprun.comparison.moment import rows_at
from gaprun.comparison.places import SAME, Row
from gaprun.comparison.recipes import Recipes
from gaprun.comparison.unfinished import left_out
from gaprun.errors import UserError
from gaprun.evaluation.catalogue import declared, expand_metric
from gaprun.store.queries import nearest, recency
from gaprun.store.selecting import METRIC_KEYS, RUN_KEYS
from gaprun.store.where import parse_conditions

if TYPE_CHECKING:
    from gaprun.store.database import Store

Rows = list[Row]
MOST_NAMED = 6


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
                close = nearest(name, [*stored, *declared()])
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
    baseline: str | None = None,
    separate: bool = False,
    setups: bool = False,
    at: str | None = None,
) -> tuple[Rows, list[str]]:
    """The metric rows to compare and notes for the reader.

    Each row has its `group` (the row of the table), `name` (what that is called), `unit` (what pairs it with other
    groups' rows), `setup` (equal in rows that may be subtracted; "" for all where nobody asks by `setups`, a baseline
    or several recipes of one name) and `mixed` (what `allow_mixed` let into its cell, or ""). A group is one recipe:
    `by` a key, the runs that share its value but differ otherwise are rows of their own.

    Only finished runs, unless `all_statuses` or `where` speaks of status. Raises UserError when nothing is found and
    (unless `allow_mixed`) when a group, or a column within a set-up, would mix what differs in SAME or in the step;
    what differs in SAME between set-ups, or with `separate` at all, becomes columns of its own. `at`: the moment of
    training (see `moment`), the end by default.
    """
    if by in METRIC_KEYS:
        raise UserError(
            f"--by {by}: columns are apart by {by} anyway; group by recipe, seed or a recipe's key"
        )
    conditions = list(where) if all_statuses else finished(where)
    rows, moment = rows_at(store, at, names, conditions, [] if by in RUN_KEYS else [by])
    if not rows:
        raise UserError(_nothing(store, names, where, "finished " if len(conditions) > len(where) else ""))
    notes = [f"no results for {name}" for name in names if all(row["metric"] != name for row in rows)]
    notes += store.idle(where)
    if len(conditions) > len(where):
        notes += left_out(store, rows, where, baseline)
    for row in rows:
        row["mixed"] = ""
    recipes = Recipes(store, rows, by, always=setups or baseline is not None)
    unique = latest_of_each_seed(rows)
    if len(unique) < len(rows):
        notes.append("of several runs of one recipe with one seed only the latest counts")
    recipes.group(unique, pooled=allow_mixed)
    if separate:
        notes += _columns_apart(unique)
    notes += moment.told(unique)
    refuse = None if allow_mixed else UserError
    for reason in (*_mixed_columns(unique, allow_mixed), *_mixed_groups(unique, by, moment.best)):
        if refuse:
            raise refuse(reason)
        notes.append(f"mixed on request (--allow-mixed): {reason.partition('; choose one')[0]}")
    if not allow_mixed and not separate:
        notes += _columns_apart(unique)
    notes += _devices_in_one_cell(unique) or _devices_in_one_column(unique)
    return unique, list(dict.fromkeys(notes))


def _devices_in_one_cell(rows: Rows) -> list[str]:
    """A line for each group whose values of one column were measured on several kinds of device or in several
    precisions: such values differ by rounding, so they are averaged, and said."""
    found: dict[str, dict[tuple[str, ...], set[str]]] = {}
    for row in rows:
        if row["device"]:
            found.setdefault(row["group"], {}).setdefault(_place(row), set()).add(row["device"])
    lines = []
    for group, places in found.items():
        kinds = sorted({kind for devices in places.values() if len(devices) > 1 for kind in devices})
        if kinds:
            lines.append(
                f"{group}: averages mix values measured on {' and '.join(kinds)}; measure the runs on one kind of "
                f"device, or choose one with --where 'device={kinds[0]}'"
            )
    return lines


def _devices_in_one_column(rows: Rows) -> list[str]:
    """A line where rows of one set-up that stand in one column were measured on several kinds of device or in several
    precisions, and which has which."""
    found: dict[tuple[str, ...], dict[str, dict[str, None]]] = {}
    for row in rows:
        if row["device"]:
            kinds = found.setdefault((row["name"].setup, *_place(row)), {})
            kinds.setdefault(row["device"], {})[row["group"]] = None
    mixed = next((kinds for kinds in found.values() if len(kinds) > 1), None)
    if mixed is None:
        return []
    least = min(mixed, key=lambda kind: (len(mixed[kind]), kind))
    groups, most = list(mixed[least]), max(mixed, key=lambda kind: (len(mixed[kind]), kind))
    named = ", ".join(groups[:MOST_NAMED]) + (", ..." if len(groups) > MOST_NAMED else "")
    return [
        f"not all rows of a column were measured on one kind of device: {named} on {least}, others on "
        f"{' or '.join(kind for kind in sorted(mixed) if kind != least)}; choose one with --where 'device={most}'"
    ]


def finished(where: Sequence[str]) -> list[str]:
    """The conditions, and that runs are finished unless one speaks of status."""
    said = any(condition.key == "status" for condition in parse_conditions(where))
    return [*where, *(() if said else ("status=finished",))]


def latest_of_each_seed(rows: Iterable[Row]) -> Rows:
    """Rows with one evaluation a recipe (`identity`), seed, task, place and protocol: the latest.

    Equal seeds repeat a run and are no further evidence; a run without a seed stands for itself.
    """
    kept: dict[tuple[Any, ...], Row] = {}
    lost: set[int] = set()  # evaluations
    rows = list(rows)
    for row in rows:
        unit = row["id"] if row["seed"] is None else row["seed"]
        key = row["identity"], unit, row["task"], row["dataset"], row["split"], row["protocol"]
        old = kept.setdefault(key, row)
        if old["evaluation"] == row["evaluation"]:
            continue
        if recency(row) > recency(old):
            kept[key] = row
        lost.add(min(row, old, key=recency)["evaluation"])
    return [row for row in rows if row["evaluation"] not in lost] if lost else rows


def _place(row: Row) -> tuple[str, ...]:
    return row["metric"], row["dataset"], row["split"], row["protocol"]


def _mixed_columns(rows: Rows, across: bool) -> Iterable[str]:
    """For each column (metric, split, protocol) whose results differ in what was measured: what differs, and a way out.

    Those of one set-up are looked at, `across` all together. The rows of such a column are marked.
    """
    columns: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        columns.setdefault((*_place(row), "" if across else row["name"].setup), []).append(row)
    for (metric, dataset, split, protocol, _), column in columns.items():
        differing = [key for key in SAME if len({row[key] for row in column}) > 1]
        for key in differing:
            first = column[0]
            other = next(row for row in column if row[key] != first[key])
            value = first[key]
            yield (
                f"{metric} on {dataset}/{split} ({protocol}) is not comparable: the {SAME[key]} differs "
                f"({_short(value)} in {first['id']}, {_short(other[key])} in {other['id']}); choose one with "
                f"--where {key}={_short(value)}{'*' if isinstance(value, str) and len(value) > 12 else ''}, "
                "or mix them with --allow-mixed"
            )
        for row in column if differing else ():
            _mark(row, *(SAME[key] for key in differing))


def _mixed_groups(rows: Rows, by: str, any_step: bool) -> Iterable[str]:
    """For each group that pools several recipes or (unless `any_step`) steps: what it pools; its rows are marked."""
    groups: dict[tuple[str, ...], Rows] = {}
    for row in rows:
        groups.setdefault((row["group"], *_place(row)), []).append(row)
    for (group, metric, dataset, split, protocol), cell in groups.items():
        if (
            not any_step
            and len({row["step"] for row in cell}) > 1
            and len({row["identity"] for row in cell}) == 1
        ):
            first = cell[0]
            other = next(row for row in cell if row["step"] != first["step"])
            yield (
                f"{metric} of {group} on {dataset}/{split} ({protocol}) is of several steps of training "
                f"({first['step']} in {first['id']}, {other['step']} in {other['id']}); choose one with "
                f"--where step={first['step']}, or mix them with --allow-mixed"
            )
            for row in cell:
                _mark(row, "step of training")
    pooled: dict[str, set[str]] = {}
    for row in rows:
        pooled.setdefault(row["group"], set()).add(row["identity"])
    for group, recipes in pooled.items():
        if len(recipes) > 1:
            yield f"{by} {group} averages {len(recipes)} recipes that differ in more than {by}"
            for row in rows:
                if row["group"] == group:
                    _mark(row, "recipe")


def _mark(row: Row, *reasons: str) -> None:
    row["mixed"] = ", ".join(dict.fromkeys([*filter(None, row["mixed"].split(", ")), *reasons]))


def _columns_apart(rows: Rows) -> list[str]:
    """Give results of one column that differ in what was measured columns of their own, named by what differs."""
    columns: dict[tuple[str, ...], dict[str, set[Any]]] = {}
    for row in rows:
        found = columns.setdefault(_place(row), {key: set() for key in SAME})
        for key in SAME:
            found[key].add(row[key])
    notes = []
    names: list[tuple[Row, str]] = []
    for row in rows:
        differing = [key for key, values in columns[_place(row)].items() if len(values) > 1]
        if differing:
            told = ", ".join(f"{key.removesuffix('_hash')}={_short(row[key])[:8]}" for key in differing)
            names.append((row, f"{row['protocol']}, {told}"))
            notes.append(
                f"{row['metric']} on {row['dataset']}/{row['split']} ({row['protocol']}) was measured in several ways "
                f"(they differ in {', '.join(SAME[key] for key in differing)}), which are kept apart"
            )
    for row, name in names:
        row["protocol"] = name
    return list(dict.fromkeys(notes))


def _nothing(store: Store, names: Sequence[str], where: Sequence[str], kind: str) -> str:
    stored = store.metric_names()
    present = [name for name in names if name in stored]
    if not present:
        return f"no run has {' or '.join(names)}: {_held(stored)}"
    filters = f" with {' and '.join(where)}" if where else ""
    hint = store.unmet(where) or "see `gaprun runs list`"
    return f"no {kind}run{filters} has {' or '.join(present)}: {hint}"


def _held(stored: Sequence[str]) -> str:
    return f"the database holds {', '.join(stored)}" if stored else "the database holds no metrics yet"


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else as_text(value)
