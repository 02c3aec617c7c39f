"""Which stored results stand in a comparison, in which groups, and whether they may be averaged at all.

Every command that shows values reads them by `load` (or by `Store.metrics`, which selects in the same way).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from gaprun.comparison.apart import as_text
from gaprun.comparison.moment import rows_at
from gaprun.comparison.places import PLACE, SAME
from gaprun.comparison.recipes import Recipes
from gaprun.comparison.unfinished import left_out
from gaprun.errors import UserError
from gaprun.evaluation.catalogue import declared, expand_metric
from gaprun.store.columns import Entries, ValueColumns
from gaprun.store.queries import nearest
from gaprun.store.selecting import METRIC_KEYS, RUN_KEYS, newest_of
from gaprun.store.where import parse_conditions
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.store.database import Store

MOST_NAMED = 6
# What is read of each value, beside the key that groups.
OF_RUN = "recipe", "recipe_hash", "kind", "seed", "trained_on"
READ = {*PLACE, *SAME, *OF_RUN, "value", "step", "device", "pool", "transform"}


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
                raise UserError(f"unknown metric {name!r}: {hint}{held(store)}") from None
            names.append(name)
    if not names:
        raise UserError(f"name a metric with --metric: {held(store)}")
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
) -> tuple[ValueColumns, list[str]]:
    """The stored values to compare and notes for the reader.

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
    columns, moment = rows_at(store, at, names, conditions, [] if by in RUN_KEYS else [by], only={*READ, by})
    if not columns:
        raise UserError(_nothing(store, names, where, "finished " if len(conditions) > len(where) else ""))
    measured = set(columns["metric"])
    notes = [f"no results for {name}" for name in names if name not in measured]
    notes += store.idle(where)
    if len(conditions) > len(where):
        notes += left_out(store, columns, where, baseline)
    recipes = Recipes(store, columns, by, always=setups or baseline is not None)
    unique = latest_of_each_seed(columns)
    if len(unique) < len(columns):
        notes.append("of several runs of one recipe with one seed only the latest counts")
    coarser = _coarser_values(store, unique, names, conditions)
    recipes.group(unique, pooled=allow_mixed)
    unique.set_each("mixed", ["" for _ in unique.each("group")])
    if separate:
        notes += _columns_apart(unique)
    notes += moment.told(unique)
    for reason in (*_mixed_columns(unique, allow_mixed), *_mixed_groups(unique, by, moment.best)):
        if not allow_mixed:
            raise UserError(reason)
        notes.append(f"mixed on request (--allow-mixed): {reason.partition('; choose one')[0]}")
    if not allow_mixed and not separate:
        notes += _columns_apart(unique)
    notes += _devices_in_one_cell(unique) or _devices_in_one_column(unique)
    notes += coarser
    return unique, list(dict.fromkeys(notes))


def _devices_in_one_cell(columns: ValueColumns) -> list[str]:
    """A line for each group whose values of one column were measured on several kinds of device or in several
    precisions: such values differ by rounding, so they are averaged, and said."""
    if len({*columns.each("device")} - {""}) < 2:
        return []
    cells: dict[str, dict[Entries, set[str]]] = {}
    for group, device, *place in columns.distinct("group", "device", *PLACE):
        if device:
            cells.setdefault(group, {}).setdefault(tuple(place), set()).add(device)
    lines = []
    for group, places in cells.items():
        kinds = sorted({kind for devices in places.values() if len(devices) > 1 for kind in devices})
        if kinds:
            lines.append(
                f"{group}: averages mix values measured on {' and '.join(kinds)}; measure the runs on one kind of "
                f"device, or choose one with --where 'device={kinds[0]}'"
            )
    return lines


def _devices_in_one_column(columns: ValueColumns) -> list[str]:
    """A line where rows of one set-up that stand in one column were measured on several kinds of device or in several
    precisions, and which has which."""
    if len({*columns.each("device")} - {""}) < 2:
        return []
    found: dict[Entries, dict[str, dict[str, None]]] = {}
    for group, device, *place in columns.distinct("group", "device", "words", *PLACE):
        if device:
            found.setdefault(tuple(place), {}).setdefault(device, {})[group] = None
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


