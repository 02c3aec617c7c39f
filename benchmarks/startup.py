"""How long `gaprun --help` and `gaprun compare` take to answer, beside a floor: a bare import of pandas and
sqlalchemy plus one query of the same database.

    python benchmarks/startup.py [--json] [--small]

Each is a fresh process with warm caches; they run in turns, and the median of the turns counts.
Keys: help_s, compare_s, floor_s (seconds).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gaprun.protocols import FULL
from gaprun.store import EvaluationKey, NewRun, open_store

FLOOR = """
import sys, pandas, sqlalchemy
with sqlalchemy.create_engine("sqlite:///" + sys.argv[1]).connect() as connection:
    query = sqlalchemy.text("SELECT run_id, value FROM metrics WHERE name = 'gap'")
    print(len(connection.execute(query).fetchall()))
"""


def fill(path: Path, recipes: int = 7, seeds: int = 3) -> None:
    """A database like that of the paper's Table 2: seven methods, three seeds."""
    store = open_store(str(path))
    for recipe in range(recipes):
        for seed in range(seeds):
            run = f"r{recipe}-s{seed}"
            store.begin_run(NewRun(run, f"r{recipe}", "train", seed, f"h{recipe}", {}, {}, "0", "", 1))
            key = EvaluationKey("c", 1, "gap", "scenes", "test", "f", FULL)
            values = {name: recipe + seed / 10 for name in ("gap", "image_recall@5", "text_recall@5")}
            store.add_evaluation(run, key, values, 1, 1)
            store.finish_run(run, "finished")
    store.close()


def seconds(*command: str) -> float:
    """Wall-clock seconds of one process that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"GAPRUN_DB": ""})
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="end with one JSON object on one line")
    parser.add_argument("--small", action="store_true", help="fewer turns")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "results.db"
        fill(database)
        gaprun = (sys.executable, "-m", "gaprun")
        compare = (*gaprun, "compare", "--metric", "gap", "--metric", "recall@5", "--db", str(database))
        commands = {
            "help_s": (*gaprun, "--help"),
            "compare_s": compare,
            "floor_s": (sys.executable, "-c", FLOOR, str(database)),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(4 if options.small else 11):
            for name, command in commands.items():
                taken = seconds(*command)
                if turn:  # the first only warms the caches
                    times[name].append(taken)
    result = {name: round(statistics.median(measured), 3) for name, measured in times.items()}
    for name, measured in times.items():
        spread = f"min {min(measured):.3f}  max {max(measured):.3f}"
        print(f"{name:10} median {statistics.median(measured):.3f}  {spread}")
    if options.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
