"""The moment of training whose values are taken: the end, or what `--at` names, which is one step a run for all values.

`step=400`; `epoch=2`; or `best:METRIC`, each run's own step at which the metric was best, the earliest of equals. What
a step was chosen by is a maximum over many tries: on the same data it flatters, so the choice says on what data it
was made, and the note below the table says where values of the same data are shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gaprun.comparison.places import Row, place_of, usual_places
from gaprun.comparison.statistics import settled
from gaprun.errors import UserError
from gaprun.evaluation.catalogue import expand_metric, metric
from gaprun.metrics import NONE, UP
from gaprun.store.columns import ValueColumns
from gaprun.store.selecting import METRIC_KEYS
from gaprun.store.where import parse_conditions

if TYPE_CHECKING:
    from gaprun.store.database import Store

FORMS = "step=400, epoch=2, best:METRIC or best:METRIC@DATA/SPLIT, such as best:recall@5@coco/val"
MOST_LISTED = 12  # groups whose steps a note lists, and steps that an error does
Rows = list[Row]


@dataclass
class Moment:
    """Which `steps` the values were taken at, by run, and `notes` on how; `best`: whether each run has its own.

    `chosen_on`: the fingerprints of the data that a best step was chosen on.
    """

    steps: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    best: bool = False
    chosen_on: frozenset[str] = frozenset()

    def told(self, columns: ValueColumns) -> list[str]:
        """The notes below these values, each with its `group`."""
        lines = list(self.notes)
        if self.best:
            lines.append(f"steps taken: {_by_group(columns)}")
        shown = columns.distinct("dataset", "split", "data_fingerprint")
        flattered = sorted({f"{dataset}/{split}" for dataset, split, data in shown if data in self.chosen_on})
        if flattered:
            lines.append(
                f"optimistic: the steps were chosen on {' and '.join(flattered)}, which is shown too; choose on other "
                "data with --at best:METRIC@DATA/SPLIT"
            )
        return lines


def rows_at(
    store: Store,
    at: str | None,
    names: Iterable[str],
    where: Sequence[str] = (),
    keys: Sequence[str] = (),
    only: Collection[str] | None = None,
) -> tuple[ValueColumns, Moment]:
    """`store.metric_columns` of the moment `at` (None: the furthest step), and that moment.

    Raises UserError for what names no moment, for a `where` that names steps too, and where no run that meets `where`
    was measured at it.
    """
    names = list(names)
    if at is None:
        return store.metric_columns(names, where, keys, only=only), Moment()
    if chosen := [text for c in parse_conditions(where) if c.key == "step" for text in c.texts()]:
        raise UserError(f"--at {at} says which step counts: leave --where {chosen[0]} out")
    every = store.metric_columns(names, where, every_step=True, only=())
    moment = _moment(store, at, every, where)
    conditions = [*where, *(f"step={step}" for step in sorted(set(moment.steps.values())))]
    taken = store.metric_columns(names, conditions, keys, every_step=True, only=only)
    taken = taken.kept([moment.steps.get(run) == step for run, step in taken.entries("id", "step")])
    if every and not taken:
        steps = sorted(set(every["step"]))
        listed = ", ".join(map(str, steps[:MOST_LISTED])) + (", ..." if len(steps) > MOST_LISTED else "")
        raise UserError(f"--at {at}: no run was measured then; there are values of steps {listed}")
    missing = len({*every["id"]} - {*taken["id"]})
    if missing:
        moment.notes.append(f"{missing} run(s) without a value of that step are left out")
    return taken, moment


def _moment(store: Store, at: str, every: ValueColumns, where: Sequence[str]) -> Moment:
    if at.startswith("best:"):
        return _best(store, at, where)
    runs = sorted(set(every["id"]))
    kind, _, text = at.partition("=")
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if kind == "step" and number >= 0 and number.is_integer():
        return Moment(dict.fromkeys(runs, int(number)), [f"every value is of step {number:.0f}"])
    if kind == "epoch" and 0 <= number < float("inf"):
        lengths = store.steps_per_epoch(runs)
        steps = {run: round(number * length) for run, length in lengths.items()}
        told = ", ".join(map(str, sorted(set(steps.values()))[:MOST_LISTED])) or "of no run known"
        return Moment(steps, [f"every value is of the end of epoch {number:g} (step {told})"])
    raise UserError(f"--at {at}: expected {FORMS}")


def _best(store: Store, at: str, where: Sequence[str]) -> Moment:
    """Each run's best step, among those at which all parts of the metric were measured."""
    names, place = _parsed(at)
    sign, words = _direction(at, names)
    # What is shown is another question than what decides: conditions on values do not narrow it.
    of_runs = [text for c in parse_conditions(where) if c.key not in METRIC_KEYS for text in c.texts()]
    rows = [row for row in store.metric_rows(names, of_runs, every_step=True) if row["value"] is not None]
    rows = _of_place(at, rows, place)
    places = usual_places(rows)
    if missing := [name for name in names if name not in places]:
        raise UserError(
            f"--at {at}: {' and '.join(missing)} was not measured there; name one metric that was"
        )
    scores: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        if place_of(row) == places[row["metric"]]:
            scores.setdefault(row["id"], {}).setdefault(row["step"], []).append(row["value"])
    steps, counts = {}, []
    for run, found in scores.items():
        means = {step: settled(sum(v) / len(v)) for step, v in found.items() if len(v) == len(names)}
        if means:
            steps[run] = min(means, key=lambda step: (-sign * means[step], step))
            counts.append(len(means))
    dataset, split, protocol, *_ = places[names[0]]
    tries = (
        f"{min(counts, default=0)} to {max(counts, default=0)}"
        if len(set(counts)) > 1
        else f"{max(counts, default=0)}"
    )
    what = " and ".join(names) if len(names) == 1 else f"mean of {' and '.join(names)}"
    notes = [
        f"each run at its step of the {words} {what} on {dataset}/{split} ({protocol}), of {tries} steps measured"
    ]
    alone = sum(count == 1 for count in counts)
    if alone:
        notes.append(
            f"{alone} of {len(counts)} runs were measured at one step alone, so nothing was chosen there"
        )
    chosen_on = frozenset(row["data_fingerprint"] for row in rows if row["data_fingerprint"])
    return Moment(steps, notes, True, chosen_on)