def _coarser_values(
    store: Store, shown: ValueColumns, names: Sequence[str], conditions: Sequence[str]
) -> list[str]:
    """A line where what is shown was measured by a coarser arithmetic too, which `eval --precision` asked for."""
    devices = store.coarse_devices()
    if not devices or any(condition.key == "device" for condition in parse_conditions(conditions)):
        return []
    by_these = [*conditions, *(f"device={device}" for device in devices)]
    coarse = store.metric_columns(names, by_these, every_step=True, only=("device",))
    places = {*shown.entries("id", "step", *PLACE, "plain")}
    hidden = [row for row in coarse.entries("device", "id", "step", *PLACE) if (*row[1:], 1) in places]
    if not hidden:
        return []
    kinds = sorted({row[0] for row in hidden})
    return [
        f"{counted(len({row[1] for row in hidden}), 'run')} measured by {' and '.join(kinds)} too, which is not shown "
        f"beside the values in the recipe's own precision; choose it with --where 'device={kinds[0]}'"
    ]


def finished(where: Sequence[str]) -> list[str]:
    """The conditions, and that runs are finished unless one speaks of status."""
    said = any(condition.key == "status" for condition in parse_conditions(where))
    return [*where, *(() if said else ("status=finished",))]


def latest_of_each_seed(columns: ValueColumns) -> ValueColumns:
    """One evaluation a recipe (`identity`), seed, task, place and protocol: the latest.

    Equal seeds repeat a run and are no further evidence; a run without a seed stands for itself.
    """
    identities, _ = columns.kinds("identity")
    trained = [run if seed is None else seed for run, seed in columns.entries("id", "seed")]
    if len(set(columns.entries(identities, trained))) == len(set(columns["id"])):
        return columns  # each seed of a recipe is one run
    codes, _ = columns.kinds("identity", trained, "task", "dataset", "split", "protocol")
    evaluations = columns["evaluation"]
    counting = {evaluations[row] for row in newest_of(columns, codes)}
    return columns.kept([evaluation in counting for evaluation in evaluations])


def _mixed_columns(columns: ValueColumns, across: bool) -> list[str]:
    """For each column (metric, split, protocol) whose results differ in what was measured: what differs, and a way out.

    Those of one set-up are looked at, `across` all together. The rows of such a column are marked.
    """
    apart = PLACE if across else (*PLACE, "words")
    found = columns.distinct(*apart, *SAME)
    by_column: dict[Entries, list[int]] = {}
    for code, entries in enumerate(found):
        by_column.setdefault(entries[: -len(SAME)], []).append(code)
    several = {column: own for column, own in by_column.items() if len(own) > 1}
    if not several:
        return []
    codes, _ = columns.kinds(*apart, *SAME)
    runs = columns.first(codes, "id")
    reasons = []
    for (metric, dataset, split, protocol, *_), own in several.items():
        differing = []
        for place, (key, what) in enumerate(SAME.items(), -len(SAME)):
            value = found[own[0]][place]
            other = next((code for code in own if found[code][place] != value), None)
            if other is None:
                continue
            differing.append(what)
            reasons.append(
                f"{metric} on {dataset}/{split} ({protocol}) is not comparable: the {what} differs "
                f"({_short(value)} in {runs[own[0]]}, {_short(found[other][place])} in {runs[other]}); choose one with "
                f"--where {key}={_short(value)}{'*' if isinstance(value, str) and len(value) > 12 else ''}, "
                "or mix them with --allow-mixed"
            )
        _mark(columns, codes, set(own), differing)
    return reasons


