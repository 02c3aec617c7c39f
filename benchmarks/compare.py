"""One question, "mean and spread of the gap over seeds of every recipe", asked of a large database: by
`gaprun compare`, by a floor (a bare import of pandas and sqlalchemy plus one indexed query), and by MLflow's own
search API over its SQLite store with the same numbers.

    python benchmarks/compare.py [--json] [--small] [--runs N] [--curve]

10,000 runs (1,000 with --small) with 60 metrics each, five seeds a recipe. Each question is a fresh process, from
start to printed answer; they run in turns, and the median counts. `--curve` prints the seconds of a
processor that gaprun and the floor take from 1,000 to 100,000 runs, and leaves MLflow out.
Keys: runs, ratio_floor (ours over floor), ratio_mlflow (MLflow over ours; null where mlflow is not installed).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from gaprun.protocols import FULL
from gaprun.store import EvaluationKey, open_store
from gaprun.store.models import Evaluation, Run, StoredMetric

SEEDS, METRICS = 5, 60
NAMES = ["gap", *(f"metric_{index}" for index in range(1, METRICS))]

FLOOR = """
import sys, pandas, sqlalchemy
with sqlalchemy.create_engine("sqlite:///" + sys.argv[1]).connect() as connection:
    query = sqlalchemy.text("SELECT run_id, value FROM metrics WHERE name = 'gap'")
    print(len(connection.execute(query).fetchall()))
"""

MLFLOW = """
import sys, mlflow
mlflow.set_tracking_uri("sqlite:///" + sys.argv[1])
runs = mlflow.search_runs(experiment_names=["gaprun"], max_results=int(sys.argv[2]))
print(runs.groupby("tags.recipe")["metrics.gap"].agg(["mean", "std", "count"]).to_json())
"""


def results(runs: int) -> Iterator[tuple[int, list[float]]]:
    """The same made-up values for every database: a run's number and its metrics."""
    generator = random.Random(0)
    for number in range(runs):
        yield number, [generator.random() for _ in NAMES]


def fill_gaprun(path: Path, runs: int) -> None:
    """Write the runs straight into gaprun's tables, in batches."""
    store = open_store(str(path))
    key = EvaluationKey("c", 100, "all", "scenes", "test", "f", FULL)
    now = datetime.now(UTC)
    shared = {
        "kind": "train",
        "status": "finished",
        "created": now,
        "started": now,
        "step": 100,
        "total_steps": 100,
    }
    recipe = {"temperature": {"rule": "exp", "init": 0.07}, "optimizer": {"lr": 0.002, "betas": [0.9, 0.98]}}
    batch: dict[Any, list[dict[str, Any]]] = {Run: [], Evaluation: [], StoredMetric: []}

    def flush() -> None:
        with store.engine.execution_options(gaprun_write=True).begin() as connection:
            for table, rows in batch.items():
                connection.execute(insert(table), rows)
                rows.clear()

    labels = {"dataset": "scenes", "split": "test", "protocol": "full"}
    for number, values in results(runs):
        name, seed = f"r{number // SEEDS}", number % SEEDS
        run_id = f"{name}-s{seed}"
        batch[Run].append(
            {
                "id": run_id,
                "recipe": name,
                "seed": seed,
                "recipe_hash": name,
                "folder": f"runs/{run_id}",
                **shared,
            }
            | {
                "resolved_recipe": {"name": name, **recipe},
                "environment": {"torch": "2"},
                "code_version": "0",
            }
        )
        batch[Evaluation].append(
            {"id": number + 1, "run_id": run_id, "checkpoint_hash": "c", "step": 100, "task": "all", **labels}
            | {"data_fingerprint": "f", "options": {}, "options_hash": key.options_hash, "definition": 1}
            | {"code_version": "0", "created": now}
        )
        batch[StoredMetric] += [
            {
                "evaluation_id": number + 1,
                "run_id": run_id,
                "name": n,
                "value": value,
                "n": 512,
                "d": 64,
                **labels,
            }
            for n, value in zip(NAMES, values, strict=True)
        ]
        if number % 1000 == 999:
            flush()
    if batch[Run]:
        flush()
    store.close()


