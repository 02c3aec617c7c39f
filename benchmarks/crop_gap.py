"""How much of each run's gap is made by pictures that are prepared otherwise in training than in measuring.

For every finished run of a database that has its checkpoint: the gap on a split as measured, less the gap of the same
model on the same pictures cropped and resized as in its training (mean of four draws). A row a recipe, with the 95 %
interval over its seeds.

    python benchmarks/crop_gap.py --db results.db --data scenes/test [--json]
"""

from __future__ import annotations

import argparse
import json

import torch
from learning import held_out, spread


def main() -> None:
    """Measure what the database's runs were not yet asked, and print a row per recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--db", default="results.db", help="the runs to ask")
    parser.add_argument("--data", default="scenes/test", help="split folder to measure on")
    parser.add_argument("--json", action="store_true", help="end with one JSON object on one line")
    options = parser.parse_args()
    from gaprun.data.split import open_split
    from gaprun.jobs.load import load_model
    from gaprun.store import open_store

    torch.set_num_threads(1)
    store, split = open_store(options.db, create=False), open_split(options.data)
    found: dict[str, list[dict[str, float]]] = {}
    for run in store.runs(["status=finished"]):
        if run.kind == "train" and run.checkpoint:
            loaded = load_model(store, run.id, None, None)
            found.setdefault(run.recipe, []).append(held_out(loaded, split))
    print("| run | seeds | recall@5 | gap as measured | gap on crops | shift |")
    print("|---|---|---|---|---|---|")
    for recipe, rows in sorted(found.items()):
        shift, half = spread([row["gap"] - row["gap_trained"] for row in rows])
        means = [sum(row[key] for row in rows) / len(rows) for key in ("recall@5", "gap", "gap_trained")]
        print(
            f"| {recipe} | {len(rows)} | {means[0]:.1f} | {means[1]:.4f} | {means[2]:.4f} "
            f"| {shift:+.4f} ± {half:.4f} |"
        )
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
