"""Runs out of an MLflow tracking store: those that gaprun sent come back as they were, those named as open_clip's loop
names its values as results of kind external.

What each number is of, and the recipe, gaprun has sent along (`mlflow_rows`); numbers and steps are taken from MLflow's
own histories.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Integer

from gaprun.errors import Failure, UserError
from gaprun.exchange import mlflow
from gaprun.exchange.flat import CURVES, SAMPLES
from gaprun.exchange.mlflow_rows import ROWS, rows_of_tags
from gaprun.exchange.records import Record
from gaprun.exchange.wandb_log import record
from gaprun.store.content import Rows
from gaprun.store.models import Base
from gaprun.store.reading import TRAJECTORY_COLUMNS
from gaprun.store.secrets import hide_passwords

PROGRAM = "MLflow"


@dataclass
class Found:
    """`exports`: by MLflow's name of the run the rows of one that gaprun sent; `records`: of others; `refused`: why."""

    exports: dict[str, Rows] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def is_tracking_store(place: str | Path) -> bool:
    """Whether a URI or a folder (one that holds experiments with their meta.yaml) names a tracking store."""
    return "://" in str(place) or (Path(place).is_dir() and any(Path(place).glob("*/meta.yaml")))


def read_store(uri: str) -> Found:
    """Every run of the tracking store `uri` that is not deleted. Raises UserError and Failure as `mlflow.send` does."""
    client, trouble = mlflow.client_of(uri, create=False)
    found = Found()
    try:
        for run in _runs(client):
            where = f"{hide_passwords(uri)}, {run.info.run_name or run.info.run_id}"
            try:
                if "gaprun.run" in run.data.tags:
                    found.exports[where] = _rows(client, run, where)
                else:
                    found.records += _records(client, run, uri)
            except UserError as reason:
                found.refused.append(str(reason))
    except trouble as reason:
        raise Failure(
            f"MLflow at {hide_passwords(uri)}: {(str(reason).splitlines() or ['no reason given'])[0]}"
        ) from None
    except (LookupError, TypeError, ValueError) as reason:  # a folder whose files MLflow cannot make sense of
        raise Failure(f"MLflow at {hide_passwords(uri)}: {type(reason).__name__} {reason}") from None
    return found


def _runs(client: Any) -> Iterator[Any]:
    experiments = [one.experiment_id for one in client.search_experiments()]
    token = None
    while experiments:
        page = client.search_runs(experiments, page_token=token)
        yield from page
        if not (token := page.token):
            return


def _rows(client: Any, run: Any, where: str) -> Rows:
    document = rows_of_tags(run.data.tags, where)
    rows: Rows = {name: document[name] for name in ("runs", "evaluations")}
    try:
        (own,) = rows["runs"]
        steps = {row["id"]: row["step"] for row in rows["evaluations"]}
        metrics = []
        for number, (evaluation, name, dataset, split, protocol, n, d, null) in enumerate(
            document["metrics"]
        ):
            key = mlflow.mlflow_name(f"{dataset}/{split}/{protocol}/{name}")
            value = None if null else _history(client, run, key, where).get(steps[evaluation])
            if value is None and not null:
                raise UserError(f"{where}: its {key} of step {steps[evaluation]} is gone from MLflow")
            made = {
                "id": number,
                "evaluation_id": evaluation,
                "run_id": own["id"],
                "name": name,
                "value": value,
            }
            metrics.append(made | {"dataset": dataset, "split": split, "protocol": protocol, "n": n, "d": d})
    except (KeyError, TypeError, ValueError) as reason:
        raise UserError(f"{where}: its tags {ROWS}* are damaged ({reason}): send it again") from None
    return rows | {"metrics": metrics, "trajectory": _trajectory(client, run, own["id"], where)}


def _trajectory(client: Any, run: Any, run_id: str, where: str) -> list[dict[str, Any]]:
    columns = Base.metadata.tables["trajectory"].columns
    rows: dict[int, dict[str, Any]] = {}
    empty = {"run_id": run_id} | dict.fromkeys(TRAJECTORY_COLUMNS)
    for name in (SAMPLES, *CURVES):
        whole = isinstance(getattr(columns[name].type, "impl", columns[name].type), Integer)
        for step, value in _history(client, run, f"trajectory/{name}", where).items():
            rows.setdefault(step, empty | {"step": step})[name] = int(value) if whole else value
    return [rows[step] for step in sorted(rows)]


def _history(client: Any, run: Any, key: str, where: str) -> dict[int, float]:
    """A metric's value by step. Raises UserError for two values of one step."""
    if key not in run.data.metrics:
        return {}
    found: dict[int, float] = {}
    for point in client.get_metric_history(run.info.run_id, key):
        if found.setdefault(point.step, point.value) != point.value and not math.isnan(point.value):
            raise UserError(f"{where}: its {key} has two values at step {point.step}")
    return found


def _records(client: Any, run: Any, uri: str) -> list[Record]:
    """A record a step, of values named as open_clip's loop names them."""
    name = run.info.run_name or run.info.run_id
    where = f"{hide_passwords(uri)}, {name}"
    identity = {"model": {"name": name}, "parameters": dict(run.data.params), "mlflow_run": run.info.run_id}
    by_step: dict[int, dict[str, Any]] = {}
    for key in run.data.metrics:
        plain = key.replace("_at_", "@")
        if plain.startswith("val/") or plain == "epoch":
            for step, value in _history(client, run, key, where).items():
                by_step.setdefault(step, {})[plain] = value
        else:
            by_step.setdefault(0, {}).setdefault(plain, 0.0)  # only to be named as left out
    made = [
        record(hide_passwords(uri), f"{name}, step {step}", PROGRAM, name, identity, values, step=step)
        for step, values in sorted(by_step.items())
    ]
    return made
