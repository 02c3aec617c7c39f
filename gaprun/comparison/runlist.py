"""Many runs as a list: a row each, with columns of metrics, in the order that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from gaprun.comparison.places import place_of, usual_places
from gaprun.comparison.runview import STYLES, duration, minute, progress, summary, took
from gaprun.comparison.select import metric_names
from gaprun.comparison.table import natural
from gaprun.errors import UserError
from gaprun.evaluation.catalogue import metric, value_text
from gaprun.metrics import UP
from gaprun.tables import Cell, Heading, Table
from gaprun.tables.numbers import counted

if TYPE_CHECKING:
    from gaprun.store import Store
    from gaprun.store.models import Run

KEYS = ("recipe", "seed", "status", "started", "took")
PART = 500  # runs asked for at a time


@dataclass(frozen=True)
class ListColumn:
    """A metric where it was measured of most of the runs, and its values by run.

    elsewhere: how many runs have it on other data, by another protocol or of another size alone.
    """

    metric: str
    place: str
    values: dict[str, float]
    elsewhere: int = 0


def chosen_runs(
    store: Store, where: Sequence[str], metrics: Sequence[str], sort: str | None
) -> tuple[list[Run], list[ListColumn]]:
    """The runs that fit, in order, and a column a metric; `sort`: a metric (best first) or one of KEYS.

    Raises UserError for an unknown metric and for a `sort` that is neither.
    """
    runs = store.runs(where, light=True)
    by_metric = [] if sort is None or sort in KEYS else _sorting(store, sort)
    names = list(dict.fromkeys([*(metric_names(store, metrics) if metrics else ()), *by_metric]))
    columns = _columns(store, runs, names) if names else []
    if by_metric:
        values = next(column.values for column in columns if column.metric in by_metric)
        sign = -1 if metric(by_metric[0]).direction == UP else 1
        runs.sort(key=lambda run: (run.id not in values, sign * values.get(run.id, 0.0)))
    elif sort is not None:
        runs.sort(key=lambda run: _key(run, sort))
    return runs, columns


def list_table(runs: Sequence[Run], columns: Sequence[ListColumn] = ()) -> Table:
    """The recipe stands in a column of its own unless every id begins with it, tags and notes where a run has any.

    Columns of metrics take the place of progress and times.
    """
    named = all(run.id.startswith(run.recipe) for run in runs)
    tagged, noted = any(run.tags for run in runs), any(run.note for run in runs)
    seed, done, time = (Heading(name, right=True) for name in ("seed", "progress", "took"))
    heads: list[Heading | str] = ["id", *([] if named else ["recipe"]), seed, "status"]
    heads += [Heading(column.metric + metric(column.metric).arrow, right=True) for column in columns]
    if not columns:
        heads += [done, "started", time]
    heads += ["tags"] if tagged else []
    heads += [Heading("note", wrap=True)] if noted else []
    rows: list[list[Cell | str]] = [
        [
            run.id,
            *([] if named else [run.recipe]),
            "-" if run.seed is None else str(run.seed),
            Cell((run.status,), STYLES.get(run.status, "")),
            *(_value(column, run) for column in columns),
            *([] if columns else [progress(run), minute(run.started), took(run)]),
            *([", ".join(run.tag)] if tagged else []),
            *([run.note or ""] if noted else []),
        ]
        for run in runs
    ]
    records = [
        summary(run) | {column.metric: column.values.get(run.id) for column in columns} for run in runs
    ]
    places: dict[str, list[str]] = {}
    for column in columns:
        places.setdefault(column.place, []).append(column.metric)
    legend = [f"{', '.join(names)}: {place}." for place, names in places.items()]
    legend += [
        f"{column.metric}: {counted(column.elsewhere, 'more run')} measured otherwise alone (data, size, protocol)."
        for column in columns
        if column.elsewhere
    ]
    return Table.of("runs", heads, rows, records, "", legend)


def _sorting(store: Store, sort: str) -> list[str]:
    try:
        return metric_names(store, [sort])
    except UserError as error:
        raise UserError(f"--sort {sort}: neither one of {', '.join(KEYS)} nor a metric ({error})") from None


def _columns(store: Store, runs: Sequence[Run], names: Sequence[str]) -> list[ListColumn]:
    ids = [run.id for run in runs]
    rows = [
        row
        for start in range(0, len(ids), PART)
        for row in store.metric_rows(names, run_ids=ids[start : start + PART])
    ]
    usual = usual_places(rows)
    columns = []
    for name in names:
        own = [row for row in rows if row["metric"] == name and row["value"] is not None]
        every = {row["id"] for row in own}
        own = [row for row in own if place_of(row) == usual[name]]
        place = "measured of none of these runs"
        if own:
            first = own[0]
            place = f"{first['dataset']}/{first['split']}, protocol {first['protocol']}"
        values = {row["id"]: row["value"] for row in own}
        columns.append(ListColumn(name, place, values, len(every - values.keys())))
    return columns


def _value(column: ListColumn, run: Run) -> str:
    value = column.values.get(run.id)
    return "-" if value is None else value_text(column.metric, value)


def _key(run: Run, sort: str) -> tuple[Any, ...]:
    if sort == "took":
        found = duration(run)
        return (found is None, found or timedelta())
    value = getattr(run, sort)
    return (value is None, natural(value) if isinstance(value, str) else value)
