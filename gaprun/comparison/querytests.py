"""Per-query outcomes from the files that evaluations kept, and the paired tests that a comparison makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gaprun.comparison.perquery import compare_queries
from gaprun.comparison.statistics import holm
from gaprun.comparison.table import Column, Comparison

if TYPE_CHECKING:
    from gaprun.store import Store

Array = NDArray[Any]
KEYS = ("step", "data_fingerprint", "protocol", "options_hash", "definition", "task")


def add_query_tests(store: Store, comparison: Comparison, rows: Sequence[Mapping[str, Any]]) -> None:
    """Fill in `comparison.queries` for every cell whose runs and the baseline's kept per-query results.

    rows: those the comparison was built from. Runs are paired by seed where they share seeds. What could not be
    tested, and why, is added to the comparison's notes.
    """
    if not comparison.baselines:
        comparison.notes.append("no tests over queries without a baseline: name one with --baseline")
        return
    ids = sorted({row["id"] for row in rows})
    places = {(d["run_id"], *(d[key] for key in KEYS)): d["details"] for d in store.details(ids)}
    root, gone = store.artifacts.parent, 0
    outcomes: dict[tuple[str, Column], dict[Any, tuple[Array, Array | None]]] = {}
    for row in rows:
        place = places.get((row["id"], *(row[key] for key in KEYS)))
        if place is None or row["value"] is None:
            continue
        found = read_outcomes(root / place, row["metric"])
        gone += found is None and not (root / place).is_file()
        if found is not None:
            column = Column(row["metric"], row["dataset"], row["split"], row["protocol"])
            unit = row["id"] if row["seed"] is None else row["seed"]
            outcomes.setdefault((row["group"], column), {})[unit] = found
    for (group, column), ours in outcomes.items():
        baseline = comparison.baselines.get(group, group)
        theirs = outcomes.get((baseline, column))
        if group == baseline or theirs is None:
            continue
        shared = [unit for unit in ours if unit in theirs]
        first, second = ([side[u][0] for u in shared or side] for side in (ours, theirs))
        owner = next(iter(ours.values()))[1]
        if len({len(answers) for answers in (*first, *second)}) == 1:
            comparison.queries[group, column] = compare_queries(first, second, owner)
    keys = list(comparison.queries)
    corrected = holm([comparison.queries[key].p_value for key in keys])
    comparison.query_p = dict(zip(keys, corrected, strict=True))
    if gone:
        comparison.notes.append(f"the per-query results of {gone} evaluation(s) are not at {root}")
    if not comparison.queries:
        comparison.notes.append(
            "no per-query results to test: recall (protocol full), zero-shot and probe keep them in the runs' folders"
        )


def read_outcomes(path: Path, metric: str) -> tuple[Array, Array | None] | None:
    """(Q,) right or wrong for each query of `metric`, and the image that each belongs to where several share one.

    None for a metric that is no share of right queries, a missing file, or captions of unknown images. Files of
    ranks without `owner` are understood if every image has equally many captions.
    """
    if not path.is_file():
        return None
    stem, _, k = metric.partition("@")
    with np.load(path, allow_pickle=False) as file:
        if stem == "image_recall" and {"image_rank", "text_rank"} <= set(file.files):
            ranks, images = file["image_rank"], len(file["text_rank"])
            if "owner" in file.files:
                owner = file["owner"]
            elif len(ranks) % images == 0:
                owner = np.repeat(np.arange(images), len(ranks) // images)
            else:
                return None
            return ranks <= int(k), (None if len(ranks) == images else owner)
        if stem == "text_recall" and "text_rank" in file.files:
            return file["text_rank"] <= int(k), None
        if metric in ("zeroshot_top1", "zeroshot_top5") and "class_rank" in file.files:
            return file["class_rank"] <= int(metric[-1]), None
        if metric == "probe_top1" and "correct" in file.files:
            return file["correct"], None
    return None