def _parsed(at: str) -> tuple[list[str], str]:
    """The metrics and the place (or "") of `best:recall@5@coco/val`."""
    text = at.removeprefix("best:")
    name, _, place = text.rpartition("@")
    if "/" not in place:
        name, place = text, ""
    try:
        return expand_metric(name), place
    except UserError as error:
        raise UserError(f"--at {at}: {error}") from None


def _direction(at: str, names: Sequence[str]) -> tuple[int, str]:
    """The sign of what is better, and what a reader calls it."""
    directions = {metric(name).direction for name in names}
    if directions & {NONE} or len(directions) > 1:
        said = (
            "of its metrics, some are better high and some low"
            if len(directions) > 1
            else "neither way is better"
        )
        raise UserError(f"--at {at}: {said}; name one metric with a better side")
    return (1, "highest") if directions == {UP} else (-1, "lowest")


def _of_place(at: str, rows: Rows, place: str) -> Rows:
    """The rows that decide: of the data (and protocol) named, or of the only data measured along training."""
    if place:
        found = [row for row in rows if place in (_data(row), f"{_data(row)}/{row['protocol']}")]
        found = [row for row in found if place != _data(row) or not row["transform"]]
        if not found:
            raise UserError(f"--at {at}: not measured there, but on {_listed(rows)}")
    else:
        found = [row for row in rows if not row["transform"]]
    steps: dict[tuple[str, str], set[int]] = {}
    for row in found:
        steps.setdefault((row["id"], _data(row)), set()).add(row["step"])
    along = sorted({data for (_, data), several in steps.items() if len(several) > 1})
    if not along:
        raise UserError(
            f"--at {at}: no run has it at several steps; a recipe's eval_every measures along training"
        )
    if len(along) > 1:
        raise UserError(
            f"--at {at}: measured along training on {' and '.join(along)}; say which decides: --at {at}@{along[0]}"
        )
    return [row for row in found if _data(row) == along[0]]


def _data(row: Row) -> str:
    return f"{row['dataset']}/{row['split']}"


def _listed(rows: Rows) -> str:
    return " and ".join(sorted({_data(row) for row in rows})) or "nothing"


def _by_group(columns: ValueColumns) -> str:
    """`baseline 200, 400; flt 600, 600`: each group's steps by seed; from where to where, if they are many."""
    taken: dict[str, dict[tuple[Any, ...], int]] = {}
    for group, seed, run, step in columns.entries("group", "seed", "id", "step"):
        taken.setdefault(group, {})[seed is None, seed or 0, run] = step
    every = [step for steps in taken.values() for step in steps.values()]
    if len(taken) > MOST_LISTED or len(every) > 5 * MOST_LISTED:
        return f"{min(every)} to {max(every)} (JSON has them by row)"
    return "; ".join(
        f"{group} {', '.join(str(step) for _, step in sorted(steps.items()))}"
        for group, steps in taken.items()
    )