def fill_mlflow(path: Path, runs: int) -> None:
    """Let MLflow's client write the first run, and copy its rows in MLflow's tables for the others.

    The client needs 40 ms a run, most of it for commits; the rows are the same.
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric as MlflowMetric

    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    experiment = client.create_experiment("gaprun", artifact_location=str(path.parent))
    first = client.create_run(experiment, tags={"recipe": "r0"}).info.run_id
    numbers = results(runs)
    values = dict(zip(NAMES, next(numbers)[1], strict=True))
    client.log_batch(first, metrics=[MlflowMetric(name, value, 0, 100) for name, value in values.items()])
    client.set_terminated(first)
    with sqlite3.connect(path) as connection:
        connection.row_factory = sqlite3.Row
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        patterns = {}
        for table in tables:
            if "run_uuid" in [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]:
                found = connection.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (first,)).fetchall()
                patterns[table] = [dict(row) for row in found]
        assert {len(patterns[name]) for name in ("metrics", "latest_metrics")} == {METRICS}
        for number, row in numbers:
            changed = {"run_uuid": f"{number:032x}"}
            values = dict(zip(NAMES, row, strict=True))
            for table, rows in patterns.items():
                copies = [{**one, **changed, **_own(table, one, number, values)} for one in rows]
                if copies:
                    names = ", ".join(f":{name}" for name in copies[0])
                    connection.executemany(
                        f"INSERT INTO {table} ({', '.join(copies[0])}) VALUES ({names})", copies
                    )
    connection.close()


def _own(table: str, row: dict[str, Any], number: int, values: dict[str, float]) -> dict[str, Any]:
    """What differs in a copied row of MLflow's beside the run's id."""
    if table in ("metrics", "latest_metrics"):
        return {"value": values[row["key"]]}
    return {"value": f"r{number // SEEDS}"} if table == "tags" and row["key"] == "recipe" else {}


def seconds(*command: str, processor: bool) -> float:
    """Seconds of one process that must succeed: by the clock, or of a `processor` (user and system)."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return usage.ru_utime + usage.ru_stime if processor else time.perf_counter() - start


def measure(folder: Path, runs: int, turns: int, mlflow: bool, processor: bool = False) -> dict[str, float]:
    """Median seconds (see `seconds`) by name, after one turn that only warms the caches."""
    ours, theirs = folder / f"gaprun-{runs}.db", folder / f"mlflow-{runs}.db"
    fill_gaprun(ours, runs)
    question = ("compare", "--metric", "gap", "--format", "json", "--db", str(ours))
    commands = {
        "floor": (sys.executable, "-c", FLOOR, str(ours)),
        "gaprun": (sys.executable, "-m", "gaprun", *question),
    }
    if mlflow:
        fill_mlflow(theirs, runs)
        commands["mlflow"] = (sys.executable, "-c", MLFLOW, str(theirs), str(runs))
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(turns + 1):
        for name, command in commands.items():
            taken = seconds(*command, processor=processor)
            if turn:
                times[name].append(taken)
    return {name: statistics.median(taken) for name, taken in times.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object on one line")
    parser.add_argument("--small", action="store_true", help="1,000 runs and fewer turns")
    parser.add_argument("--runs", type=int, help="another number of runs")
    parser.add_argument("--curve", action="store_true", help="times from 1,000 to 100,000 runs")
    options = parser.parse_args()
    runs = options.runs or (1000 if options.small else 10_000)
    turns = 3 if options.small else 7
    mlflow = importlib.util.find_spec("mlflow") is not None and not options.curve
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with tempfile.TemporaryDirectory() as folder:
        if options.curve:
            for count in (1000, 10_000, 30_000, 100_000):
                times = measure(Path(folder), count, turns, mlflow=False, processor=True)
                print(f"{count:7} runs: gaprun {times['gaprun']:.2f} s, floor {times['floor']:.2f} s")
            return
        times = measure(Path(folder), runs, turns, mlflow)
    for name, taken in times.items():
        print(f"{name:7} {taken:.3f} s")
    if not mlflow:
        print("mlflow is not installed: no comparison with it")
    result = {
        "runs": runs,
        "ratio_floor": round(times["gaprun"] / times["floor"], 3),
        "ratio_mlflow": round(times["mlflow"] / times["gaprun"], 3) if mlflow else None,
    }
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
