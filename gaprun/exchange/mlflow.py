"""Runs into an MLflow tracking store: recipe as parameters, curves and metrics of every step as metrics, facts as tags.

Each MLflow run carries `gaprun.run` and `gaprun.content`, so that sending again skips what is there and replaces
what has changed since, and `gaprun.rows.*`, by which `runs import` brings it back. MLflow forbids some signs in names:
`@` becomes `_at_`, others `_`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from gaprun.errors import Failure, UserError
from gaprun.exchange.flat import FlatRun, Progress, Sent, send_each
from gaprun.exchange.mlflow_rows import rows_as_tags
from gaprun.extras import require
from gaprun.store import Store
from gaprun.store.secrets import hide_passwords

T = TypeVar("T")

STATUS = {
    "finished": "FINISHED",
    "failed": "FAILED",
    "interrupted": "KILLED",
    "running": "RUNNING",
    "queued": "SCHEDULED",
}
METRICS_A_CALL, PARAMETERS_A_CALL = 1000, 100  # MLflow's own limits
LONGEST_PARAMETER = 6000


def send(
    store: Store,
    run_ids: Sequence[str],
    uri: str,
    experiment: str = "gaprun",
    progress: Progress | None = None,
) -> Sent:
    """Send the runs to the tracking store `uri`, such as sqlite:///mlflow.db or http://host:5000.

    Returns how many were `sent`, `replaced` and `equal` (there already). A run's problem: MLflow does not take it, or
    not all of a parameter's text. Raises UserError where mlflow is not installed and for a database of another
    program; Failure with MLflow's own words when the store does not answer.
    """
    client, trouble = client_of(uri)
    sent = Sent({"sent": 0, "replaced": 0, "equal": 0})
    try:
        found = client.get_experiment_by_name(experiment)
        number = found.experiment_id if found is not None else client.create_experiment(experiment)
    except trouble as error:
        raise Failure(f"MLflow at {hide_passwords(uri)}: {str(error).splitlines()[0]}") from None

    def send_one(flat: FlatRun) -> None:
        try:
            sent.counts[_send_one(client, number, flat, rows_as_tags(store, flat.run.id))] += 1
        except trouble as error:
            raise Failure(f"MLflow: {(str(error).splitlines() or ['no reason given'])[0]}") from None
        sent.problems += [
            f"{flat.run.id}: of {key} only the first {LONGEST_PARAMETER} characters"
            for key, value in flat.parameters.items()
            if len(value) > LONGEST_PARAMETER
        ]

    return send_each(store, run_ids, sent, send_one, progress)


def client_of(uri: str, create: bool = True) -> tuple[Any, type[Exception]]:
    """MLflow's client of the tracking store `uri`, and what it raises.

    Raises UserError and Failure as `send` does, and, without `create`, for a SQLite file or folder that is not there.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing goes anywhere that was not named
    mlflow = require("mlflow", "mlflow")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    there = _check_database(uri, "name another --out" if create else "name one of MLflow's")
    if not there and not create:
        raise UserError(f"{hide_passwords(uri)}: no such tracking store")
    trouble: type[Exception] = mlflow.exceptions.MlflowException
    try:
        return mlflow.MlflowClient(tracking_uri=uri), trouble
    except trouble as error:
        raise Failure(f"MLflow at {hide_passwords(uri)}: {str(error).splitlines()[0]}") from None
    except ImportError as error:
        raise UserError(f"MLflow at {hide_passwords(uri)} needs another package: {error}") from None


def _check_database(uri: str, way_out: str) -> bool:
    """Whether there is one, as far as can be told without asking a server. Raises UserError for a database that holds
    tables, but not MLflow's: it would add its own to them."""
    from sqlalchemy import create_engine, inspect, make_url
    from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
    from sqlalchemy.pool import NullPool

    try:
        url = make_url(uri)
        if url.drivername.startswith("sqlite") and not (url.database and os.path.exists(url.database)):
            return False
        engine = create_engine(url, poolclass=NullPool)
    except (ArgumentError, ValueError, NoSuchModuleError, ModuleNotFoundError):
        return "://" in uri or os.path.exists(uri)  # a server or a folder
    try:
        tables = inspect(engine).get_table_names()
    except DBAPIError as error:
        reason = (str(error.orig).splitlines() or ["no reason given"])[0]
        raise UserError(f"{hide_passwords(uri)} is no database of MLflow ({reason}): {way_out}") from None
    if tables and "experiments" not in tables:
        raise UserError(
            f"{hide_passwords(uri)} is a database of another program (table {sorted(tables)[0]}): {way_out}"
        )
    return bool(tables) or not uri.startswith("sqlite")


def _send_one(client: Any, experiment: str, flat: FlatRun, rows: dict[str, str]) -> str:
    content = _content(flat, rows)
    query = f"tags.`gaprun.run` = '{flat.run.id}'"
    present = client.search_runs([experiment], query)
    if any(run.data.tags.get("gaprun.content") == content for run in present):
        return "equal"
    created = client.create_run(
        experiment,
        start_time=_milliseconds(flat.run.started or flat.run.created),
        run_name=flat.run.id,
        tags={**flat.facts, "gaprun.run": flat.run.id, **rows},
    )
    _log(client, created.info.run_id, flat)
    # Last, so that a run whose sending was broken off is sent again.
    client.set_tag(created.info.run_id, "gaprun.content", content)
    end = None if flat.run.finished is None else _milliseconds(flat.run.finished)
    client.set_terminated(created.info.run_id, STATUS[flat.run.status], end)
    for run in present:
        client.delete_run(run.info.run_id)
    return "replaced" if present else "sent"


def _log(client: Any, run_id: str, flat: FlatRun) -> None:
    entities = require("mlflow.entities", "mlflow")
    time = _milliseconds(flat.run.started or flat.run.created)
    parameters = [
        entities.Param(mlflow_name(key), value[:LONGEST_PARAMETER]) for key, value in flat.parameters.items()
    ]
    for part in _parts(parameters, PARAMETERS_A_CALL):
        client.log_batch(run_id, params=part)
    metrics = [
        entities.Metric(mlflow_name(name), value, time, step)
        for name, step, value in [*flat.curves, *flat.samples, *flat.metrics]
    ]
    for part in _parts(metrics, METRICS_A_CALL):
        client.log_batch(run_id, metrics=part)


def mlflow_name(name: str) -> str:
    """`name` with what MLflow does not allow in names replaced."""
    return re.sub(r"[^\w.\-/ ]", "_", name.replace("@", "_at_"))


def _content(flat: FlatRun, rows: dict[str, str]) -> str:
    parts = (flat.facts, flat.parameters, flat.metrics, flat.curves, flat.run.finished, rows)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _milliseconds(time: datetime) -> int:
    return int(time.timestamp() * 1000)


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