def _mixed_groups(columns: ValueColumns, by: str, any_step: bool) -> list[str]:
    """For each group that pools several recipes or (unless `any_step`) steps: what it pools; its rows are marked."""
    found = columns.distinct("group", *PLACE, "identity", "step")
    one_a_cell = len({entries[:-2] for entries in found}) == len(found)
    if one_a_cell and len(columns.distinct("group", "identity")) == len(columns.distinct("group")):
        return []
    codes, _ = columns.kinds("group", *PLACE, "identity", "step")
    runs = columns.first(codes, "id")
    cells: dict[Entries, list[int]] = {}
    pooled: dict[str, dict[str, None]] = {}
    for code, entries in enumerate(found):
        cells.setdefault(entries[:-2], []).append(code)
        pooled.setdefault(entries[0], {})[entries[-2]] = None
    several = {cell: own for cell, own in cells.items() if len(own) > 1 and not any_step}
    reasons = []
    for (group, metric, dataset, split, protocol), own in several.items():
        identities, steps = ([found[code][place] for code in own] for place in (-2, -1))
        if len(set(identities)) == 1:
            reasons.append(
                f"{metric} of {group} on {dataset}/{split} ({protocol}) is of several steps of training "
                f"({steps[0]} in {runs[own[0]]}, {steps[1]} in {runs[own[1]]}); choose one with "
                f"--where step={steps[0]}, or mix them with --allow-mixed"
            )
            _mark(columns, codes, set(own), ["step of training"])
    for group, recipes in pooled.items():
        if len(recipes) > 1:
            reasons.append(f"{by} {group} averages {len(recipes)} recipes that differ in more than {by}")
            _mark(columns, codes, {n for n, entries in enumerate(found) if entries[0] == group}, ["recipe"])
    return reasons


def _mark(columns: ValueColumns, codes: Sequence[int], own: set[int], reasons: Sequence[str]) -> None:
    """Add to `mixed`, what differs among the values of a cell, in the rows whose kind is one of `own`."""
    if reasons:
        columns["mixed"] = [
            ", ".join(dict.fromkeys([*filter(None, said.split(", ")), *reasons])) if code in own else said
            for code, said in zip(codes, columns["mixed"], strict=True)
        ]


def _columns_apart(columns: ValueColumns) -> list[str]:
    """Give results of one column that differ in what was measured columns of their own, named by what differs."""
    codes, found = columns.kinds(*PLACE, *SAME)
    by_column: dict[Entries, list[Entries]] = {}
    for entries in found:
        by_column.setdefault(entries[: len(PLACE)], []).append(entries[len(PLACE) :])
    names, notes = [], []
    for entries in found:
        (metric, dataset, split, protocol), own = entries[: len(PLACE)], entries[len(PLACE) :]
        several = by_column[entries[: len(PLACE)]]
        differing = [n for n, values in enumerate(zip(*several, strict=True)) if len(set(values)) > 1]
        names.append(protocol)
        if differing:
            keys = list(SAME)
            told = ", ".join(f"{keys[n].removesuffix('_hash')}={_short(own[n])[:8]}" for n in differing)
            names[-1] = f"{protocol}, {told}"
            notes.append(
                f"{metric} on {dataset}/{split} ({protocol}) was measured in several ways "
                f"(they differ in {', '.join(SAME[keys[n]] for n in differing)}), which are kept apart"
            )
    if notes:
        columns["protocol"] = (names[code] for code in codes)
    return list(dict.fromkeys(notes))


def _nothing(store: Store, names: Sequence[str], where: Sequence[str], kind: str) -> str:
    stored = store.metric_names()
    present = [name for name in names if name in stored]
    if not present:
        return f"no run has {' or '.join(names)}: {held(store)}"
    filters = f" with {' and '.join(where)}" if where else ""
    hint = store.unmet(where) or "see `gaprun runs list`"
    asked = " or ".join(present) if len(present) < 4 else f"any of the {len(present)} metrics asked for"
    return f"no {kind}run{filters} has {asked}: {hint}"


def held(store: Store) -> str:
    """What can be asked for; of a database without metrics the way to some."""
    if stored := store.metric_names():
        return f"the database holds {', '.join(stored)}"
    failed = [run.id for run in store.runs(["status=failed"], light=True)]
    if not failed:
        return "the database holds no metrics yet; `gaprun train RECIPE` makes some"
    return (
        f"the database holds no metrics yet, and {counted(len(failed), 'run')} failed: "
        f"`gaprun runs show {failed[0]}` says why"
    )


def _short(value: Any) -> str:
    return value[:12] if isinstance(value, str) else as_text(value)
