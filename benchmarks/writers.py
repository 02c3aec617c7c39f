"""Many processes that write to one database at once, as a sweep's jobs do: rows a second, and how long a reader waits.

    python benchmarks/writers.py [--json] [--small] [--url URL] [--writers N]

Each writer begins a run, records trajectory rows one transaction each, stores an evaluation and finishes; meanwhile a
reader asks for one metric of every run. Without --url a SQLite file is used, and a PostgreSQL database where
GAPRUN_TEST_POSTGRES names one (it must be empty; what is written there is removed again).
Keys, by backend: writers, rows_per_s, reader_worst_ms, reader_median_ms, lost (rows that did not arrive).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

from gaprun.protocols import FULL
from gaprun.store import EvaluationKey, NewRun, open_store


def write(url: str, number: int, steps: int) -> None:
    """One job's writes."""
    store = open_store(url)
    run_id = f"writer{number}"
    store.begin_run(NewRun(run_id, "r", "train", number, "h", {}, {}, "0", "", steps))
    for step in range(steps):
        store.record(run_id, [{"step": step, "loss": step / 8, "gap": 0.5, "temperature": 0.07}])
    key = EvaluationKey("c", steps, "gap", "d", "s", "f", FULL)
    store.add_evaluation(run_id, key, {"gap": number / 8}, 1, 1)
    store.finish_run(run_id, "finished")


def measure(url: str, writers: int, steps: int) -> dict[str, float]:
    """Run the writers on `url` and read meanwhile; the writers' runs are removed at the end."""
    store = open_store(url)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write, args=(url, number, steps)) for number in range(writers)]
    start = time.perf_counter()
    for process in processes:
        process.start()
    reads = []
    while any(process.is_alive() for process in processes):
        began = time.perf_counter()
        store.metric_rows(["gap"])
        reads.append(time.perf_counter() - began)
        time.sleep(0.02)
    taken = time.perf_counter() - start
    arrived = sum(len(store.trajectory(f"writer{number}")) for number in range(writers))
    for number in range(writers):
        store.remove(f"writer{number}")
    return {
        "writers": writers,
        "rows_per_s": round(writers * steps / taken, 1),
        "reader_worst_ms": round(1000 * max(reads), 1),
        "reader_median_ms": round(1000 * statistics.median(reads), 1),
        "lost": writers * steps - arrived,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object on one line")
    parser.add_argument("--small", action="store_true", help="20 rows a writer instead of 100")
    parser.add_argument("--url", help="only this database")
    parser.add_argument("--writers", type=int, default=32)
    options = parser.parse_args()
    steps = 20 if options.small else 100
    with tempfile.TemporaryDirectory() as folder:
        urls = [options.url] if options.url else [str(Path(folder) / "writers.db")]
        if not options.url and (server := os.environ.get("GAPRUN_TEST_POSTGRES")):
            urls.append(server)
        found = {}
        for url in urls:
            backend = "postgresql" if "://" in url and "sqlite" not in url else "sqlite"
            found[backend] = measure(url, options.writers, steps)
            print(backend, found[backend])
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
